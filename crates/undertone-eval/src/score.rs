//! Scoring rows with a model: one record an item. The model's weights never change here.

use std::collections::HashMap;

use undertone_data::{Candidate, Item, Row, Stream, Target, pack};
use undertone_model::Decoder;

use crate::record::{Distractor, ItemRecord, LabelOutcome};

/// Σ nats over every supervised token of some rows, in f64 and in order.
pub fn total_nats(model: &Decoder, rows: &[Row]) -> f64 {
    rows.iter().flat_map(|row| model.nats(row)).map(f64::from).sum()
}

/// What one model has said of rows: where views show the same, a row is computed once. The numbers are those of
/// computing it again.
#[derive(Debug, Default)]
pub struct KnownRows(HashMap<Row, Vec<Vec<f32>>>);

impl KnownRows {
    /// The nats of each token of each target of a row. `model` is the same one in every call.
    fn token_nats(&mut self, model: &Decoder, row: &Row) -> &[Vec<f32>] {
        // Not by its entry: that would take a copy of rows that are known.
        if !self.0.contains_key(row) {
            self.0.insert(row.clone(), token_nats(model, row));
        }
        &self.0[row]
    }

    /// The nats of each target of a row, summed over its tokens in f64. `model` is the same one in every call.
    pub fn nats_by_target(&mut self, model: &Decoder, row: &Row) -> Vec<f64> {
        self.token_nats(model, row).iter().map(|nats| total(nats)).collect()
    }
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

/// Scores streams laid out for scoring, packed into rows of at most `row_tokens`.
///
/// A label item becomes one record: its nats are those of the true label, and the probabilities of
/// its labels are the softmax of their negated summed nats, end token included. `primary` is left
/// false; whoever knows all arms of a study sets it. `known` is of this model, and remembers its rows. `progress` is
/// told the tokens of each row.
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
    let mut scored = Scored::default();
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

/// Every span that was scored, by its item; items in the order in which they came.
#[derive(Default)]
pub(crate) struct Scored {
    items: Vec<OfItem>,
    places: HashMap<Item, usize>,
}

/// The candidates of one item, or its own text and others' in its place.
struct OfItem {
    user: String,
    candidates: Vec<(Target, Vec<f32>)>,
}

impl Scored {
    /// Adds one span with the nats of its tokens.
    pub(crate) fn push(&mut self, user: &str, target: Target, nats: Vec<f32>) {
        let place = *self.places.entry(target.item.clone()).or_insert(self.items.len());
        if place == self.items.len() {
            self.items.push(OfItem { user: user.to_owned(), candidates: Vec::new() });
        }
        self.items[place].candidates.push((target, nats));
    }

    /// One record an item.
    pub(crate) fn records(self, arm: &str) -> Vec<ItemRecord> {
        self.items.into_iter().map(|of_item| of_item.record(arm)).collect()
    }
}

impl OfItem {
    fn record(self, arm: &str) -> ItemRecord {
        let Self { user, candidates } = self;
        let (target, nats) = candidates.iter().find(|(target, _)| target.is_truth()).expect("what is true is scored");
        let label = match target.candidate {
            Some(Candidate::Label { truth, .. }) => Some(label_outcome(truth, &candidates)),
            _ => None,
        };
        let distractor = |(target, nats): &(Target, Vec<f32>)| {
            let is_other = matches!(target.candidate, Some(Candidate::Distractor(_)));
            is_other.then(|| Distractor { nats: total(nats), tokens: target.span.len() })
        };
        ItemRecord {
            item: target.item.to_string(),
            conversation: target.item.conversation.clone(),
            user,
            kind: target.item.kind,
            arm: arm.to_owned(),
            nats: total(nats),
            token_nats: nats.clone(),
            tokens: target.span.len(),
            bytes: target.bytes,
            label,
            distractors: candidates.iter().filter_map(distractor).collect(),
            primary: false,
            quotes_target: target.quoted,
            visible_thoughts: target.visible_thoughts,
            fold: None,
            seed: None,
        }
    }
}

/// The softmax of the candidates' negated summed nats.
fn label_outcome(truth: usize, candidates: &[(Target, Vec<f32>)]) -> LabelOutcome {
    let totals: Vec<f64> = candidates.iter().map(|(_, nats)| total(nats)).collect();
    let lowest = totals.iter().copied().fold(f64::INFINITY, f64::min);
    let weights: Vec<f64> = totals.iter().map(|nats| (lowest - nats).exp()).collect();
    let sum: f64 = weights.iter().sum();
    LabelOutcome { truth, probabilities: weights.iter().map(|weight| weight / sum).collect() }
}
