//! Arms as they are trained and evaluated.

use undertone_data::{Source, View, derived_number};

use crate::error::StudyError;
use crate::experiment::Arm;
use crate::names::THOUGHT_KINDS;

/// The weights of an arm that is evaluated.
#[derive(Debug, Clone)]
pub enum Model {
    /// Those of the untrained base model.
    Untrained,
    /// Those after the experiment's stages, with which the trainings of the arms begin.
    Staged,
    /// Those that the training of this arm makes.
    Trained(Arm),
}

/// An arm to evaluate: what it sees, and the weights of its model.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The arm's name.
    pub name: String,
    /// Which thoughts it sees, and whose.
    pub shown: (View, Source),
    /// Its weights.
    pub model: Model,
}

impl Evaluated {
    /// The arm whose training makes the model; `None` for a model that no arm has trained.
    pub fn trained(&self) -> Option<&Arm> {
        match &self.model {
            Model::Trained(arm) => Some(arm),
            Model::Untrained | Model::Staged => None,
        }
    }

    /// The name of the arm whose training makes the model; for another model, its own name.
    pub(crate) fn trained_name(&self) -> &str {
        self.trained().map_or(&self.name, |trained| &trained.name)
    }

    /// Whether the arm is scored with a training of its own.
    pub(crate) fn is_trained_itself(&self) -> bool {
        self.trained().is_some_and(|trained| trained.name == self.name)
    }
}

/// An arm that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The name of the arm whose training or scoring failed; for another model, its own name.
    pub(crate) arm: String,
    /// Why.
    pub(crate) error: StudyError,
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
    /// The seed of every random draw in this training: initial adapters, order and dropout. All arms share it; another fold
    /// has another, so that what a draw does to the result varies between trainings, and intervals know of it.
    pub(crate) fn random_seed(self) -> u64 {
        match self {
            Self { fold: 0, seed } => seed,
            Self { fold, seed } => derived_number("training", &[&seed.to_string(), &fold.to_string()]),
        }
    }

    /// Its folder inside the arm's folder: `fold0`, or `fold0-seed1` for a seed other than the experiment's.
    pub(crate) fn folder(self, first_seed: u64) -> String {
        let Self { fold, seed } = self;
        if seed == first_seed { format!("fold{fold}") } else { format!("fold{fold}-seed{seed}") }
    }
}

/// The arm of the writers of thoughts: what they see, and their targets.
pub(crate) fn thought_writer_arm() -> Arm {
    Arm { name: "writer".into(), targets: Some(THOUGHT_KINDS.to_vec()), ..Arm::default() }
}
