//! `undertone inspect`: shows one conversation as an arm sees it, with targets, thoughts and branches marked.

use std::io::IsTerminal;

use serde_json::json;
use undertone_data::{Candidate, Piece, Speaker, Split, Stream, Template};
use undertone_study::{Experiment, Inspected, inspect};

use crate::cli::Inspect;
use crate::shell::Shell;

const TARGET: &str = "\x1b[1;42;30m";
const THOUGHT: &str = "\x1b[35m";
const CONTEXT: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

pub(crate) fn run(args: &Inspect, shell: &Shell) -> anyhow::Result<()> {
    let path = &args.experiment.experiment;
    let experiment = Experiment::read(path, &args.experiment.set)?;
    let inspected = inspect(experiment, path, args.arm.as_deref(), args.conversation.as_deref(), args.scoring)?;
    let Inspected { arm, view, streams, template } = &inspected;
    if shell.json {
        let streams: Vec<_> = streams.iter().map(|(split, stream)| as_json(*split, stream, template)).collect();
        shell.print_json(&json!({ "arm": arm, "view": view.to_string(), "streams": streams }));
        return Ok(());
    }
    let colour = std::io::stdout().is_terminal();
    for (split, stream) in streams {
        shell.print(&show(*split, stream, template, arm, &view.to_string(), colour));
    }
    Ok(())
}

fn show(split: Split, stream: &Stream, template: &Template, arm: &str, view: &str, colour: bool) -> String {
    let paint = |code: &'static str| if colour { code } else { "" };
    let mut text = format!(
        "{} of {} ({split:?} user), arm `{arm}` (sees {view})\n{} tokens: trunk {}, {} branches, {} targets with {} supervised tokens, longest history with target {}\n",
        stream.id,
        stream.user,
        stream.tokens.len(),
        stream.trunk,
        stream.branches.len(),
        stream.targets.len(),
        stream.supervised_tokens(),
        stream.longest_path()
    );
    for (name, count) in stream.hidden.counts().into_iter().filter(|(_, count)| *count > 0) {
        text += &format!("hidden: {} {count}\n", name.replace('_', " "));
    }
    text += "\n";
    for Piece { span, speaker, message } in &stream.pieces {
        let branch = stream.branches.iter().find(|branch| branch.span.contains(&span.start));
        if branch.is_some_and(|branch| branch.span.start == span.start) {
            text += &format!("  └─ branch at token {}\n", branch.map_or(0, |branch| branch.anchor));
        }
        let indent = if branch.is_some() { "     " } else { "" };
        let code = match speaker {
            Speaker::Thought(_) | Speaker::Label(_) | Speaker::End => paint(THOUGHT),
            _ => paint(CONTEXT),
        };
        let message = message.map_or(String::new(), |message| format!(" {message}"));
        let mut body = String::new();
        let mut at = span.start;
        for target in stream.targets.iter().filter(|target| span.contains(&target.span.start)) {
            let (open, close) = if colour { (TARGET, RESET) } else { ("«", "»") };
            let what = match target.candidate {
                None => "",
                Some(candidate) if candidate.is_truth() => ", true label",
                Some(Candidate::Label { .. }) => ", another label",
                Some(Candidate::Distractor(_)) => ", another user's message",
            };
            body += &template.decode(&stream.tokens[at..target.span.start]);
            body += &format!("{open}{}{close}{code}", template.decode(&stream.tokens[target.span.clone()]));
            body += &format!(" ← {}, {} tokens{what}", target.item.kind, target.span.len());
            at = target.span.end;
        }
        body += &template.decode(&stream.tokens[at..span.end]);
        let body = body.trim_end().replace('\n', &format!("\n{indent}          "));
        let from = span.start;
        text += &format!("{indent}{from:>6}  {}{message}: {code}{body}{}\n", speaker.name(), paint(RESET));
    }
    text + "\n"
}

fn as_json(split: Split, stream: &Stream, template: &Template) -> serde_json::Value {
    let pieces: Vec<_> = stream
        .pieces
        .iter()
        .map(|piece| {
            json!({
                "speaker": piece.speaker.name(),
                "message": piece.message,
                "from_token": piece.span.start,
                "to_token": piece.span.end,
                "text": template.decode(&stream.tokens[piece.span.clone()]),
            })
        })
        .collect();
    let targets: Vec<_> = stream
        .targets
        .iter()
        .map(|target| {
            json!({
                "item": target.item.to_string(),
                "from_token": target.span.start,
                "to_token": target.span.end,
                "candidate": target.candidate,
                "is_truth": target.is_truth(),
                "visible_thoughts": target.seen.len(),
                "reply_tokens_lost": target.reply_tokens_lost,
                "quoted": target.quoted,
                "text": template.decode(&stream.tokens[target.span.clone()]),
            })
        })
        .collect();
    let branches: Vec<_> = stream
        .branches
        .iter()
        .map(|branch| json!({ "anchor": branch.anchor, "from_token": branch.span.start, "to_token": branch.span.end }))
        .collect();
    json!({
        "id": stream.id, "user": stream.user, "split": split, "tokens": stream.tokens.len(), "trunk": stream.trunk,
        "longest_path": stream.longest_path(), "supervised_tokens": stream.supervised_tokens(),
        "hidden": stream.hidden, "pieces": pieces, "branches": branches, "targets": targets,
    })
}
