//! Trains the last steps before a checkpoint again, and compares.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use undertone_data::Source;
use undertone_files::{InputError, Place, TemporaryFolder};
use undertone_train::{Checkpoint, Difference, LAST, Resumable, Scalars, TrainError};

use crate::arms::Training;
use crate::base::Base;
use crate::checkpoint::open_checkpoint;
use crate::context::Context;
use crate::error::StudyError;
use crate::fingerprint;
use crate::jobs::predict_thoughts::read_predicted_thoughts;
use crate::jobs::train::TrainingJob;
use crate::observer::{Event, Observer};
use crate::stages::{prepare_stages, require_trained_stages, train_stages};
use crate::study::Study;

/// What to train again.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// The fewest steps to take again; it begins at the newest earlier checkpoint that allows them, or at the start.
    pub steps: usize,
    /// Overrides of the checkpoint's experiment, such as where data and model are now.
    pub overrides: Vec<String>,
}

/// How the two checkpoints compare.
#[derive(Debug, Serialize)]
pub struct Replayed {
    /// The step after which it began.
    pub from: usize,
    /// The step of the checkpoint.
    pub to: usize,
    /// Tensors compared.
    pub tensors: usize,
    /// What differs; empty if every byte is equal.
    pub differences: Vec<Difference>,
}

impl Replay {
    /// Trains again, in a temporary folder beside the checkpoint.
    ///
    /// # Errors
    /// The checkpoint cannot be read; data, model, experiment or program are not those of its training.
    pub fn run(&self, observer: &dyn Observer) -> Result<Replayed, StudyError> {
        let path = &self.checkpoint;
        let (checkpoint, experiment) = open_checkpoint(path, &self.overrides)?;
        let description = &checkpoint.description;
        let arm = experiment.arm(Some(&description.arm), path)?.clone();
        let mut study = Study::prepare(experiment, path, &[])?;
        if arm.source == Source::Predicted {
            let thoughts = read_predicted_thoughts(&study)?;
            study.set_predicted(thoughts);
        }
        study.require_fold(description.fold, path)?;
        let base = Base::load(&study.experiment)?;
        prepare_stages(&mut study, &base)?;
        let training = Training { fold: description.fold, seed: description.seed };
        if fingerprint::of_training(&study, &base, &arm, training) != description.training_key {
            let cause = "its experiment, data, base model or program version is not the one of its training";
            return Err(InputError::new(path, cause)
                .at(Place::Named("training_key".into()))
                .hint("replay it with the files and the version of `undertone` it was trained with")
                .into());
        }
        let to = description.state.step;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let begin = Resumable::up_to(folder, to.saturating_sub(self.steps.max(1)))?;
        let begin = begin.map(|begin| begin.checkpoint).filter(|begin| {
            // A file of another training may have been put beside it.
            begin.description.training_key == description.training_key
        });
        let from = begin.as_ref().map_or(0, |begin| begin.description.state.step);
        let temporary =
            TemporaryFolder::create(folder).map_err(|error| InputError::io(folder, "create a folder", &error))?;
        require_trained_stages(&study)?;
        let base = train_stages(&Context { study: &study, base: &base, observer, stop: &AtomicBool::new(false) })?;
        let until = StopAt { step: to, observer, stop: AtomicBool::new(false) };
        let context = Context { study: &study, base: &base, observer: &until, stop: &until.stop };
        observer.rows(&[(arm.name.clone(), 1)]);
        let job = TrainingJob::of_arm(&context, &arm, training, temporary.path())?;
        match job.train(&context, begin.as_ref()) {
            Ok(_) | Err(TrainError::Interrupted(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let replayed = Checkpoint::read(&temporary.path().join(LAST))?;
        Ok(Replayed { from, to, tensors: checkpoint.tensors(), differences: checkpoint.differences(&replayed) })
    }
}

/// An observer that stops a training after a step.
struct StopAt<'a> {
    step: usize,
    observer: &'a dyn Observer,
    stop: AtomicBool,
}

impl Observer for StopAt<'_> {
    fn rows(&self, rows: &[(String, usize)]) {
        self.observer.rows(rows);
    }

    fn observe(&self, row: &str, event: Event<'_>) {
        self.observer.observe(row, event);
        if let Event::Step(Scalars { step, .. }) = event {
            self.stop.store(*step >= self.step, Ordering::Relaxed);
        }
    }
}
