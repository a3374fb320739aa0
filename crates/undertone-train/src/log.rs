//! Reports of a run while it trains: scalars as JSONL, as TensorBoard events, and to a [`Progress`].

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use undertone_files::{InputError, write_whole};

use crate::events::Events;
use crate::hyperparameters::Hyperparameter;
use crate::trouble::{RecentLosses, Trouble};

/// The scalars of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scalars {
    /// Steps taken, this one included.
    pub step: usize,
    /// Σ nats / Σ supervised tokens of the step; not finite only if the step was skipped.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub loss_nats_per_token: f64,
    /// The same loss per byte of target text, in bits.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub bits_per_byte: f64,
    /// Supervised tokens of the step.
    pub supervised_tokens: usize,
    /// The learning rate.
    pub learning_rate: f64,
    /// Global norm of the gradients before clipping; not finite only if the step was skipped.
    #[serde(deserialize_with = "null_is_not_a_number")]
    pub gradient_norm: f64,
    /// Tokens run through the model per second.
    pub tokens_per_second: f64,
    /// Resident memory in MiB; 0 if the system does not report it.
    pub memory_mib: f64,
    /// Σ nats / Σ tokens on the validation users, if measured after this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_nats_per_token: Option<f64>,
    /// What a reader should look at in this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// JSON has no NaN; it is written as `null`.
fn null_is_not_a_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The file of scalars in the folder of a run.
const LOG: &str = "log.jsonl";
/// The folder of TensorBoard's events in the folder of a run.
const TENSORBOARD: &str = "tensorboard";

/// The scalars that a run has logged so far, step by step; empty if it has not begun. Skips truncated lines.
///
/// # Errors
/// The log cannot be read.
pub fn read_log(folder: &Path) -> Result<Vec<Scalars>, InputError> {
    Ok(lines(folder)?.into_iter().map(|(scalars, _)| scalars).collect())
}

fn lines(folder: &Path) -> Result<Vec<(Scalars, String)>, InputError> {
    let path = folder.join(LOG);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(&path).map_err(|error| InputError::io(&path, "read the log", &error))?;
    // A killed program may leave a line that ends anywhere, also inside a character.
    let texts = bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    Ok(texts.filter_map(|line| Some((serde_json::from_str(line).ok()?, line.to_owned()))).collect())
}

/// Adds scores of a run's model to its TensorBoard events, at its last step, so that runs can be compared by them.
///
/// # Errors
/// The log cannot be read, or the events cannot be written.
pub fn record_scores(folder: &Path, scores: &[(String, f64)]) -> Result<(), InputError> {
    let last = read_log(folder)?.last().map_or(0, |scalars| scalars.step);
    let mut events = Events::open(&folder.join(TENSORBOARD), last)?;
    events.scalars(last, &scores.iter().map(|(tag, value)| (tag.as_str(), *value)).collect::<Vec<_>>())?;
    events.sync()
}

/// Receives the progress of a run.
pub trait Progress: Sync {
    /// The run begins, or resumes after `done` of its `steps`.
    fn begin(&self, done: usize, steps: usize);

    /// A step has ended.
    fn step(&self, scalars: &Scalars);
}

/// The files that receive the scalars of a run.
pub(crate) struct EventLog {
    jsonl: File,
    path: PathBuf,
    events: Events,
    recent: RecentLosses,
}

impl EventLog {
    /// Opens `log.jsonl` and `tensorboard/` in `folder`. Removes the steps after `resumed_at`, whose work was lost.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn open(
        folder: &Path,
        resumed_at: usize,
        hyperparameters: &[(String, Hyperparameter)],
    ) -> Result<Self, InputError> {
        let path = folder.join(LOG);
        let mut recent = RecentLosses::default();
        let mut kept = Vec::new();
        for (scalars, line) in lines(folder)?.into_iter().filter(|(scalars, _)| scalars.step <= resumed_at) {
            recent.spike(scalars.loss_nats_per_token);
            kept.push(line + "\n");
        }
        write_whole(&path, kept.concat().as_bytes())?;
        let jsonl = OpenOptions::new().append(true).open(&path);
        let jsonl = jsonl.map_err(|error| InputError::io(&path, "write the log", &error))?;
        let mut events = Events::open(&folder.join(TENSORBOARD), resumed_at)?;
        if resumed_at == 0 {
            events.begin(hyperparameters)?;
        }
        Ok(Self { jsonl, path, events, recent })
    }

    /// Records one step, which supervised `items`, and returns what is recorded: a spike of the loss is noted.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(crate) fn step(
        &mut self,
        mut scalars: Scalars,
        items: impl FnOnce() -> Vec<String>,
    ) -> Result<Scalars, InputError> {
        let spike = self.recent.spike(scalars.loss_nats_per_token).filter(|_| scalars.trouble.is_none());
        if let Some(what) = spike {
            scalars.trouble = Some(Trouble { what, items: items() });
        }
        let line = serde_json::to_string(&scalars).expect("scalars are plain data") + "\n";
        let written = self.jsonl.write_all(line.as_bytes());
        written.map_err(|error| InputError::io(&self.path, "write the log", &error))?;
        let always = [
            ("loss/nats_per_token", scalars.loss_nats_per_token),
            ("loss/bits_per_byte", scalars.bits_per_byte),
            ("optimizer/learning_rate", scalars.learning_rate),
            ("optimizer/gradient_norm", scalars.gradient_norm),
            ("speed/tokens_per_second", scalars.tokens_per_second),
            ("speed/memory_mib", scalars.memory_mib),
        ];
        let validation = scalars.validation_nats_per_token.map(|nats| ("loss/validation_nats_per_token", nats));
        self.events.scalars(scalars.step, &always.into_iter().chain(validation).collect::<Vec<_>>())?;
        Ok(scalars)
    }

    /// Records that the run has ended after `step` steps.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(crate) fn end(&mut self, step: usize) -> Result<(), InputError> {
        self.events.end(step)
    }

    /// Waits until all steps are on the disk, so that no checkpoint is ahead of its log.
    ///
    /// # Errors
    /// The files cannot be written.
    pub(crate) fn sync(&self) -> Result<(), InputError> {
        self.jsonl.sync_data().map_err(|error| InputError::io(&self.path, "write the log", &error))?;
        self.events.sync()
    }
}
