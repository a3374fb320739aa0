//! Rows that views share are computed once; the results are those of computing each row.
#![allow(clippy::unwrap_used)]

use burn::tensor::Device;
use undertone_data::{Item, Row, Stream, Target, TargetKind};
use undertone_score::KnownRows;
use undertone_testing::tiny;

/// A row of nine bytes, of which the last six are a target.
fn row(text: &str) -> Row {
    let target = Target {
        item: Item { conversation: "c".into(), message: 1, kind: TargetKind::NextPrompt, thought: 0 },
        candidate: None,
        span: 3..9,
        bytes: 5,
        seen: Vec::new(),
        lacks_words: false,
        reply_tokens_lost: 0,
        quoted: false,
        earlier_user_messages: 1,
    };
    let stream = Stream {
        id: "c".into(),
        user: "u".into(),
        tokens: tiny::tokenizer().encode(text, false).unwrap().get_ids().to_vec(),
        trunk: 9,
        branches: Vec::new(),
        targets: vec![target],
        pieces: Vec::new(),
        hidden: Default::default(),
    };
    Row::of([&stream])
}

#[test]
fn a_known_row_is_not_computed_again_and_another_one_is() {
    let [ours, other] = [1, 2].map(|seed| tiny::decoder(&Device::flex(), seed));
    let alone = |model, row: &Row| KnownRows::default().nats_by_target(model, row);
    let (shown, changed) = (row("so thanks"), row("no thanks"));
    assert_ne!(alone(&ours, &shown), alone(&other, &shown));
    assert_ne!(alone(&other, &shown), alone(&other, &changed));

    let mut known = KnownRows::default();
    assert_eq!(known.nats_by_target(&ours, &shown), alone(&ours, &shown));
    // Scoring a known row with another model shows whether the row is computed again.
    assert_eq!(known.nats_by_target(&other, &shown), alone(&ours, &shown));
    assert_eq!(known.nats_by_target(&other, &changed), alone(&other, &changed));
}
