//! One module a command. Each returns its results on stdout and what people read on stderr.

pub(crate) mod ablate;
pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod train;

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use undertone_data::InputError;
use undertone_train::Checkpoint;

use crate::experiment::Experiment;

/// One JSON document on stdout.
pub(crate) fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("results are plain data");
    print_text(&format!("{text}\n"));
}

/// Text on stdout; a reader that stopped reading (`| head`) ends the program quietly.
pub(crate) fn print_text(text: &str) {
    if std::io::stdout().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// A checkpoint and the experiment in it, with overrides of single keys.
pub(crate) fn open_checkpoint(path: &Path, overrides: &[String]) -> anyhow::Result<(Checkpoint, Experiment)> {
    let checkpoint = Checkpoint::read(path)?;
    let experiment = Experiment::from_resolved(path, &checkpoint.description.experiment)?;
    let experiment = if overrides.is_empty() { experiment } else { experiment.with(overrides)? };
    Ok((checkpoint, experiment))
}

/// Refuses a destination that is there already.
pub(crate) fn require_absent(path: &Path) -> Result<(), InputError> {
    match path.exists() {
        true => Err(InputError::new(path, "already exists").hint("choose another name, or remove it first")),
        false => Ok(()),
    }
}
