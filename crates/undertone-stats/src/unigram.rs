//! The unigram baseline: the frequency of each token among the targets of the training users, without any context.
//!
//! An arm that does not beat it has learned nothing about what people say next.

use std::collections::BTreeMap;

use undertone_data::{Stream, Target, TargetKind};

use crate::record::{ItemRecord, ItemScores};

/// Token frequencies of one kind of target with Witten–Bell smoothing (Witten and Bell 1991): d distinct tokens add d
/// counts, spread evenly over the whole vocabulary.
struct Unigram {
    counts: BTreeMap<u32, usize>,
    total: usize,
    vocabulary: usize,
}

impl Unigram {
    fn nats(&self, token: u32) -> f32 {
        let count = self.counts.get(&token).copied().unwrap_or_default() as f64;
        // At least one, so that a kind without training targets is uniform.
        let different = self.counts.len().max(1) as f64;
        let probability = (count + different / self.vocabulary as f64) / (self.total as f64 + different);
        -probability.ln() as f32
    }
}

/// Text targets with their streams. Labels are left out: their baseline is the most frequent label.
fn texts(streams: &[Stream]) -> impl Iterator<Item = (&Stream, &Target)> {
    streams
        .iter()
        .flat_map(|stream| stream.targets.iter().map(move |target| (stream, target)))
        .filter(|(_, target)| target.item.kind.labels().is_none())
}

/// Counts tokens in the targets of the training streams and scores the targets of the test streams, each kind by
/// itself. `vocabulary` is the size of the vocabulary. `primary` is left false.
pub fn unigram(arm: &str, training: &[Stream], test: &[Stream], vocabulary: usize) -> Vec<ItemRecord> {
    let mut models: BTreeMap<TargetKind, Unigram> = BTreeMap::new();
    let empty = || Unigram { counts: BTreeMap::new(), total: 0, vocabulary };
    for (stream, target) in texts(training) {
        let model = models.entry(target.item.kind).or_insert_with(empty);
        for token in &stream.tokens[target.span.clone()] {
            *model.counts.entry(*token).or_default() += 1;
            model.total += 1;
        }
    }
    let none = empty();
    let mut scored = ItemScores::default();
    for (stream, target) in texts(test) {
        let model = models.get(&target.item.kind).unwrap_or(&none);
        let nats = stream.tokens[target.span.clone()].iter().map(|token| model.nats(*token)).collect();
        let sees_nothing = Target { seen: Vec::new(), quoted: false, lacks_words: false, ..target.clone() };
        scored.push(&stream.user, sees_nothing, nats);
    }
    scored.records(arm)
}

#[cfg(test)]
mod tests {
    use undertone_data::Item;

    use super::*;

    fn stream(user: &str, tokens: &[u32]) -> Stream {
        let item = Item { conversation: user.into(), message: 0, kind: TargetKind::NextPrompt, thought: 0 };
        let target = Target {
            item,
            candidate: None,
            span: 1..tokens.len(),
            bytes: 1,
            seen: Vec::new(),
            lacks_words: false,
            reply_tokens_lost: 0,
            quoted: false,
            earlier_user_messages: 0,
        };
        Stream {
            id: user.into(),
            user: user.into(),
            tokens: tokens.to_vec(),
            trunk: tokens.len(),
            branches: Vec::new(),
            targets: vec![target],
            pieces: Vec::new(),
            hidden: Default::default(),
        }
    }

    #[test]
    fn tokens_cost_what_their_frequency_says() {
        // The training target is 7, 7, 8; the first token is context. Two distinct tokens add two counts to three,
        // spread over ten tokens: 7 has 2.2/5, 8 has 1.2/5, 9 has 0.2/5.
        let records = unigram("unigram", &[stream("a", &[9, 7, 7, 8])], &[stream("b", &[7, 7, 8, 9])], 10);
        let expected: f64 = [2.2, 1.2, 0.2].iter().map(|count: &f64| -(count / 5.0).ln()).sum();
        assert!((records[0].nats - expected).abs() < 1e-5, "{records:?}");
        assert_eq!((records[0].tokens, records[0].user.as_str()), (3, "b"));
    }
}
