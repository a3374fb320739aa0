//! Trains one arm, or one writer of thoughts, from the start or from its last checkpoint.

use std::path::{Path, PathBuf};

use undertone_data::{Split, Stream};
use undertone_files::{FolderLock, InputError, Place};
use undertone_train::{Checkpoint, Description, Run};

use crate::arms::Training;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::Arm;
use crate::fingerprint;
use crate::observer::{Event, RowProgress};

/// One training, ready to run.
pub(crate) struct TrainingJob<'a> {
    /// The observer's row.
    pub(crate) row: &'a str,
    /// The arm's name, for the checkpoint.
    pub(crate) arm: &'a str,
    pub(crate) training: Training,
    /// What determines the weights.
    pub(crate) fingerprint: String,
    /// One list of windows for all epochs, or one per epoch.
    pub(crate) windows: &'a [Vec<Stream>],
    pub(crate) validation: &'a [Stream],
    /// Where checkpoints and logs go.
    pub(crate) folder: &'a Path,
    /// Whether to resume a training that has begun; if not, its checkpoint is an error.
    pub(crate) resume: bool,
}

/// Trains an arm in its folder and returns its best checkpoint. Reuses a finished training with the same fingerprint.
///
/// # Errors
/// No training user has a target; another process trains in the folder; the folder holds another training, or one that has begun and `resume` is off;
/// the loss is not a number; the user stopped it.
pub fn train_arm(context: &Context<'_>, arm: &Arm, training: Training, resume: bool) -> Result<PathBuf, StudyError> {
    let Context { study, base, .. } = context;
    // With thought dropout, each epoch drops other thoughts.
    let epochs = if arm.thought_dropout > 0.0 { study.experiment.training.epochs as u64 } else { 1 };
    let windows: Vec<Vec<Stream>> =
        (0..epochs).map(|epoch| study.training_streams(arm, training, Split::Train, Some(epoch))).collect();
    if windows[0].is_empty() {
        return Err(study.no_training_target(arm).into());
    }
    context.observe(&arm.name, Event::Training(&study.in_words(training)));
    train(
        context,
        TrainingJob {
            row: &arm.name,
            arm: &arm.name,
            training,
            fingerprint: fingerprint::of_training(study, base, arm, training),
            windows: &windows,
            validation: &study.training_streams(arm, training, Split::Validation, None),
            folder: &study.training_folder(&arm.name, training),
            resume,
        },
    )
}

/// Runs a training from the start or from its last checkpoint, and returns its best checkpoint.
///
/// # Errors
/// As [`train_arm`].
pub(crate) fn train(context: &Context<'_>, job: TrainingJob<'_>) -> Result<PathBuf, StudyError> {
    let Context { study, base, observer, stop } = *context;
    let TrainingJob { row, arm, training, fingerprint, windows, validation, folder, resume } = job;
    let experiment = &study.experiment;
    let _lock = FolderLock::exclusive(folder)?;
    let run = Run {
        config: &experiment.training,
        seed: training.random_seed(),
        training: windows,
        validation,
        folder,
        progress: &RowProgress { observer, row },
        description: Description::new(
            experiment.resolved(),
            fingerprint.clone(),
            base.sha256.clone(),
            arm.to_owned(),
            training.fold,
            training.seed,
        ),
        stop,
    };
    let last = run.last();
    let checkpoint = if last.exists() { Some(Checkpoint::read(&last)?) } else { None };
    if let Some(Checkpoint { description, .. }) = &checkpoint {
        if !resume {
            return Err(InputError::new(folder, "already holds a training")
                .hint("add `--resume` to go on with it, or choose another `name`")
                .into());
        }
        if description.training_key != fingerprint {
            let cause = "belongs to another experiment: the configuration, data or base model differ";
            return Err(InputError::new(&last, cause)
                .at(Place::Named("training_key".into()))
                .hint("choose another `name`, or remove the folder")
                .into());
        }
        if description.state.finished && run.best().exists() {
            tracing::debug!("{row}: reusing the finished training in `{}`", folder.display());
            return Ok(run.best());
        }
    }
    let mut decoder = base.trainable(experiment, training.random_seed());
    run.train(&mut decoder, checkpoint.as_ref())?;
    Ok(run.best())
}
