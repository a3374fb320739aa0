//! Conversations in, counts out.

use super::*;
use crate::conversation::Thought;

/// `u5 content` is a user message sent at 5; a thought `+1@7` has label 1 and was written at 7; `?` means unknown.
fn conversation(id: &str, user: &str, messages: &[&str]) -> Conversation {
    let messages = messages.iter().map(|text| {
        let mut words = text.split(' ');
        let (role, sent_at) = words.next().expect("a header").split_at(1);
        let (thoughts, content): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('+'));
        let thoughts = thoughts.into_iter().map(|thought| {
            let (label, written_at) = thought[1..].split_once('@').expect("a time");
            Thought { content: "so so".into(), label: label.parse().ok(), written_at: written_at.parse().ok() }
        });
        Message {
            role: if role == "u" { Role::User } else { Role::Assistant },
            content: content.join(" "),
            sent_at: sent_at.parse().ok(),
            thoughts: thoughts.collect(),
        }
    });
    Conversation {
        id: id.into(),
        user: user.into(),
        task: format!("{user}_task1"),
        assistant_model: Some("model".into()),
        survey: Default::default(),
        messages: messages.collect(),
    }
}

#[test]
fn counts_of_a_small_set() {
    let mut builder = StatsBuilder::new();
    let task = PostHoc::of("plan a trip to the sea");
    builder.add(
        &conversation(
            "c1",
            "user1",
            &["u10 hé +0@11 +2@25", "a20 hello +0@29 +?@30 +0@31", "u30 more +1@?", "a40 ok +4@50", "a? well"],
        ),
        &task,
    );
    builder.add(&conversation("c2", "user2", &["a1 hi +0@2", "u? x", "u9 y"]), &task);
    let stats = builder.finish();

    assert_eq!((stats.conversations, stats.users, stats.tasks, stats.assistant_models), (2, 2, 2, 1));
    assert_eq!((stats.user_messages, stats.user_messages_after_first), (4, 2));
    assert_eq!(stats.assistant_messages, 4);
    assert_eq!(stats.user_messages_with_reason, 2);
    assert_eq!(stats.assistant_messages_with_reaction, 3);
    assert_eq!(
        stats.timing,
        ThoughtTiming {
            precede_a_user_message: 6,
            // 11, 25 and 29 are before 30; 30 and 31 are not; 2 precedes a message of unknown time.
            before: 3,
            late: 2,
            unknown: 1,
            nothing_follows: 2,
        }
    );
    let labels = |stats: &ThoughtStats| -> Vec<(usize, f64)> {
        stats.labels.iter().map(|label| (label.count, label.share)).collect()
    };
    assert_eq!((stats.reasons.count, stats.reasons.without_label), (3, 0));
    let third = 1.0 / 3.0;
    let none = (0, 0.0);
    assert_eq!(labels(&stats.reasons), [(1, third), (1, third), (1, third), none, none, none, none]);
    assert_eq!(stats.reasons.labels[2].name, "Context Grounding & Constraints");
    assert_eq!((stats.reactions.count, stats.reactions.without_label), (5, 1));
    assert_eq!(labels(&stats.reactions), [(3, 0.75), none, none, none, (1, 0.25)]);
    // Characters, not bytes: `hé` has two.
    assert_eq!(stats.user_message_characters, Quantiles::of(vec![2, 4, 1, 1]));
    assert_eq!(stats.thought_characters.count, 8);
    assert_eq!(stats.near_duplicate_tasks.pairs, 1);
    assert_eq!(stats.near_duplicate_tasks.examples, [("c1".into(), "c2".into())]);
}

#[test]
fn nothing_has_statistics_too() {
    let stats = StatsBuilder::new().finish();
    assert_eq!(stats.conversations, 0);
    assert_eq!(stats.user_message_characters, Quantiles::default());
    assert_eq!(stats.reasons.labels.len(), 7);
    assert!(stats.reasons.labels.iter().all(|label| label.share == 0.0));
}

#[test]
fn quantiles_are_lengths_that_occur() {
    assert_eq!(
        Quantiles::of((1..=10).rev().collect()),
        Quantiles { count: 10, min: 1, p25: 3, p50: 5, p75: 8, p90: 9, p99: 10, max: 10 }
    );
}

/// Pairs among (group, text); ids are the texts.
fn pairs(texts: &[(&str, &str)]) -> NearDuplicates {
    let hashed: Vec<PostHoc> = texts.iter().map(|(_, text)| PostHoc::of(text)).collect();
    near_duplicates(texts.iter().zip(&hashed).map(|((group, text), hashes)| (*group, *text, hashes)))
}

#[test]
fn near_duplicates_are_of_different_groups() {
    let trip = "plan a cheap trip to the sea with two small children";
    let found = pairs(&[
        ("a", trip),
        ("a", trip),
        ("b", "Plan a cheap trip to the sea, with two small children!"),
        ("c", "plan a cheap trip to the sea with two small dogs"),
        ("c", "what is the tallest mountain on earth"),
        ("d", "hi"),
        ("e", "hi"),
        ("f", ""),
        ("g", "?!"),
    ]);
    // Both of `a` with `b`, and all three with the dogs of `c`; a greeting is no task.
    assert_eq!(found.pairs, 2 + 3);
    assert!(found.complete);
    assert_eq!(found.too_short, 4);
    assert_eq!(found.examples.len(), 2);
}

#[test]
fn the_threshold_is_three_fifths_of_the_union() {
    // 8 shingles each, of which 6 are shared: 6 of 10; with 5 shared it is 5 of 11.
    let base = ("a", "1 2 3 4 5 6 7 8 9 10");
    assert_eq!(pairs(&[base, ("b", "1 2 3 4 5 6 7 8 x y")]).pairs, 1);
    assert_eq!(pairs(&[base, ("b", "1 2 3 4 5 6 7 x y z")]).pairs, 0);
}

#[test]
fn the_index_finds_what_comparing_all_pairs_finds() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    // Sets drawn as contiguous runs of few words, so that all degrees of overlap occur.
    let texts: Vec<(String, String)> = (0..300)
        .map(|_| {
            let start: usize = rng.random_range(0..40);
            let length: usize = rng.random_range(3..25);
            let text: Vec<String> = (start..start + length).map(|word| format!("w{word}")).collect();
            (format!("user{}", rng.random_range(0..20)), text.join(" "))
        })
        .collect();
    let borrowed: Vec<(&str, &str)> = texts.iter().map(|(group, text)| (group.as_str(), text.as_str())).collect();
    let mut expect = 0;
    for (index, (group, text)) in borrowed.iter().enumerate() {
        for (other_group, other_text) in &borrowed[..index] {
            let shingles = |text: &str| -> HashSet<String> {
                let words: Vec<&str> = text.split(' ').collect();
                words.windows(3).map(|shingle| shingle.join(" ")).collect()
            };
            let (a, b) = (shingles(text), shingles(other_text));
            let (shared, union) = (a.intersection(&b).count(), a.union(&b).count());
            expect += u64::from(group != other_group && shared * 5 >= union * 3);
        }
    }
    assert!(expect > 100, "the draw has pairs to find: {expect}");
    assert_eq!(pairs(&borrowed).pairs, expect);
    let mut reversed = borrowed.clone();
    reversed.reverse();
    assert_eq!(pairs(&reversed).pairs, expect);
}

#[test]
fn very_many_equal_texts_are_counted_without_comparing_each_pair() {
    let users: Vec<String> = (0..100_000).map(|index| format!("user{index}")).collect();
    let texts: Vec<(&str, &str)> = users.iter().map(|user| (user.as_str(), "good morning to you")).collect();
    assert_eq!(pairs(&texts).pairs, 100_000 * 99_999 / 2);
}
