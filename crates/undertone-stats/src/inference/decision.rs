//! The decision about a comparison, by a rule fixed before the data are seen. It rests on corrected p-values alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::estimate::Inference;
use super::interval::ALPHA;

/// About what a decision is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// This way of training: other users and other trainings. With one training of each arm there is no answer.
    #[default]
    WayOfTraining,
    /// These trained models: other users.
    TheseModels,
}

/// The decision about arm b against arm a; lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// b is lower: the corrected p-value is at most [`ALPHA`].
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
    /// Whether it is undecided because each arm has one training, whatever the users say.
    pub one_training: bool,
    /// The p-value of the difference, corrected with all others of its family.
    pub p_different: Option<f64>,
    /// The p-value of two one-sided tests against the margin, corrected in the same way, if a margin was declared.
    pub p_tied: Option<f64>,
    /// Whether the difference is decided but shown to be smaller than the margin.
    pub within_margin: bool,
}

/// The p-values of one difference before they are corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RawP {
    /// Of the difference.
    pub(crate) different: Option<f64>,
    /// Of two one-sided tests against the margin.
    pub(crate) tied: Option<f64>,
}

impl RawP {
    /// The p-values that answer a question.
    pub(crate) fn new(inference: &Inference, question: Question, margin: Option<f64>) -> Self {
        let value = inference.ratio.value;
        let error = inference.standard_error;
        match question {
            Question::WayOfTraining => Self {
                different: inference.p,
                tied: margin.zip(error).and_then(|(margin, error)| error.tost(value, margin)),
            },
            Question::TheseModels => Self {
                // A verdict must not hang on the random generator.
                different: inference.sign_flip.map(|test| (test.p + SAFE_ERRORS * test.monte_carlo_error).min(1.0)),
                tied: margin.zip(error).map(|(margin, error)| error.tost_of_models(value, margin)),
            },
        }
    }
}

/// So many Monte Carlo errors are added to a sampled p-value before a decision.
const SAFE_ERRORS: f64 = 3.0;

impl Evidence {
    /// Decides about a difference from its corrected p-values.
    pub(crate) fn new(inference: &Inference, question: Question, corrected: RawP) -> Self {
        let RawP { different: p_different, tied: p_tied } = corrected;
        let is_small = |p: Option<f64>| p.is_some_and(|p| p <= ALPHA);
        let (is_different, is_within) = (is_small(p_different), is_small(p_tied));
        let decision = match (is_different, is_within) {
            (true, _) if inference.ratio.value < 0.0 => Decision::Better,
            (true, _) => Decision::Worse,
            (false, true) => Decision::Tied,
            (false, false) => Decision::Undecided,
        };
        let one_training = question == Question::WayOfTraining && inference.trainings < 2;
        Self { decision, one_training, p_different, p_tied, within_margin: is_different && is_within }
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

    /// The decision on twenty users at `value` ± `spread` in two trainings ± `apart`.
    fn decide([value, spread, apart]: [f64; 3], margin: Option<f64>, question: Question) -> Evidence {
        let user = |index: usize| value + if index.is_multiple_of(2) { spread } else { -spread };
        let nats = |index| vec![user(index) + apart, user(index) - apart];
        let users: Vec<UserSums> = (0..20).map(|index| UserSums::in_one_fold(nats(index), 1)).collect();
        let inference = Inference::new(&users, BootstrapOptions { draws: 100, seed: 0 }).unwrap();
        Evidence::new(&inference, question, RawP::new(&inference, question, margin))
    }

    #[test]
    fn every_word_has_its_rule() {
        use Decision::{Better, Tied, Undecided, Worse};
        use Question::{TheseModels, WayOfTraining};
        let word = |numbers, margin| decide(numbers, margin, WayOfTraining).decision;
        assert_eq!(word([-0.1, 0.1, 0.0], None), Better);
        assert_eq!(word([0.1, 0.1, 0.0], None), Worse);
        assert_eq!(word([-0.1, 0.3, 0.0], None), Undecided);
        // Trainings that differ take away what users show.
        assert_eq!(word([-0.1, 0.1, 0.1], None), Undecided);
        assert_eq!(decide([-0.1, 0.1, 0.1], None, TheseModels).decision, Better);
        // Tied only within a margin that was declared.
        assert_eq!(word([0.001, 0.01, 0.0], Some(0.02)), Tied);
        assert_eq!(word([0.001, 0.01, 0.0], Some(0.004)), Undecided);
        assert_eq!(word([0.001, 0.01, 0.0], None), Undecided);
        // Decided but too small to matter.
        let small = decide([-0.01, 0.01, 0.0], Some(0.05), WayOfTraining);
        assert_eq!((small.decision, small.within_margin), (Better, true));
    }

    #[test]
    fn one_training_decides_nothing_whatever_the_users_say() {
        let users: Vec<UserSums> = (0..20).map(|user| UserSums::in_one_fold(vec![-1.0 - f64::from(user)], 1)).collect();
        let inference = Inference::new(&users, BootstrapOptions { draws: 100, seed: 0 }).unwrap();
        let evidence = |question| Evidence::new(&inference, question, RawP::new(&inference, question, Some(0.1)));
        let way = evidence(Question::WayOfTraining);
        assert_eq!((way.decision, way.one_training), (Decision::Undecided, true));
        assert_eq!((way.p_different, way.p_tied), (None, None));
        let models = evidence(Question::TheseModels);
        assert_eq!((models.decision, models.one_training), (Decision::Better, false));
    }
}
