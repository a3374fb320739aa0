//! Generates text token by token with a cache: greedy, or sampled by temperature and top-p.

use burn::tensor::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use undertone_data::{StopReason, generator};
use undertone_ops::FEW_ROWS;

use crate::cache::Cache;
use crate::decoder::Decoder;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 chooses the most likely token (greedy); above 0, logits are divided by the temperature.
    pub temperature: f64,
    /// Nucleus sampling (arXiv 1904.09751): the smallest set of tokens with this much probability.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Fewest tokens to generate; until then, the end token cannot be chosen.
    pub min_new_tokens: usize,
    /// Most tokens to generate.
    pub max_new_tokens: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0, min_new_tokens: 0, max_new_tokens: 256 }
    }
}

/// Texts generated as one batch: up to this many rows, flex multiplies each row exactly as if it were alone.
const SIDE_BY_SIDE: usize = FEW_ROWS;

/// The beginning of a text to generate.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The cache of the tokens before the prompt; texts with the same beginning each take a clone.
    pub cache: Cache,
    /// The tokens right before the text; not empty.
    pub prompt: Vec<u32>,
    /// How its tokens are chosen.
    pub sampling: Sampling,
}

/// A text that is being generated.
struct Writing {
    /// Index among all texts.
    place: usize,
    cache: Cache,
    sampling: Sampling,
    random: ChaCha8Rng,
    ids: Vec<u32>,
}

impl Writing {
    /// Chooses the next token from its logits; returns the reason if generation stops.
    fn take(&mut self, logits: &mut [f32], end: u32, context: usize) -> Option<StopReason> {
        if let Some(end) = logits.get_mut(end as usize).filter(|_| self.ids.len() < self.sampling.min_new_tokens) {
            *end = f32::NEG_INFINITY;
        }
        let id = choose(logits, self.sampling, &mut self.random);
        if id == end {
            return Some(StopReason::EndToken);
        }
        self.ids.push(id);
        if self.ids.len() == self.sampling.max_new_tokens {
            return Some(StopReason::MaxNewTokens);
        }
        (self.cache.tokens == context).then_some(StopReason::Context)
    }
}

impl Decoder {
    /// Continues `prompt` until the token `end`, which is not returned.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn generate(&self, prompt: &[u32], end: u32, sampling: Sampling) -> (Vec<u32>, StopReason) {
        let opening = Opening { cache: Cache::default(), prompt: prompt.to_vec(), sampling };
        self.generate_all([opening], end).pop().expect("as many texts as openings")
    }

    /// Continues each opening until the token `end`; returns the texts in order. Texts are generated in batches, which
    /// read each weight once for the whole batch; on flex, a text is the same alone. Openings are taken from the
    /// iterator as needed.
    ///
    /// # Panics
    /// If a prompt is empty.
    pub fn generate_all(&self, openings: impl IntoIterator<Item = Opening>, end: u32) -> Vec<(Vec<u32>, StopReason)> {
        let context = self.config.max_position_embeddings;
        let mut waiting = openings.into_iter();
        let mut texts: Vec<Option<(Vec<u32>, StopReason)>> = Vec::new();
        let mut side_by_side: Vec<Writing> = Vec::new();
        loop {
            while side_by_side.len() < SIDE_BY_SIDE {
                let Some(opening) = waiting.next() else { break };
                let begun = self.begin(texts.len(), opening, end);
                texts.push(begun.1.map(|stopped| (begun.0.ids.clone(), stopped)));
                side_by_side.extend(begun.1.is_none().then_some(begun.0));
            }
            if side_by_side.is_empty() {
                return texts.into_iter().map(|text| text.expect("every text came to its end")).collect();
            }
            let last: Vec<u32> = side_by_side.iter().map(|text| text.ids[text.ids.len() - 1]).collect();
            let mut caches: Vec<&mut Cache> = side_by_side.iter_mut().map(|text| &mut text.cache).collect();
            let mut logits = floats(self.next_logits(&last, &mut caches));
            let mut logits = logits.chunks_exact_mut(self.config.vocab_size);
            side_by_side.retain_mut(|text| {
                let stopped = text.take(logits.next().expect("logits of each"), end, context);
                if let Some(stopped) = stopped {
                    texts[text.place] = Some((std::mem::take(&mut text.ids), stopped));
                }
                stopped.is_none()
            });
        }
    }

    /// Runs a prompt and chooses the first token; returns the reason if generation stops there.
    fn begin(&self, place: usize, opening: Opening, end: u32) -> (Writing, Option<StopReason>) {
        let Opening { cache, prompt, sampling } = opening;
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let random = generator("generate", &[&sampling.seed.to_string()]);
        let mut text = Writing { place, cache, sampling, random, ids: Vec::new() };
        let context = self.config.max_position_embeddings;
        let stopped = if sampling.max_new_tokens == 0 {
            Some(StopReason::MaxNewTokens)
        } else if text.cache.tokens + prompt.len() > context {
            Some(StopReason::Context)
        } else {
            let mut logits = floats(self.logits(&prompt, &mut text.cache, true));
            text.take(&mut logits, end, context)
        };
        (text, stopped)
    }
}

fn floats(logits: Tensor<2>) -> Vec<f32> {
    logits.into_data().convert::<f32>().try_to_vec().expect("converted to f32")
}

/// Chooses one token id. Ties go to the lower id.
fn choose(logits: &[f32], sampling: Sampling, random: &mut ChaCha8Rng) -> u32 {
    let by_logit = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    if sampling.temperature == 0.0 {
        return (0..logits.len()).min_by(by_logit).expect("a vocabulary") as u32;
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_unstable_by(by_logit);
    let highest = f64::from(logits[order[0]]);
    let weight = |id: usize| ((f64::from(logits[id]) - highest) / sampling.temperature).exp();
    let total: f64 = order.iter().map(|&id| weight(id)).sum();
    let mut mass = 0.0;
    let count = order.iter().position(|&id| {
        mass += weight(id) / total;
        mass >= sampling.top_p
    });
    order.truncate(count.map_or(order.len(), |last| last + 1));
    let kept: f64 = order.iter().map(|&id| weight(id)).sum();
    let mut draw = random.random::<f64>() * kept;
    for &id in &order {
        draw -= weight(id);
        if draw < 0.0 {
            return id as u32;
        }
    }
    order[order.len() - 1] as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(temperature: f64, top_p: f64) -> Vec<u32> {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let sampling = Sampling { temperature, top_p, seed: 1, ..Sampling::default() };
        let mut random = ChaCha8Rng::from_seed([7; 32]);
        let mut ids: Vec<u32> = (0..500).map(|_| choose(&logits, sampling, &mut random)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest_and_top_p_cuts_the_tail() {
        assert_eq!(drawn(0.0, 1.0), [1]);
        assert_eq!(drawn(1.0, 0.7), [1, 3]);
        assert_eq!(drawn(1.0, 0.9), [1, 2, 3]);
        assert_eq!(drawn(1.0, 1.0), [0, 1, 2, 3]);
        assert_eq!(drawn(1.0, 1e-9), [1]);
    }
}
