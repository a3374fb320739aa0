//! A record for tests.

use undertone_data::TargetKind;
use undertone_stats::ItemRecord;

/// A next prompt of 10 tokens that `past` predicts with 1 nat; tests replace the fields that they are about.
pub(crate) fn example(item: &str, user: &str) -> ItemRecord {
    ItemRecord {
        item: item.into(),
        conversation: format!("{user}_task1_conversation1"),
        user: user.into(),
        kind: TargetKind::NextPrompt,
        arm: "past".into(),
        nats: 1.0,
        tokens: 10,
        bytes: 40,
        label: None,
        distractors: Vec::new(),
        primary: true,
        quotes_target: false,
        visible_thoughts: 1,
        lacks_words: false,
        reply_tokens_lost: 0,
        fold: None,
        seed: None,
        token_nats: Vec::new(),
    }
}
