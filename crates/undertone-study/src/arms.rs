//! Arms as they are trained and evaluated.

use undertone_data::{Source, View};

use crate::error::StudyError;
use crate::experiment::Arm;

/// An arm with what it is evaluated with: the base model has no training.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The arm's name.
    pub name: String,
    /// Which thoughts it sees, and whose.
    pub shown: (View, Source),
    /// The arm whose training makes the model; `None` for the untrained base.
    pub trained: Option<Arm>,
}

impl Evaluated {
    /// The arm whose training makes the model; an untrained one's own name.
    pub(crate) fn trained_name(&self) -> &str {
        self.trained.as_ref().map_or(&self.name, |trained| &trained.name)
    }

    /// Whether the arm is scored with a training of its own.
    pub(crate) fn is_trained_itself(&self) -> bool {
        self.trained.as_ref().is_some_and(|trained| trained.name == self.name)
    }
}

/// An arm that failed.
#[derive(Debug)]
pub struct Failed {
    /// The arm whose training or scoring failed; an untrained one's own name.
    pub arm: String,
    /// Why.
    pub error: StudyError,
}

/// One training of an arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// The fold, from 0.
    pub fold: usize,
    /// The seed.
    pub seed: u64,
}

impl Training {
    /// Its folder in that of the arm: `fold0`, or `fold0-seed1` of a seed other than the experiment's.
    pub(crate) fn folder(self, first_seed: u64) -> String {
        let Self { fold, seed } = self;
        if seed == first_seed { format!("fold{fold}") } else { format!("fold{fold}-seed{seed}") }
    }
}
