//! The decision about a comparison, by a rule fixed before the data are seen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::estimate::Inference;

/// The two-sided significance level of every decision.
pub const ALPHA: f64 = 0.05;

/// The decision about arm b against arm a; lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// b is lower: the corrected p-value is at most [`ALPHA`] and the Student's t interval excludes zero.
    Better,
    /// b is higher, by the same rule.
    Worse,
    /// The difference is smaller than the declared margin, by two one-sided tests.
    Tied,
    /// None of these: the study is too small to tell.
    Undecided,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Tied => "tied",
            Self::Undecided => "undecided",
        })
    }
}

/// A decision and its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The decision.
    pub decision: Decision,
    /// The sign-flip p-value after Holm's correction; uncorrected for the primary comparison.
    pub p_adjusted: Option<f64>,
    /// The p-value of two one-sided tests against the margin, if one was declared.
    pub p_tied: Option<f64>,
    /// Whether the difference is decided but shown to be smaller than the margin.
    pub within_margin: bool,
}

impl Evidence {
    /// Decides from an inference, its corrected p-value, and the margin in nats per token.
    pub fn new(inference: &Inference, p_adjusted: Option<f64>, margin: Option<f64>) -> Self {
        let value = inference.ratio.value;
        let p_tied = margin.zip(inference.standard_error).map(|(margin, error)| error.tost(value, margin));
        let is_within = p_tied.is_some_and(|p| p <= ALPHA);
        // The interval includes the variance between trainings; the test does not.
        let is_apart = inference.ratio.intervals.is_some_and(|intervals| !intervals.student_t.contains_zero());
        let is_different = is_apart && p_adjusted.is_some_and(|p| p <= ALPHA);
        let decision = match (is_different, is_within) {
            (true, _) if value < 0.0 => Decision::Better,
            (true, _) => Decision::Worse,
            (false, true) => Decision::Tied,
            (false, false) => Decision::Undecided,
        };
        Self { decision, p_adjusted, p_tied, within_margin: is_different && is_within }
    }
}

/// Holm's step-down correction (1979): adjusted p-values that control the family-wise error rate.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut highest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        highest = highest.max(p[index] * (p.len() - rank) as f64).min(1.0);
        adjusted[index] = highest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootstrapOptions, UserSums};

    #[test]
    fn holm_is_that_of_r() {
        // p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (actual, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((actual - expected).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert_eq!(holm(&[]), [0.0; 0]);
    }

    /// The decision on twenty users at `value` ± `spread`.
    fn decide(value: f64, spread: f64, p_adjusted: Option<f64>, margin: Option<f64>) -> Evidence {
        let user = |index: usize| value + if index.is_multiple_of(2) { spread } else { -spread };
        let users: Vec<UserSums> = (0..20).map(|index| UserSums { nats: vec![user(index)], tokens: 1 }).collect();
        let inference = Inference::new(&users, BootstrapOptions { draws: 100, seed: 0 }).unwrap();
        Evidence::new(&inference, p_adjusted, margin)
    }

    #[test]
    fn every_word_has_its_rule() {
        use Decision::{Better, Tied, Undecided, Worse};
        let word = |value, spread, p, margin| decide(value, spread, p, margin).decision;
        assert_eq!(word(-0.1, 0.1, Some(0.01), None), Better);
        assert_eq!(word(0.1, 0.1, Some(0.01), None), Worse);
        // The corrected p-value and the interval must both exclude zero.
        assert_eq!(word(-0.1, 0.1, Some(0.06), None), Undecided);
        assert_eq!(word(-0.1, 0.3, Some(0.01), None), Undecided);
        // Tied only within a margin that was declared.
        assert_eq!(word(0.001, 0.01, Some(0.7), Some(0.02)), Tied);
        assert_eq!(word(0.001, 0.01, Some(0.7), Some(0.004)), Undecided);
        assert_eq!(word(0.001, 0.01, Some(0.7), None), Undecided);
        // Decided but too small to matter.
        let small = decide(-0.01, 0.01, Some(0.01), Some(0.05));
        assert_eq!((small.decision, small.within_margin), (Better, true));
    }
}
