//! Texts that models write in place of users' messages.
//!
//! [`write()`] lets a model continue exactly the tokens that it sees when it is scored. A conversation is run through
//! the model once, and every message continues a copy of its cache. [`likeness`] compares a written message with the
//! true one.

use undertone_data::{Item, StopReason, Stream, Target, derived_number};
use undertone_model::{Cache, Decoder, Opening, Sampling, SentenceEncoder};
use undertone_stats::{Likeness, chrf, rouge_l};

/// Compares a written text with the true one; the similarity needs an encoder.
pub fn likeness(text: &str, truth: &str, encoder: Option<&SentenceEncoder>) -> Likeness {
    let similarity = encoder.map(|encoder| {
        let (ours, theirs) = (encoder.encode(text), encoder.encode(truth));
        100.0 * ours.iter().zip(&theirs).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    });
    Likeness { chrf: chrf(text, truth), rouge_l: rouge_l(text, truth), similarity, judged: None }
}

/// Lets a model write a text in place of each chosen target, after the tokens that the target sees. The random draws
/// depend only on the sampling's seed and the item, so they are the same in all arms.
pub fn write(
    model: &Decoder,
    streams: &[Stream],
    chosen: impl Fn(&Target) -> bool,
    end: u32,
    sampling: Sampling,
) -> Vec<(Item, Vec<u32>, StopReason)> {
    let mut items = Vec::new();
    let openings = streams.iter().flat_map(|stream| {
        let is_chosen = |target: &&Target| target.item.kind.labels().is_none() && target.is_truth() && chosen(target);
        // For each target: the number of trunk tokens that it sees, the tokens between them and it, and its item.
        let mut prompts: Vec<(usize, &[u32], &Item)> = stream
            .targets
            .iter()
            .filter(is_chosen)
            .map(|target| {
                let start = target.span.start;
                let branch = stream.branches.iter().find(|branch| branch.span.contains(&start));
                let (anchor, from) = branch.map_or((start - 1, start - 1), |branch| (branch.anchor, branch.span.start));
                (anchor, &stream.tokens[from..start], &target.item)
            })
            .collect();
        prompts.sort_by_key(|(anchor, ..)| *anchor);
        // The trunk is run once, up to the last token that a prompt sees.
        let mut trunk = Cache::default();
        items.extend(prompts.iter().map(|(.., item)| (*item).clone()));
        prompts.into_iter().map(move |(anchor, prompt, item)| {
            if trunk.tokens < anchor {
                drop(model.logits(&stream.tokens[trunk.tokens..anchor], &mut trunk, true));
            }
            let sampling = Sampling {
                seed: derived_number("write", &[&sampling.seed.to_string(), &item.to_string()]),
                ..sampling
            };
            Opening { cache: trunk.clone(), prompt: prompt.to_vec(), sampling }
        })
    });
    let texts = model.generate_all(openings, end);
    items.into_iter().zip(texts).map(|(item, (ids, stopped))| (item, ids, stopped)).collect()
}
