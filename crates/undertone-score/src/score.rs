//! Scoring rows with a model: one record per item. The model's weights never change here.

use std::collections::HashMap;

use undertone_data::{Row, Stream, Target, pack};
use undertone_model::Decoder;
use undertone_stats::{ItemRecord, ItemScores};

/// The nats of the rows that one model has scored, so that a row that several views show is computed once. Computing
/// it again would give the same numbers.
#[derive(Debug, Default)]
pub struct KnownRows(HashMap<Row, Vec<Vec<f32>>>);

impl KnownRows {
    /// The nats of each token of each target of a row. `model` must be the same in every call.
    fn token_nats(&mut self, model: &Decoder, row: &Row) -> &[Vec<f32>] {
        // `entry` would copy the row even if it is known.
        if !self.0.contains_key(row) {
            self.0.insert(row.clone(), token_nats(model, row));
        }
        &self.0[row]
    }

    /// The nats of each target of a row, summed over its tokens in f64. `model` must be the same in every call.
    pub fn nats_by_target(&mut self, model: &Decoder, row: &Row) -> Vec<f64> {
        self.token_nats(model, row).iter().map(|nats| total(nats)).collect()
    }
}

/// The nats of each token of each target of a row.
fn token_nats(model: &Decoder, row: &Row) -> Vec<Vec<f32>> {
    let nats = model.nats(row);
    let mut rest = &nats[..];
    let nats_of_target = |target: &Target| {
        let (own, others) = rest.split_at(target.span.len());
        rest = others;
        own.to_vec()
    };
    row.targets.iter().map(nats_of_target).collect()
}

/// Σ over the tokens of a target, in f64.
fn total(nats: &[f32]) -> f64 {
    nats.iter().map(|&nats| f64::from(nats)).sum()
}

/// Scores streams laid out for scoring, packed into rows of at most `row_tokens`.
///
/// A label item becomes one record: its nats are those of the true label, and the probabilities of
/// its labels are the softmax of their negated summed nats, end token included. `primary` is left
/// false; the caller, which knows all arms of the study, sets it. `known` keeps the rows of this model. `progress`
/// receives the number of tokens of each row.
pub fn score(
    model: &Decoder,
    known: &mut KnownRows,
    arm: &str,
    streams: &[Stream],
    row_tokens: usize,
    mut progress: impl FnMut(usize),
) -> Vec<ItemRecord> {
    let users: HashMap<&str, &str> = streams
        .iter()
        .flat_map(|stream| {
            stream.targets.iter().map(|target| (target.item.conversation.as_str(), stream.user.as_str()))
        })
        .collect();
    let mut scored = ItemScores::default();
    for row in pack(streams, row_tokens) {
        let nats = known.token_nats(model, &row);
        progress(row.tokens.len());
        for (target, nats) in row.targets.iter().zip(nats) {
            let user = users[target.item.conversation.as_str()];
            scored.push(user, target.clone(), nats.clone());
        }
    }
    scored.records(arm)
}
