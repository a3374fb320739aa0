//! Why a study ends early.

use std::path::PathBuf;

use undertone_files::InputError;
use undertone_stats::NotComparable;
use undertone_train::TrainError;

use crate::experiment::Problems;

/// Why a study, or a part of it, ended early.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A file, a setting or an endpoint is wrong.
    #[error(transparent)]
    Input(#[from] InputError),
    /// An experiment is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Two arms have no common items.
    #[error("these results cannot be compared: {0}")]
    NotComparable(#[from] NotComparable),
    /// A loss or a gradient is not a number.
    #[error("training diverged: {0}")]
    Diverged(String),
    /// The scores of a model are not numbers.
    #[error("the model's scores are not valid, because its training has diverged: {0}")]
    Scores(String),
    /// The user stopped it; the same call resumes from this file or folder.
    #[error("interrupted; saved `{}`", .0.display())]
    Interrupted(PathBuf),
}

impl From<TrainError> for StudyError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Input(error) => Self::Input(error),
            TrainError::Interrupted(path) => Self::Interrupted(path),
            diverged @ TrainError::NotFinite { .. } => Self::Diverged(diverged.to_string()),
        }
    }
}
