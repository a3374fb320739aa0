//! Collects scored spans into one record per item.

use std::collections::HashMap;

use undertone_data::{Candidate, Item, Target};

use super::item::{Distractor, ItemRecord, LabelOutcome};

/// All scored spans, grouped by item; items keep the order in which they were added.
#[derive(Debug, Default)]
pub struct ItemScores {
    items: Vec<Candidates>,
    places: HashMap<Item, usize>,
}

/// The scored spans of one item: its text or its label candidates, and its distractors.
#[derive(Debug)]
struct Candidates {
    user: String,
    /// Each span with the nats of its tokens.
    spans: Vec<(Target, Vec<f32>)>,
}

/// The sum over the tokens of a span, in f64.
fn total(nats: &[f32]) -> f64 {
    nats.iter().map(|&nats| f64::from(nats)).sum()
}

impl ItemScores {
    /// Adds one span with the nats of its tokens.
    pub fn push(&mut self, user: &str, target: Target, nats: Vec<f32>) {
        let place = *self.places.entry(target.item.clone()).or_insert(self.items.len());
        if place == self.items.len() {
            self.items.push(Candidates { user: user.to_owned(), spans: Vec::new() });
        }
        self.items[place].spans.push((target, nats));
    }

    /// One record per item. A label item has the nats of its true label; its probabilities are the softmax of the
    /// candidates' negated summed nats, end token included. `primary`, `fold` and `seed` are left unset.
    ///
    /// # Panics
    /// If the true candidate of an item was not scored.
    pub fn records(self, arm: &str) -> Vec<ItemRecord> {
        self.items.into_iter().map(|candidates| candidates.record(arm)).collect()
    }
}

impl Candidates {
    fn record(self, arm: &str) -> ItemRecord {
        let Self { user, spans } = self;
        let (target, nats) = spans.iter().find(|(target, _)| target.is_truth()).expect("the true candidate is scored");
        let label = match target.candidate {
            Some(Candidate::Label { truth, .. }) => Some(label_outcome(truth, &spans)),
            _ => None,
        };
        let distractor = |(target, nats): &(Target, Vec<f32>)| {
            let is_distractor = matches!(target.candidate, Some(Candidate::Distractor(_)));
            is_distractor.then(|| Distractor { nats: total(nats), tokens: target.span.len() })
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
            distractors: spans.iter().filter_map(distractor).collect(),
            primary: false,
            quotes_target: target.quoted,
            visible_thoughts: target.seen.len(),
            lacks_words: target.lacks_words,
            reply_tokens_lost: target.reply_tokens_lost,
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
