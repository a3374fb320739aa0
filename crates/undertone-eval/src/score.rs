//! Scoring rows with a model: one record an item. The model's weights never change here.

use std::collections::BTreeMap;

use undertone_data::{Row, Stream, Target, pack};
use undertone_model::Decoder;

use crate::record::{ItemRecord, LabelOutcome};

/// Σ nats over every supervised token of some rows, in f64 and in order.
pub fn total_nats(model: &Decoder, rows: &[Row]) -> f64 {
    rows.iter().flat_map(|row| model.nats(row)).map(f64::from).sum()
}

/// The nats of each token of each target of a row.
fn token_nats(model: &Decoder, row: &Row) -> Vec<Vec<f32>> {
    let nats = model.nats(row);
    let mut rest = &nats[..];
    let of_target = |target: &Target| {
        let (own, others) = rest.split_at(target.span.len());
        rest = others;
        own.to_vec()
    };
    row.targets.iter().map(of_target).collect()
}

/// Σ over the tokens of a target, in f64.
fn total(nats: &[f32]) -> f64 {
    nats.iter().map(|&nats| f64::from(nats)).sum()
}

/// The nats of each target of a row, summed over its tokens in f64.
pub fn nats_by_target(model: &Decoder, row: &Row) -> Vec<f64> {
    token_nats(model, row).iter().map(|nats| total(nats)).collect()
}

/// Scores streams laid out for scoring, packed into rows of at most `row_tokens`.
///
/// A label item becomes one record: its nats are those of the true label, and the probabilities of
/// its labels are the softmax of their negated summed nats, end token included. `primary` is left
/// false; whoever knows all arms of a study sets it. `progress` is told the tokens of each row.
pub fn score(
    model: &Decoder,
    arm: &str,
    streams: &[Stream],
    row_tokens: usize,
    mut progress: impl FnMut(usize),
) -> Vec<ItemRecord> {
    let users: BTreeMap<&str, &str> = streams
        .iter()
        .flat_map(|stream| {
            stream.targets.iter().map(|target| (target.item.conversation.as_str(), stream.user.as_str()))
        })
        .collect();
    let mut records = Vec::new();
    for row in pack(streams, row_tokens) {
        let nats = token_nats(model, &row);
        progress(row.tokens.len());
        let scored: Vec<(&Target, Vec<f32>)> = row.targets.iter().zip(nats).collect();
        // The candidates of one item stand side by side.
        for of_item in scored.chunk_by(|(a, _), (b, _)| a.item == b.item) {
            let user = users[of_item[0].0.item.conversation.as_str()];
            records.push(record(arm, user, of_item));
        }
    }
    records
}

fn record(arm: &str, user: &str, of_item: &[(&Target, Vec<f32>)]) -> ItemRecord {
    let is_truth = |target: &Target| target.candidate.is_none_or(|candidate| candidate.label == candidate.truth);
    let (target, nats) = of_item.iter().find(|(target, _)| is_truth(target)).expect("the true label is a candidate");
    let label = target.candidate.map(|candidate| {
        let totals: Vec<f64> = of_item.iter().map(|(_, nats)| total(nats)).collect();
        let lowest = totals.iter().copied().fold(f64::INFINITY, f64::min);
        let weights: Vec<f64> = totals.iter().map(|nats| (lowest - nats).exp()).collect();
        let sum: f64 = weights.iter().sum();
        LabelOutcome { truth: candidate.truth, probabilities: weights.iter().map(|weight| weight / sum).collect() }
    });
    ItemRecord {
        item: target.item.to_string(),
        conversation: target.item.conversation.clone(),
        user: user.to_owned(),
        kind: target.item.kind,
        arm: arm.to_owned(),
        nats: total(nats),
        token_nats: nats.clone(),
        tokens: target.span.len(),
        bytes: target.bytes,
        label,
        primary: false,
        quotes_target: target.quoted,
        visible_thoughts: target.visible_thoughts,
        fold: None,
        seed: None,
    }
}
