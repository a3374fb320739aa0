//! Compares the logits of the model in memory with those of the exported model, read back.

use std::path::Path;

use undertone_data::derived_seed;
use undertone_files::InputError;
use undertone_model::{Cache, Decoder, values};

/// Tokens of the probe.
pub(crate) const PROBE_TOKENS: usize = 32;
/// Logits may differ by this much. Merging W + s·BA rounds each weight once more, which moved a logit of a model
/// of 135 million parameters by 2e-4.
const TOLERANCE: f64 = 2e-3;

/// Fixed tokens, and the logits that the model in memory gives for them.
pub(crate) struct Probe {
    tokens: Vec<u32>,
    /// `[tokens, vocabulary]`, row-major.
    logits: Vec<f32>,
}

impl Probe {
    /// Runs the model; an error if a logit is not finite.
    pub(crate) fn of(model: &Decoder, destination: &Path) -> Result<Self, InputError> {
        let tokens = probe_tokens(model.config.vocab_size);
        let logits = logits(model, &tokens);
        if let Some(broken) = logits.iter().find(|logit| !logit.is_finite()) {
            let cause = format!("is not written: the model computes the logit `{broken}`, not a finite number");
            return Err(InputError::new(destination, cause)
                .hint("the training has diverged; export an earlier checkpoint, or train with a lower learning rate"));
        }
        Ok(Self { tokens, logits })
    }

    /// The largest absolute difference to the logits of the model that was read back.
    ///
    /// # Panics
    ///
    /// If it exceeds the tolerance.
    pub(crate) fn largest_difference(&self, read_back: &Decoder) -> f64 {
        self.largest_difference_of(&logits(read_back, &self.tokens))
    }

    /// As [`largest_difference`](Self::largest_difference), of weights that were rounded: they may differ by any number.
    ///
    /// # Panics
    ///
    /// If a logit is no number.
    pub(crate) fn difference(&self, read_back: &Decoder) -> f64 {
        let (_, largest) = self.place_and_difference(&logits(read_back, &self.tokens));
        assert!(!largest.is_nan(), "the export computes a logit that is not a number");
        largest
    }

    /// Where the largest difference is, and how large.
    fn place_and_difference(&self, read_back: &[f32]) -> (usize, f64) {
        assert_eq!(read_back.len(), self.logits.len(), "the export has another vocabulary than the model");
        let differences = self.logits.iter().zip(read_back).map(|(&ours, &theirs)| f64::from(ours - theirs).abs());
        // In this order, NaN is larger than every number.
        differences.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).expect("a probe has logits")
    }

    fn largest_difference_of(&self, read_back: &[f32]) -> f64 {
        let (at, largest) = self.place_and_difference(read_back);
        let vocabulary = self.logits.len() / self.tokens.len();
        assert!(
            largest <= TOLERANCE,
            "the export computes other logits than the model: {} instead of {} for token {} after position {} of \
             the probe, and at most {TOLERANCE} of difference is allowed",
            read_back[at],
            self.logits[at],
            at % vocabulary,
            at / vocabulary,
        );
        largest
    }
}

/// Tokens spread over the vocabulary, the same for all models with a vocabulary of this size.
fn probe_tokens(vocabulary: usize) -> Vec<u32> {
    let token = |index: usize| {
        let [a, b, c, d, ..] = derived_seed("export probe", &[&index.to_string()]);
        (u64::from(u32::from_le_bytes([a, b, c, d])) % vocabulary as u64) as u32
    };
    (0..PROBE_TOKENS).map(token).collect()
}

fn logits(model: &Decoder, tokens: &[u32]) -> Vec<f32> {
    values(model.logits(tokens, &mut Cache::default(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe { tokens: vec![4, 2], logits: vec![0.5, 1.0, -2.0, 0.0, 3.0, 8.0] }
    }

    #[test]
    fn the_largest_difference_is_reported() {
        assert_eq!(probe().largest_difference_of(&[0.5, 1.0, -2.0, 0.0, 3.0, 8.0]), 0.0);
        assert_eq!(probe().largest_difference_of(&[0.5, 1.0, -2.0, -0.0009765625, 3.0, 8.0]), 0.0009765625);
    }

    #[test]
    #[should_panic(expected = "3.25 instead of 3 for token 1 after position 1 of the probe")]
    fn another_logit_is_a_panic() {
        probe().largest_difference_of(&[0.5, 1.0, -2.0, 0.0, 3.25, 8.0]);
    }

    #[test]
    #[should_panic(expected = "NaN instead of -2 for token 2 after position 0 of the probe")]
    fn no_number_is_a_panic() {
        probe().largest_difference_of(&[0.5, 1.0, f32::NAN, 0.0, 3.25, 8.0]);
    }

    #[test]
    fn probe_tokens_stay_in_the_vocabulary() {
        assert_eq!(probe_tokens(1), [0; PROBE_TOKENS]);
        let tokens = probe_tokens(49152);
        assert!(tokens.iter().all(|&token| token < 49152), "{tokens:?}");
        assert_eq!(tokens, probe_tokens(49152));
    }
}
