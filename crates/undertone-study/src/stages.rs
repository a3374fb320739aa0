//! The stages of an experiment: what the model is trained on before every arm.
//!
//! A stage is an experiment of its own with one arm and no test users. It is trained once, for all arms, folds and seeds:
//! every user of the study is kept out of it, so every user can be tested after it.

use std::sync::Arc;

use undertone_data::Split;
use undertone_files::InputError;
use undertone_train::{Description, LAST};

use crate::base::Base;
use crate::context::Context;
use crate::error::StudyError;
use crate::fingerprint;
use crate::jobs::train::TrainingJob;
use crate::observer::Event;
use crate::study::{Stage, Study};

/// Reads and lays out the conversations of every stage, so that what is wrong with one is known before anything is
/// trained.
///
/// # Errors
/// The conversations of a stage cannot be read, none of them is left, or none has a target.
pub fn prepare_stages(study: &mut Study, base: &Base) -> Result<(), InputError> {
    for experiment in study.experiment.stage_experiments() {
        let path = experiment.data.path.as_slice()[0].clone();
        let mut stage = Study::prepare(experiment, &path, &[])?;
        stage.start = study.start.take();
        let (arm, training) = (&stage.experiment.arms[0], stage.first_training(0));
        if stage.training_streams(arm, training, Split::Train, None).is_empty() {
            return Err(stage.no_training_target(arm));
        }
        let key = fingerprint::of_training(&stage, base, arm, training);
        study.start = Some(Arc::new(Stage { study: stage, key }));
    }
    Ok(())
}

/// The base model with the weights of the last stage, with which the trainings of the arms begin; without stages, the base
/// model as it is. Trains every stage that is not finished.
///
/// # Errors
/// A training fails; the user stopped it.
pub fn train_stages(context: &Context<'_>) -> Result<Base, StudyError> {
    let Context { study, base, observer, .. } = *context;
    let Some(stage) = study.start.as_deref() else { return Ok(base.clone()) };
    let before = train_stages(&Context { study: &stage.study, ..*context })?;
    let context = Context { study: &stage.study, base: &before, ..*context };
    let (arm, training) = stage.training();
    let mut job = TrainingJob::of_arm(&context, arm, training, &stage.folder())?;
    job.row = format!("stage `{}`", arm.name);
    observer.rows(&[(job.row.clone(), 1)]);
    context.observe(&job.row, Event::Training(""));
    let best = job.run(&context, true)?;
    context.observe(&job.row, Event::Finished);
    Ok(before.starting_from(&stage.study.experiment, &best)?)
}

/// Checks that every stage is trained, for commands that train none.
///
/// # Errors
/// A stage is not finished.
pub(crate) fn require_trained_stages(study: &Study) -> Result<(), InputError> {
    for stage in study.stages() {
        let last = stage.folder().join(LAST);
        if !Description::read(&last).is_ok_and(|last| last.state.finished) {
            return Err(InputError::new(
                last,
                "is no finished training, and the checkpoint was trained after this stage",
            )
            .hint("`undertone ablate` trains the stages"));
        }
    }
    Ok(())
}

/// Checks that no stage has seen a user of the study.
///
/// # Panics
/// If one has: their conversations are left out of every stage, so that is a defect of ours.
pub(crate) fn require_unseen_by_stages(study: &Study, base: &Base) {
    let earlier = base.earlier_users();
    let known = study.encoded.iter().find(|one| earlier.contains(&one.conversation.user));
    assert!(known.is_none(), "a stage was trained on the user {:?}", known.map(|one| &one.conversation.user));
}
