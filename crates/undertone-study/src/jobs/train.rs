//! Trains one arm, or one writer of thoughts, from the start or from its last checkpoint.

use std::path::{Path, PathBuf};

use undertone_data::{Split, Stream};
use undertone_files::{FolderLock, InputError, Place};
use undertone_train::{
    BEST, Checkpoint, Description, Hyperparameter, Resumable, Run, State, TrainError, available_mib, needed_mib,
    remove_surplus,
};

use crate::arms::Training;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::Arm;
use crate::fingerprint;
use crate::hyperparameters::hyperparameters;
use crate::observer::{Event, RowProgress};

/// One training, ready to run.
pub(crate) struct TrainingJob {
    /// The observer's row.
    pub(crate) row: String,
    /// The arm's name, for the checkpoint.
    pub(crate) arm: String,
    pub(crate) training: Training,
    /// What determines the weights.
    pub(crate) fingerprint: String,
    /// One list of windows for all epochs, or one per epoch.
    pub(crate) windows: Vec<Vec<Stream>>,
    pub(crate) validation: Vec<Stream>,
    /// Where checkpoints and logs go.
    pub(crate) folder: PathBuf,
    /// What TensorBoard shows beside the scalars.
    pub(crate) hyperparameters: Vec<(String, Hyperparameter)>,
}

impl TrainingJob {
    /// The training of an arm in a folder.
    ///
    /// # Errors
    /// No training user has a target.
    pub(crate) fn of_arm(
        context: &Context<'_>,
        arm: &Arm,
        training: Training,
        folder: &Path,
    ) -> Result<Self, InputError> {
        let Context { study, base, .. } = context;
        // With thought dropout, each epoch drops other thoughts.
        let epochs = if arm.thought_dropout > 0.0 { study.experiment.training.epochs as u64 } else { 1 };
        let windows: Vec<Vec<Stream>> =
            (0..epochs).map(|epoch| study.training_streams(arm, training, Split::Train, Some(epoch))).collect();
        if windows[0].is_empty() {
            return Err(study.no_training_target(arm));
        }
        Ok(Self {
            row: arm.name.clone(),
            arm: arm.name.clone(),
            training,
            fingerprint: fingerprint::of_training(study, base, arm, training),
            windows,
            validation: study.training_streams(arm, training, Split::Validation, None),
            folder: folder.to_owned(),
            hyperparameters: hyperparameters(&study.experiment, arm, training),
        })
    }

    /// Trains from the start or from a checkpoint.
    ///
    /// # Errors
    /// The folder cannot be written; the loss is not a number; the user stopped it.
    pub(crate) fn train(&self, context: &Context<'_>, from: Option<&Checkpoint>) -> Result<State, TrainError> {
        let Context { study, base, observer, stop } = *context;
        let experiment = &study.experiment;
        let config = &experiment.training;
        let steps = config.epochs * self.windows[0].len().div_ceil(config.conversations_per_step);
        if steps < config.warmup_steps {
            tracing::warn!(
                "{}: the training ends within its warm-up, after {steps} of {} steps: the learning rate reaches {:.1e}, not {:.1e}",
                self.row,
                config.warmup_steps,
                config.learning_rate_at(steps - 1, steps),
                config.learning_rate
            );
        }
        let run = Run {
            config,
            seed: self.training.random_seed(),
            training: &self.windows,
            validation: &self.validation,
            folder: &self.folder,
            progress: &RowProgress { observer, row: &self.row },
            description: Description {
                chat_format: base.template.format().clone(),
                earlier_users: base.earlier_users().into_iter().collect(),
                ..Description::new(
                    experiment.resolved(),
                    self.fingerprint.clone(),
                    base.sha256.clone(),
                    self.arm.clone(),
                    self.training.fold,
                    self.training.seed,
                )
            },
            hyperparameters: self.hyperparameters.clone(),
            stop,
        };
        let mut decoder = base.trainable(experiment, self.training.random_seed());
        let longest = self.windows.iter().flatten().chain(&self.validation).map(|window| window.tokens.len()).max();
        let needed = needed_mib(&decoder, longest.unwrap_or_default().max(config.row_tokens), config.recompute);
        if let Some(available) = available_mib().filter(|available| experiment.device.is_cpu() && *available < needed) {
            tracing::warn!(
                "{}: a training needs about {needed:.0} MiB of memory and {available:.0} MiB are available, so the system may end it; \
                 `training.recompute = \"blocks\"` and a lower `training.row_tokens` need less",
                self.row
            );
        }
        run.train(&mut decoder, from)
    }

    /// Runs the training from the start or from its last checkpoint, and returns its best checkpoint. Reuses a finished
    /// training. Without `resume`, a training that has begun is an error.
    ///
    /// # Errors
    /// As [`train_arm`].
    pub(crate) fn run(&self, context: &Context<'_>, resume: bool) -> Result<PathBuf, StudyError> {
        let Self { row, folder, .. } = self;
        let _lock = FolderLock::exclusive(folder)?;
        let best = folder.join(BEST);
        let found = Resumable::find(folder)?;
        if let Some(found) = &found {
            if !resume {
                return Err(InputError::new(folder, "already holds a training")
                    .hint("add `--resume` to go on with it, or choose another `name`")
                    .into());
            }
            let Description { training_key, state, .. } = &found.checkpoint.description;
            if *training_key != self.fingerprint {
                let cause = "belongs to another experiment: the configuration, data or base model differ";
                return Err(InputError::new(&found.path, cause)
                    .at(Place::Named("training_key".into()))
                    .hint("choose another `name`, or remove the folder")
                    .into());
            }
            for error in &found.damaged {
                tracing::warn!("{row}: {error}");
            }
            if !found.damaged.is_empty() {
                tracing::warn!("{row}: goes on from `{}`, saved after step {}", found.path.display(), state.step);
            }
            // The first best checkpoint is written after a last one of the same step, which has its weights.
            let is_best = state.best.is_none_or(|best| best.step == state.step);
            if state.finished && !best.exists() && !is_best {
                return Err(InputError::new(&best, "is missing, though the training is finished")
                    .hint("restore it from a copy, or remove the folder to train again")
                    .into());
            }
            if state.finished && best.exists() {
                remove_surplus(folder, &context.study.experiment.training, state)?;
                tracing::debug!("{row}: reusing the finished training in `{}`", folder.display());
                return Ok(best);
            }
        }
        self.train(context, found.as_ref().map(|found| &found.checkpoint))?;
        Ok(best)
    }
}

/// Trains an arm in its folder and returns its best checkpoint. Reuses a finished training with the same fingerprint.
///
/// # Errors
/// No training user has a target; another process trains in the folder; the folder holds another training, or one that has begun and `resume` is off;
/// the loss is not a number; the user stopped it.
pub fn train_arm(context: &Context<'_>, arm: &Arm, training: Training, resume: bool) -> Result<PathBuf, StudyError> {
    let study = context.study;
    let job = TrainingJob::of_arm(context, arm, training, &study.training_folder(&arm.name, training))?;
    context.observe(&arm.name, Event::Training(&study.in_words(training)));
    job.run(context, resume)
}
