//! `undertone data check` and `undertone data stats`.

use undertone_data::{
    CleanOptions, DataStats, InputError, OnInvalid, Planted, ReadOptions, ReadReport, Reader, StatsBuilder, Synthetic,
    ThoughtStats, write_whole,
};
use undertone_eval::{Table, columns, count};

use super::{print_json, print_text, require_absent};
use crate::cli::{DataFiles, Synthesize};

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

/// Made-up conversations, and what thoughts add to them by construction.
pub(crate) fn synthesize(args: &Synthesize, json: bool) -> anyhow::Result<()> {
    let Synthesize { users, conversations, turns, thoughts, reliability, reply_words, seed, .. } = *args;
    let synthetic = Synthetic { users, conversations, turns, thoughts, reliability, reply_words, seed };
    require_absent(&args.destination)?;
    if let Some(problem) = synthetic.problem() {
        return Err(InputError::new(&args.destination, problem)
            .hint("see `undertone data synthesize --help` for what the numbers mean")
            .into());
    }
    let mut lines = Vec::new();
    let planted = synthetic.write(&mut lines)?;
    write_whole(&args.destination, &lines)?;
    if json {
        print_json(&planted);
        return Ok(());
    }
    let Planted { primary_messages, hinted_messages, nats_of_a_hint, nats_per_primary_message } = planted;
    print_text(&format!(
        "{primary_messages} messages follow an earlier thought; before {hinted_messages} of them a reaction names what they ask for.\n\
         Whoever reads it saves {nats_of_a_hint:.3} nats there: {nats_per_primary_message:.3} nats per message that follows a thought.\n\
         Set `data.synthetic = true` in the experiment.\n"
    ));
    Ok(())
}

/// Every count of the reader, those of odd things only where there are any.
pub(crate) fn check(args: &DataFiles, json: bool) -> anyhow::Result<()> {
    let (report, stats) = read(args)?;
    if json {
        print_json(&serde_json::json!({ "read": report, "near_duplicate_tasks": stats.near_duplicate_tasks }));
        return Ok(());
    }
    let value = serde_json::to_value(&report)?;
    let mut text = String::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = name.replace('_', " ");
        match value {
            serde_json::Value::Number(number) if number.as_u64() != Some(0) => {
                text += &format!("{:>8}  {name}\n", number.to_string())
            }
            serde_json::Value::Object(fields) => {
                for (field, count) in fields {
                    text += &format!("{:>8}  {name}: `{field}`\n", count.to_string());
                }
            }
            serde_json::Value::Array(reasons) => {
                for reason in reasons.iter().filter_map(|reason| reason.as_str()) {
                    text += &format!("          skipped: {reason}\n");
                }
            }
            _ => {}
        }
    }
    text += &near_duplicates(&stats);
    print_text(&text);
    Ok(())
}

fn near_duplicates(stats: &DataStats) -> String {
    let found = &stats.near_duplicate_tasks;
    let partial = if found.complete { "" } else { " (stopped early: at least so many)" };
    format!(
        "{:>8}  pairs of near-duplicate tasks of different users{partial}\n{:>8}  tasks too short to compare\n",
        found.pairs, found.too_short
    )
}

/// What a data set is made of.
pub(crate) fn stats(args: &DataFiles, json: bool) -> anyhow::Result<()> {
    let (_, stats) = read(args)?;
    if json {
        print_json(&stats);
        return Ok(());
    }
    let mut text = String::new();
    let timing = &stats.timing;
    for (number, what) in [
        (stats.conversations, "conversations"),
        (stats.users, "users"),
        (stats.assistant_models, "assistant models"),
        (stats.user_messages, "user messages"),
        (stats.user_messages_after_first, "of them after the first of their conversation"),
        (stats.assistant_messages, "assistant messages"),
        (stats.reasons.count, "reasons"),
        (stats.reactions.count, "reactions"),
        (timing.precede_a_user_message, "thoughts that precede a user message"),
        (timing.before, "of them written before it was sent"),
        (timing.late, "of them written after it was sent: hindsight, hidden by `strict`"),
        (timing.unknown, "of them written at an unknown time: late, under `strict`"),
    ] {
        text += &format!("{:>8}  {what}\n", count(number));
    }
    text += &near_duplicates(&stats);
    let lengths = serde_json::to_value([
        &stats.user_message_characters,
        &stats.assistant_message_characters,
        &stats.thought_characters,
    ])?;
    let rows = ["user message", "assistant message", "thought"].iter().zip(lengths.as_array().into_iter().flatten());
    let names: Vec<String> = lengths[0].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let table = Table {
        title: "Length in characters".into(),
        header: columns(&[""], &names.iter().map(String::as_str).collect::<Vec<_>>()),
        rows: rows
            .map(|(what, quantiles)| {
                let cells = names.iter().map(|name| quantiles[name].to_string());
                std::iter::once((*what).to_owned()).chain(cells).collect()
            })
            .collect(),
        notes: Vec::new(),
    };
    text += &format!("\n{}", table.terminal());
    for (title, thoughts) in [("Labels of reasons", &stats.reasons), ("Labels of reactions", &stats.reactions)] {
        text += &format!("\n{}", labels(title, thoughts).terminal());
    }
    print_text(&text);
    Ok(())
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
