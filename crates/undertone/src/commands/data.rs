//! `undertone data check`, `undertone data stats` and `undertone data synthesize`.

use serde_json::{Map, Value};
use undertone_data::{
    CleanOptions, DataStats, OnInvalid, Planted, Quantiles, ReadOptions, ReadReport, Reader, Redactor, StatsBuilder,
    Synthetic, ThoughtStats, convert_chats, read_text,
};
use undertone_files::{InputError, refuse_existing, write_streamed, write_whole};
use undertone_report::{Table, columns, count};

use crate::cli::{Convert, DataFiles, Redact, Synthesize};
use crate::shell::{Shell, say};

fn read(args: &DataFiles) -> anyhow::Result<(ReadReport, DataStats)> {
    let on_invalid = if args.skip_invalid { OnInvalid::Skip } else { OnInvalid::Error };
    let options = ReadOptions { on_invalid, clean: CleanOptions::default(), ..ReadOptions::default() };
    let mut reader = Reader::open(&args.files, options)?;
    let mut stats = StatsBuilder::new();
    for record in &mut reader {
        let record = record?;
        stats.add(&record.conversation, &record.task_text);
    }
    Ok((reader.report().clone(), stats.finish()))
}

/// Writes chats of another dataset as conversations, and prints what was left out.
pub(crate) fn convert(args: &Convert, shell: &Shell) -> anyhow::Result<()> {
    refuse_existing(&args.destination)?;
    let converted =
        write_streamed(&args.destination, |to| convert_chats(&args.source, args.from, args.skip_invalid, to))?;
    if shell.json {
        shell.print_json(&converted);
        return Ok(());
    }
    let form = converted.form.map(|form| format!(" in {form}")).unwrap_or_default();
    let mut text = format!("{:>8}  conversations{form}\n", count(converted.conversations));
    for (number, what) in [
        (converted.skipped, "conversations were skipped, because they are not of this form"),
        (converted.system_texts, "system texts were left out"),
        (converted.unnamed_users, "conversations name no user: each, with all its parts, counts as a user of its own"),
    ] {
        if number > 0 {
            text += &format!("{:>8}  {what}\n", count(number));
        }
    }
    for reason in &converted.skipped_reasons {
        text += &format!("          skipped: {reason}\n");
    }
    if let Some(place) = &converted.cut_off {
        text += &format!("          the file is cut off or damaged, and the rest is lost: {place}\n");
    }
    shell.print(&text);
    Ok(())
}

/// Writes conversations without what identifies people, and prints how much of that there was.
pub(crate) fn redact(args: &Redact, shell: &Shell) -> anyhow::Result<()> {
    refuse_existing(&args.destination)?;
    // Only a valid file is redacted: in a line that cannot be read, nothing could be found.
    let (records, _) = Reader::open(&[&args.source], ReadOptions::default())?.read_all()?;
    drop(records);
    let text = read_text(&args.source)?;
    let mut redactor = Redactor::default();
    let mut lines = String::new();
    for line in text.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim().is_empty()) {
        let mut conversation: Map<String, Value> = serde_json::from_str(line)?;
        redactor.redact_conversation(&mut conversation);
        lines += &format!("{}\n", Value::Object(conversation));
    }
    write_whole(&args.destination, lines.as_bytes())?;
    if shell.json {
        shell.print_json(&redactor.counts);
        return Ok(());
    }
    let mut text = String::new();
    for (kind, replaced) in &redactor.counts.0 {
        text += &format!("{:>8}  {kind}\n", count(*replaced));
    }
    if text.is_empty() {
        text += "nothing to replace was found\n";
    }
    shell.print(&text);
    say("Names and addresses in running text have no form to find: the file is still private.");
    Ok(())
}

/// Writes synthetic conversations, and prints the planted effect of thoughts.
pub(crate) fn synthesize(args: &Synthesize, shell: &Shell) -> anyhow::Result<()> {
    let Synthesize { users, conversations, turns, thoughts, reliability, late, reply_words, seed, .. } = *args;
    let synthetic = Synthetic { users, conversations, turns, thoughts, reliability, late, reply_words, seed };
    refuse_existing(&args.destination)?;
    if let Some(problem) = synthetic.problem() {
        return Err(InputError::new(&args.destination, problem)
            .hint("see `undertone data synthesize --help` for what the numbers mean")
            .into());
    }
    let mut lines = Vec::new();
    let planted = synthetic.write(&mut lines)?;
    write_whole(&args.destination, &lines)?;
    if shell.json {
        shell.print_json(&planted);
        return Ok(());
    }
    let Planted { primary_messages, hinted_messages, nats_of_a_hint, nats_per_primary_message } = planted;
    shell.print(&format!(
        "{primary_messages} messages follow an earlier thought. Before {hinted_messages} of them, a reaction names what the message asks for.\n\
         Reading that reaction saves {nats_of_a_hint:.3} nats on each such message, or {nats_per_primary_message:.3} nats averaged over all messages that \
         follow a thought.\n\
         Set `data.synthetic = true` in the experiment.\n"
    ));
    Ok(())
}

/// Prints every count of the reader that is not zero.
pub(crate) fn check(args: &DataFiles, shell: &Shell) -> anyhow::Result<()> {
    let (report, stats) = read(args)?;
    if shell.json {
        shell.print_json(&serde_json::json!({ "read": report, "near_duplicate_tasks": stats.near_duplicate_tasks, "look_alike_users": stats.look_alike_users }));
        return Ok(());
    }
    let mut text = String::new();
    for (name, count) in report.counts().into_iter().filter(|(_, count)| *count > 0) {
        text += &format!("{count:>8}  {}\n", name.replace('_', " "));
    }
    for reason in &report.skipped_reasons {
        text += &format!("          skipped: {reason}\n");
    }
    for (field, count) in &report.unknown_fields {
        text += &format!("{count:>8}  unknown fields: `{field}`\n");
    }
    text += &near_duplicates(&stats);
    let look_alikes = &stats.look_alike_users;
    text += &format!("{:>8}  groups of users whose ids look alike, and who may be one person\n", look_alikes.len());
    for users in look_alikes {
        text += &format!(
            "          look alike: {}\n",
            users.iter().map(|user| format!("{user:?}")).collect::<Vec<_>>().join(", ")
        );
    }
    shell.print(&text);
    Ok(())
}

fn near_duplicates(stats: &DataStats) -> String {
    let found = &stats.near_duplicate_tasks;
    let partial = if found.complete { "" } else { " (the search stopped early: there are at least this many)" };
    format!(
        "{:>8}  pairs of near-duplicate tasks of different users{partial}\n{:>8}  tasks too short to compare\n",
        found.pairs, found.too_short
    )
}

/// Prints statistics of the conversations.
pub(crate) fn stats(args: &DataFiles, shell: &Shell) -> anyhow::Result<()> {
    let (_, stats) = read(args)?;
    if shell.json {
        shell.print_json(&stats);
        return Ok(());
    }
    let mut text = String::new();
    let timing = &stats.timing;
    for (number, what) in [
        (stats.conversations, "conversations"),
        (stats.users, "users"),
        (stats.assistant_models, "assistant models"),
        (stats.user_messages, "user messages"),
        (stats.user_messages_after_first, "of them not the first of their conversation"),
        (stats.assistant_messages, "assistant messages"),
        (stats.reasons.count, "reasons"),
        (stats.reactions.count, "reactions"),
        (timing.precede_a_user_message, "thoughts about a message that has a later user message"),
        (timing.before, "of them written before the next user message was sent"),
        (timing.late, "of them written after that message was sent: hindsight, hidden by `strict`"),
        (timing.unknown, "of them written at an unknown time: `strict` counts them as late"),
    ] {
        text += &format!("{:>8}  {what}\n", count(number));
    }
    text += &near_duplicates(&stats);
    text += &format!("\n{}", lengths(&stats).terminal());
    for (title, thoughts) in [("Labels of reasons", &stats.reasons), ("Labels of reactions", &stats.reactions)] {
        text += &format!("\n{}", labels(title, thoughts).terminal());
    }
    shell.print(&text);
    Ok(())
}

fn lengths(stats: &DataStats) -> Table {
    let lengths = [
        ("user message", &stats.user_message_characters),
        ("assistant message", &stats.assistant_message_characters),
        ("thought", &stats.thought_characters),
    ];
    let names = lengths[0].1.numbers().map(|(name, _)| name);
    let row = |(what, quantiles): (&str, &Quantiles)| {
        let numbers = quantiles.numbers().into_iter().map(|(_, number)| number.to_string());
        std::iter::once(what.to_owned()).chain(numbers).collect()
    };
    Table {
        title: "Length in characters".into(),
        header: columns(&[""], &names),
        rows: lengths.map(row).into(),
        notes: Vec::new(),
    }
}

fn labels(title: &str, thoughts: &ThoughtStats) -> Table {
    let row = |label: &undertone_data::LabelShare| {
        vec![label.name.to_owned(), count(label.count), format!("{:.1} %", 100.0 * label.share)]
    };
    Table {
        title: title.into(),
        header: columns(&["label"], &["count", "share"]),
        rows: thoughts.labels.iter().map(row).collect(),
        notes: Vec::new(),
    }
}
