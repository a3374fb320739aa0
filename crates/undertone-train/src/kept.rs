//! The checkpoints that a training keeps in its folder.
//!
//! `last.safetensors` and `best.safetensors` hold the newest of each kind. Earlier ones stay under the name of their step,
//! such as `step-120.safetensors` and `best-60.safetensors`, as long as the configuration asks for them.

use std::path::{Path, PathBuf};

use undertone_files::{InputError, keep_as};

use crate::checkpoint::{Checkpoint, Description, State};
use crate::config::TrainingConfig;

/// The checkpoint from which a training resumes.
pub const LAST: &str = "last.safetensors";

/// The checkpoint with the lowest validation loss; without validation, the last one.
pub const BEST: &str = "best.safetensors";

/// The start of the names of earlier checkpoints from which a training can resume.
const STEP: &str = "step";

/// The start of the names of earlier checkpoints that were the best.
const WAS_BEST: &str = "best";

/// Checkpoints of one kind: the newest one under a fixed name, earlier ones under their steps.
pub(crate) struct Series<'a> {
    folder: &'a Path,
    newest: &'static str,
    prefix: &'static str,
    /// How many are kept, the newest included.
    kept: usize,
    /// Checkpoints of every so many steps stay for good; 0 for none.
    every: usize,
}

impl<'a> Series<'a> {
    /// The checkpoints to resume from.
    pub(crate) fn of_last(folder: &'a Path, config: &TrainingConfig) -> Self {
        Self { folder, newest: LAST, prefix: STEP, kept: config.keep_last, every: config.keep_every_steps }
    }

    /// The best checkpoints.
    pub(crate) fn of_best(folder: &'a Path, config: &TrainingConfig) -> Self {
        Self { folder, newest: BEST, prefix: WAS_BEST, kept: config.keep_best, every: 0 }
    }

    /// Writes the newest checkpoint. `before` is the step of the one that it follows.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(
        &self,
        before: Option<usize>,
        write: impl FnOnce(&Path) -> Result<(), InputError>,
    ) -> Result<(), InputError> {
        let newest = self.folder.join(self.newest);
        if let Some(step) = before.filter(|step| self.kept > 1 || self.stays(*step)) {
            // After a fall back to an earlier checkpoint, a later one stands there, which is lost.
            if Description::read(&newest).is_ok_and(|description| description.state.step == step) {
                keep_as(&newest, &self.folder.join(format!("{}-{step}.safetensors", self.prefix)))?;
            }
        }
        write(&newest)?;
        self.remove_surplus(before)
    }

    /// Whether the checkpoint of a step stays for good.
    fn stays(&self, step: usize) -> bool {
        self.every > 0 && step.is_multiple_of(self.every)
    }

    /// Removes earlier checkpoints that are not kept. `before` is the step of the one before the newest; later ones are
    /// lost after a fall back.
    fn remove_surplus(&self, before: Option<usize>) -> Result<(), InputError> {
        let passing = earlier(self.folder, self.prefix).into_iter().filter(|(step, _)| !self.stays(*step));
        let (older, lost): (Vec<_>, Vec<_>) =
            passing.partition(|(step, _)| before.is_some_and(|before| *step <= before));
        let surplus = (older.len() + 1).saturating_sub(self.kept.max(1));
        for (_, path) in older.iter().take(surplus).chain(&lost) {
            std::fs::remove_file(path).map_err(|error| InputError::io(path, "remove", &error))?;
        }
        Ok(())
    }
}

/// Removes the checkpoints of a finished training that are not kept: a kill can come between the last save and their
/// removal.
///
/// # Errors
/// A file cannot be removed.
pub fn remove_surplus(folder: &Path, config: &TrainingConfig, state: &State) -> Result<(), InputError> {
    let before = |step: usize| Some(step.saturating_sub(1));
    Series::of_last(folder, config).remove_surplus(before(state.step))?;
    Series::of_best(folder, config).remove_surplus(state.best.and_then(|best| before(best.step)))
}

/// The checkpoint to resume from: `last.safetensors`, or the newest earlier one if that is damaged.
#[derive(Debug)]
pub struct Resumable {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// Why newer ones cannot be used.
    pub damaged: Vec<InputError>,
}

impl Resumable {
    /// Finds it in the folder of a training; `None` if the training has saved nothing.
    ///
    /// # Errors
    /// There are checkpoints, and all are damaged; the error is that of the newest.
    pub fn find(folder: &Path) -> Result<Option<Self>, InputError> {
        let last = folder.join(LAST);
        let earlier: Vec<PathBuf> = earlier(folder, STEP).into_iter().rev().map(|(_, path)| path).collect();
        let mut damaged = Vec::new();
        if !last.exists() && !earlier.is_empty() {
            damaged.push(InputError::new(&last, "is missing"));
        }
        for path in Some(last).filter(|last| last.exists()).into_iter().chain(earlier) {
            match Checkpoint::read(&path) {
                Ok(checkpoint) => return Ok(Some(Self { checkpoint, path, damaged })),
                Err(error) => damaged.push(error),
            }
        }
        damaged.into_iter().next().map_or(Ok(None), Err)
    }

    /// Finds the newest earlier checkpoint of at most `step` steps; `None` if there is none.
    ///
    /// # Errors
    /// It is damaged.
    pub fn up_to(folder: &Path, step: usize) -> Result<Option<Self>, InputError> {
        let Some((_, path)) = earlier(folder, STEP).into_iter().rev().find(|(taken, _)| *taken <= step) else {
            return Ok(None);
        };
        Ok(Some(Self { checkpoint: Checkpoint::read(&path)?, path, damaged: Vec::new() }))
    }
}

/// The checkpoints under their steps, in order.
fn earlier(folder: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let step = |name: &str| name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".safetensors")?.parse().ok();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<(usize, PathBuf)> =
        entries.filter_map(|entry| Some((step(entry.file_name().to_str()?)?, entry.path()))).collect();
    all.sort();
    all
}
