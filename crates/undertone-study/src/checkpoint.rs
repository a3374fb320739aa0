//! Opens checkpoints together with their experiments.

use std::path::Path;

use undertone_train::Checkpoint;

use crate::error::StudyError;
use crate::experiment::Experiment;

/// Reads a checkpoint and the experiment in it, and applies overrides of single keys.
///
/// # Errors
/// The file is no checkpoint of this version, or its experiment or an override is wrong.
pub fn open_checkpoint(path: &Path, overrides: &[String]) -> Result<(Checkpoint, Experiment), StudyError> {
    let checkpoint = Checkpoint::read(path)?;
    let experiment = Experiment::from_resolved(path, &checkpoint.description.experiment)?;
    let experiment = if overrides.is_empty() { experiment } else { experiment.with(overrides)? };
    Ok((checkpoint, experiment))
}
