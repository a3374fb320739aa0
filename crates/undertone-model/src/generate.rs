//! Writing text token by token with a cache: greedy, or sampled by temperature and top-p.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::decoder::Decoder;
use crate::seed::derived_seed;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 chooses the most likely token (greedy); above, logits are divided by it.
    pub temperature: f64,
    /// Nucleus sampling (arXiv 1904.09751): the smallest set of tokens with this much probability.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Fewest tokens to write: before, the end cannot be chosen.
    pub min_new_tokens: usize,
    /// Most tokens to write.
    pub max_new_tokens: usize,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0, min_new_tokens: 0, max_new_tokens: 256 }
    }
}

/// Why writing stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The end token came; it is not among the ids.
    EndToken,
    /// `max_new_tokens` were written.
    MaxNewTokens,
    /// The model's context was full.
    Context,
}

impl Decoder {
    /// Continues `prompt` until `end`, which is not returned.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn generate(&self, prompt: &[u32], end: u32, sampling: Sampling) -> (Vec<u32>, Stopped) {
        self.generate_after(&mut Cache::default(), prompt, end, sampling)
    }

    /// Continues what `cache` has seen and then `prompt`; several texts after the same beginning take a copy of the
    /// cache each. As [`Self::generate`] otherwise.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn generate_after(
        &self,
        cache: &mut Cache,
        prompt: &[u32],
        end: u32,
        sampling: Sampling,
    ) -> (Vec<u32>, Stopped) {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let mut random = ChaCha8Rng::from_seed(derived_seed(&["generate", &sampling.seed.to_string()]));
        let mut written = Vec::new();
        let mut next = prompt.to_vec();
        loop {
            if written.len() == sampling.max_new_tokens {
                return (written, Stopped::MaxNewTokens);
            }
            if cache.tokens + next.len() > self.config.max_position_embeddings {
                return (written, Stopped::Context);
            }
            let logits = self.logits(&next, cache, true).into_data().convert::<f32>();
            let mut logits: Vec<f32> = logits.try_to_vec().expect("converted to f32");
            if let Some(end) = logits.get_mut(end as usize).filter(|_| written.len() < sampling.min_new_tokens) {
                *end = f32::NEG_INFINITY;
            }
            let id = choose(&logits, sampling, &mut random);
            if id == end {
                return (written, Stopped::EndToken);
            }
            written.push(id);
            next = vec![id];
        }
    }
}

/// One token id. Ties go to the lower id.
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
