//! The published conversations, read whole; the numbers were counted independently in Python.
//!
//! Needs the folder named by `UNDERTONE_SHARED`, which holds `data/`. If the variable is not set, the tests print that
//! they are skipped; if `CI` is set too, they fail.

use std::path::PathBuf;

use undertone_data::{
    DataStats, FoldOptions, ReadOptions, ReadReport, Reader, SplitOptions, StatsBuilder, ThoughtTiming, check_disjoint,
};

fn published(file: &str) -> Option<PathBuf> {
    match std::env::var_os("UNDERTONE_SHARED") {
        Some(folder) => Some(PathBuf::from(folder).join("data").join(file)),
        None if std::env::var_os("CI").is_some() => {
            panic!("`UNDERTONE_SHARED` is not set, but `CI` is: `{file}` must be tested there")
        }
        None => {
            println!("skipped: `UNDERTONE_SHARED` is not set, so `{file}` is not at hand");
            None
        }
    }
}

fn stats(path: PathBuf) -> (DataStats, ReadReport) {
    let mut reader = Reader::open(&[path], ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut builder = StatsBuilder::new();
    for record in &mut reader {
        let record = record.unwrap_or_else(|error| panic!("{error}"));
        builder.add(&record.conversation, &record.task_text);
    }
    (builder.finish(), reader.report().clone())
}

#[test]
fn the_examples_have_the_published_numbers() {
    let Some(path) = published("thoughttrace_examples.jsonl") else {
        return;
    };
    let (stats, report) = stats(path);
    assert_eq!(
        report,
        ReadReport {
            files: 1,
            lines: 27,
            conversations: 27,
            messages: 434,
            thoughts: 410,
            thoughts_trimmed: report.thoughts_trimmed,
            ..ReadReport::default()
        }
    );
    assert_eq!((stats.conversations, stats.users), (27, 23));
    assert_eq!((stats.user_messages, stats.user_messages_after_first), (217, 190));
    assert_eq!(stats.assistant_messages, 217);
    assert_eq!((stats.reasons.count, stats.reactions.count), (203, 207));
    assert_eq!(stats.user_messages_with_reason, 203);
    assert_eq!(stats.assistant_messages_with_reaction, 206);
    assert_eq!(
        stats.timing,
        ThoughtTiming { precede_a_user_message: 365, before: 182, late: 183, unknown: 0, nothing_follows: 45 }
    );
    let counts =
        |labels: &[undertone_data::LabelShare]| -> Vec<usize> { labels.iter().map(|label| label.count).collect() };
    assert_eq!(counts(&stats.reasons.labels), [53, 71, 22, 25, 17, 10, 5]);
    assert_eq!(counts(&stats.reactions.labels), [145, 23, 11, 16, 12]);
    assert_eq!(stats.near_duplicate_tasks.pairs, 0);
}

#[test]
fn the_pairs_have_the_published_numbers() {
    let Some(path) = published("thoughttrace_pairs.jsonl") else {
        return;
    };
    let (stats, report) = stats(path);
    assert_eq!(
        report,
        ReadReport {
            files: 1,
            lines: 90,
            conversations: 90,
            messages: 531,
            thoughts: 180,
            thoughts_trimmed: report.thoughts_trimmed,
            thoughts_without_time: 180,
            messages_without_time: 352,
            // One history begins with an empty assistant message.
            empty_messages_dropped: 1,
            assistant_first_kept: 3,
            ..ReadReport::default()
        }
    );
    assert_eq!((stats.conversations, stats.users), (90, 86));
    assert_eq!(
        stats.timing,
        ThoughtTiming { precede_a_user_message: 90, unknown: 90, nothing_follows: 90, ..ThoughtTiming::default() }
    );
}

#[test]
fn both_files_together_divide_without_overlap() {
    let (Some(examples), Some(pairs)) =
        (published("thoughttrace_examples.jsonl"), published("thoughttrace_pairs.jsonl"))
    else {
        return;
    };
    let reader = Reader::open(&[examples, pairs], ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let (records, report) = reader.read_all().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((report.files, records.len()), (2, 117));
    let users = || records.iter().map(|record| record.conversation.user.as_str());
    let config = "run.toml".as_ref();
    let splits = SplitOptions::default().assign(users(), config).unwrap_or_else(|error| panic!("{error}"));
    let folds = FoldOptions::default().assign(users(), config).unwrap_or_else(|error| panic!("{error}"));
    // Three users are in both files.
    assert_eq!(splits.len(), 106);
    let assignments = folds.iter().map(undertone_data::Fold::assignment);
    for assignment in assignments.chain([splits]) {
        let parts = records.iter().map(|record| {
            let conversation = &record.conversation;
            (assignment[&conversation.user], conversation)
        });
        assert!(check_disjoint(parts).is_disjoint());
    }
}
