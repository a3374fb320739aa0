//! What a study fixes when it begins: its windows and its primary items.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;
use undertone_data::Windows;
use undertone_files::{InputError, Sealed};

use crate::digest::sha256_of_json;
use crate::experiment::{Experiment, SplitSection};

/// The file with what a study has fixed.
pub(crate) const FIXED: &str = "fixed.json";

/// The windows and the primary items of a study that has begun. Arms, seeds and divisions that are added later change
/// neither.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begun {
    /// Identifies the data and how they are cut; with other data, the file is of another study.
    key: String,
    /// The windows of each conversation.
    pub(crate) windows: Windows,
    /// The primary items.
    pub(crate) primary: BTreeSet<String>,
}

impl Begun {
    /// What a study fixes.
    pub(crate) fn new(experiment: &Experiment, data_sha256: &str, windows: Windows, primary: BTreeSet<String>) -> Self {
        Self { key: key(experiment, data_sha256), windows, primary }
    }

    /// What the study in the experiment's folder has fixed; `None` if no study of these data has begun there.
    ///
    /// # Errors
    /// The file cannot be read, or was changed after it was written.
    pub(crate) fn read(experiment: &Experiment, data_sha256: &str) -> Result<Option<Self>, InputError> {
        let path = path(experiment);
        if !path.exists() {
            return Ok(None);
        }
        let begun: Self = Sealed::read(&path)?;
        Ok((begun.key == key(experiment, data_sha256)).then_some(begun))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, experiment: &Experiment) -> Result<(), InputError> {
        Sealed::write(&path(experiment), self.clone())
    }
}

fn path(experiment: &Experiment) -> PathBuf {
    experiment.folder().join(FIXED)
}

fn key(experiment: &Experiment, data_sha256: &str) -> String {
    let split = SplitSection { repeats: 1, ..experiment.split.clone() };
    let data = experiment.data.laid_out();
    sha256_of_json(&json!({ "data": data, "split": split, "model": experiment.model.path, "files": data_sha256 }))
}
