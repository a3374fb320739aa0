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
#[derive(Debug)]
struct Writing {
    key: usize,
    cache: Cache,
    sampling: Sampling,
    random: ChaCha8Rng,
    end: u32,
    /// The last token, which is not in the cache yet.
    last: u32,
    tokens: usize,
}

impl Writing {
    /// Chooses the next token from its logits, and stops at the end token or a limit.
    fn take(&mut self, mut logits: Vec<f32>, context: usize) -> Step {
        let hidden_end = logits.get_mut(self.end as usize).filter(|_| self.tokens < self.sampling.min_new_tokens);
        if let Some(end) = hidden_end {
            *end = f32::NEG_INFINITY;
        }
        let id = choose(&logits, self.sampling, &mut self.random);
        if id == self.end {
            return Step { key: self.key, chosen: None, stopped: Some(StopReason::EndToken) };
        }
        self.last = id;
        self.tokens += 1;
        let stopped = if self.tokens == self.sampling.max_new_tokens {
            Some(StopReason::MaxNewTokens)
        } else {
            (self.cache.tokens == context).then_some(StopReason::Context)
        };
        Step { key: self.key, chosen: Some(Chosen { id, logits }), stopped }
    }
}

/// A token, and what it was chosen from.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The token.
    pub id: u32,
    /// The logits at its place, `[vocabulary]`.
    pub logits: Vec<f32>,
}

/// What happened to one text of a [`Batch`].
#[derive(Debug, Clone)]
pub struct Step {
    /// The key of the text.
    pub key: usize,
    /// Its next token; `None` if it ended without one.
    pub chosen: Option<Chosen>,
    /// Why it has ended. Then it is no longer in the batch.
    pub stopped: Option<StopReason>,
}

/// Texts that are generated side by side, one token of each at a time. Each weight is read once for the whole batch; on
/// flex, a text is the same alone.
#[derive(Debug)]
pub struct Batch<'a> {
    decoder: &'a Decoder,
    texts: Vec<Writing>,
}

impl<'a> Batch<'a> {
    /// A batch without texts.
    pub fn new(decoder: &'a Decoder) -> Self {
        Self { decoder, texts: Vec::new() }
    }

    /// Whether another text can begin.
    pub fn has_room(&self) -> bool {
        self.texts.len() < SIDE_BY_SIDE
    }

    /// Whether no text is being generated.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Runs the prompt of a new text and chooses its first token. The token `end` ends the text and is not part of it.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn begin(&mut self, key: usize, opening: Opening, end: u32) -> Step {
        let Opening { cache, prompt, sampling } = opening;
        let last = *prompt.last().expect("a prompt has at least one token");
        let random = generator("generate", &[&sampling.seed.to_string()]);
        let mut text = Writing { key, cache, sampling, random, end, last, tokens: 0 };
        let context = self.decoder.config.max_position_embeddings;
        if sampling.max_new_tokens == 0 {
            return Step { key, chosen: None, stopped: Some(StopReason::MaxNewTokens) };
        }
        if text.cache.tokens + prompt.len() > context {
            return Step { key, chosen: None, stopped: Some(StopReason::Context) };
        }
        let logits = floats(self.decoder.logits(&prompt, &mut text.cache, true));
        let step = text.take(logits, context);
        if step.stopped.is_none() {
            self.texts.push(text);
        }
        step
    }

    /// Chooses one more token of each text.
    pub fn step(&mut self) -> Vec<Step> {
        if self.texts.is_empty() {
            return Vec::new();
        }
        let config = &self.decoder.config;
        let last: Vec<u32> = self.texts.iter().map(|text| text.last).collect();
        let mut caches: Vec<&mut Cache> = self.texts.iter_mut().map(|text| &mut text.cache).collect();
        let logits = floats(self.decoder.next_logits(&last, &mut caches));
        let of_each = self.texts.iter_mut().zip(logits.chunks_exact(config.vocab_size));
        let steps: Vec<Step> =
            of_each.map(|(text, logits)| text.take(logits.to_vec(), config.max_position_embeddings)).collect();
        let mut ended = steps.iter().map(|step| step.stopped.is_some());
        self.texts.retain(|_| !ended.next().expect("a step of each"));
        steps
    }

    /// Gives up a text.
    pub fn remove(&mut self, key: usize) {
        self.texts.retain(|text| text.key != key);
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

    /// Continues each opening until the token `end`; returns the texts in order. Texts are generated in a [`Batch`];
    /// openings are taken from the iterator as needed.
    ///
    /// # Panics
    /// If a prompt is empty.
    pub fn generate_all(&self, openings: impl IntoIterator<Item = Opening>, end: u32) -> Vec<(Vec<u32>, StopReason)> {
        let mut waiting = openings.into_iter();
        let mut texts: Vec<(Vec<u32>, Option<StopReason>)> = Vec::new();
        let mut batch = Batch::new(self);
        loop {
            let mut steps = Vec::new();
            while batch.has_room() {
                let Some(opening) = waiting.next() else { break };
                steps.push(batch.begin(texts.len(), opening, end));
                texts.push((Vec::new(), None));
            }
            if steps.is_empty() && batch.is_empty() {
                return texts.into_iter().map(|(ids, stopped)| (ids, stopped.expect("every text ended"))).collect();
            }
            steps.extend(batch.step());
            for Step { key, chosen, stopped } in steps {
                texts[key].0.extend(chosen.map(|chosen| chosen.id));
                texts[key].1 = stopped;
            }
        }
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
