//! Runs and scores every training of every arm, one at a time or several in parallel.
//!
//! The calling thread sends jobs to workers through one channel and receives their outcomes through another. The
//! threads share only the context.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use undertone_files::InputError;
use undertone_model::Decoder;
use undertone_score::KnownRows;
use undertone_stats::{Attributed, ItemRecord, Written, counted};
use undertone_train::{Checkpoint, Description, LAST, State, TrainingConfig};

use crate::arms::{Evaluated, Failed, Model, Training};
use crate::context::Context;
use crate::error::StudyError;
use crate::jobs::attribute::{attribute, is_attributed};
use crate::jobs::first_messages::{FirstMessages, first_messages, first_messages_file};
use crate::jobs::score::score_arm;
use crate::jobs::train::train_arm;
use crate::jobs::write::MessageWriter;
use crate::names::UNTRAINED;
use crate::observer::Event;

/// Results per arm.
pub(crate) struct ArmResults {
    /// The arms that did not fail.
    pub(crate) arms: Vec<Evaluated>,
    /// Their records, arm by arm.
    pub(crate) records: Vec<Vec<ItemRecord>>,
    /// The messages they wrote, arm by arm.
    pub(crate) written: Vec<Vec<Written>>,
    /// What single thoughts did.
    pub(crate) attributed: Vec<Attributed>,
    /// First messages from each model, by the arm that trains it, or under `untrained`.
    pub(crate) first_messages: Vec<(String, Vec<FirstMessages>)>,
    /// One sentence per training: after which step it was scored.
    pub(crate) scored: Vec<String>,
    pub(crate) failed: Vec<Failed>,
}

/// One model, trained or not, and the arms that are scored with it.
struct Job {
    /// The arm that trains the model, or the first arm of the untrained model; also the observer's row.
    name: String,
    training: Training,
    /// By index.
    arms: Vec<usize>,
}

/// Results of one job.
#[derive(Default)]
struct Outcome {
    /// By the index of the arm.
    records: Vec<(usize, Vec<ItemRecord>)>,
    written: Vec<(usize, Vec<Written>)>,
    attributed: Vec<Attributed>,
    first_messages: Option<FirstMessages>,
    /// The sentence that says after which step the model was scored.
    scored: Option<String>,
}

/// What a worker sends back: the index of the job, and its outcome or a caught panic.
type Report = (usize, thread::Result<Result<Outcome, StudyError>>);

/// Trains and scores every arm in every fold with every seed, `workers` jobs at a time. If one arm fails, the others
/// go on. The results do not depend on `workers`, nor on where an earlier run stopped.
///
/// # Errors
/// The user stopped it; or every trained arm failed, and then the first failure is returned.
pub(crate) fn run_arms(
    context: &Context<'_>,
    writer: &MessageWriter,
    workers: usize,
) -> Result<ArmResults, StudyError> {
    let arms = context.study.evaluated();
    let all = all_jobs(context, &arms);
    let workers = workers.clamp(1, all.len().max(1));
    let mut rows: Vec<(String, usize)> = Vec::new();
    for job in &all {
        match rows.iter_mut().find(|(name, _)| *name == job.name) {
            Some((_, trainings)) => *trainings += 1,
            None => rows.push((job.name.clone(), 1)),
        }
    }
    context.observer.rows(&rows);
    let (outcomes, failed) = thread::scope(|scope| {
        let (to_workers, places) = unbounded::<usize>();
        let (to_dispatcher, reports) = unbounded::<Report>();
        for _ in 0..workers {
            let (places, to_dispatcher) = (places.clone(), to_dispatcher.clone());
            let (all, arms) = (&all, &arms);
            scope.spawn(move || {
                for place in places {
                    let run = AssertUnwindSafe(|| run(context, writer, arms, &all[place]));
                    // The dispatcher is gone after a panic of another worker.
                    let _ = to_dispatcher.send((place, catch_unwind(run)));
                }
            });
        }
        dispatch(context, &all, workers, &to_workers, &reports)
    })?;
    gathered(arms, &all, outcomes, failed)
}

/// Keeps the workers busy until every job is done or has failed, or the user stops.
fn dispatch(
    context: &Context<'_>,
    all: &[Job],
    workers: usize,
    to_workers: &Sender<usize>,
    reports: &Receiver<Report>,
) -> Result<(Vec<Option<Outcome>>, Vec<Failed>), StudyError> {
    let mut outcomes: Vec<Option<Outcome>> = all.iter().map(|_| None).collect();
    let (mut failed, mut interrupted) = (Vec::<Failed>::new(), None);
    let (mut next, mut running) = (0..all.len(), 0);
    loop {
        while running < workers && interrupted.is_none() {
            let Some(place) = next.find(|&place| !failed.iter().any(|failed| failed.arm == all[place].name)) else {
                break;
            };
            to_workers.send(place).expect("workers wait for jobs");
            running += 1;
        }
        if running == 0 {
            return interrupted.map_or(Ok((outcomes, failed)), Err);
        }
        let (place, outcome) = reports.recv().expect("a job is running");
        running -= 1;
        let name = &all[place].name;
        // A panic is a defect of ours: it ends the program as it would without threads.
        match outcome.unwrap_or_else(|panic| {
            // The other workers save and stop, so that the panic does not wait for their trainings.
            context.stop.store(true, Ordering::Relaxed);
            resume_unwind(panic)
        }) {
            Ok(outcome) => {
                outcomes[place] = Some(outcome);
                context.observe(name, Event::Finished);
            }
            Err(error @ StudyError::Interrupted(_)) => interrupted = interrupted.or(Some(error)),
            Err(error) => {
                tracing::error!("{name}: failed; the other arms go on: {error}");
                context.observe(name, Event::Failed);
                failed.push(Failed { arm: name.clone(), error });
            }
        }
    }
}

/// One job per model, fold by fold and seed by seed: a stopped study has all arms of the folds that are done.
fn all_jobs(context: &Context<'_>, arms: &[Evaluated]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for training in context.study.trainings() {
        for (place, arm) in arms.iter().enumerate() {
            if arm.trained().is_none() && !context.study.scores_untrained_in(training) {
                continue;
            }
            let name = arm.trained_name();
            match jobs.iter_mut().find(|job| job.name == name && job.training == training) {
                Some(job) => job.arms.push(place),
                None => jobs.push(Job { name: name.to_owned(), training, arms: vec![place] }),
            }
        }
    }
    jobs
}

/// Trains a model unless that is done, and scores every arm that uses it.
fn run(context: &Context<'_>, writer: &MessageWriter, arms: &[Evaluated], job: &Job) -> Result<Outcome, StudyError> {
    let Context { study, base, .. } = context;
    let Job { name, training, arms: places } = job;
    let experiment = &study.experiment;
    let trained = arms[places[0]].trained();
    let mut outcome = Outcome::default();
    let best = match trained {
        None => None,
        Some(trained) => {
            let best = train_arm(context, trained, *training, true)?;
            // If all scores are there, the best checkpoint is not read: a damaged one cannot withhold them.
            let last = Description::read(&study.training_folder(name, *training).join(LAST))?;
            let which = training.folder(experiment.seed);
            let after = scored_after(&last.state, &experiment.training);
            outcome.scored = Some(format!("`{name}`, {which}: {after}"));
            Some(best)
        }
    };
    let decoder = || -> Result<Decoder, InputError> {
        match (&best, &arms[places[0]].model) {
            (Some(best), _) => base.restored(experiment, &Checkpoint::read(best)?, best),
            (None, Model::Staged) => Ok(base.trainable(experiment, experiment.seed)),
            (None, _) => Ok(base.decoder.clone()),
        }
    };
    // All arms of a job share one model.
    let mut known = KnownRows::default();
    for &place in places {
        let arm = &arms[place];
        let records = score_arm(context, arm, *training, decoder, &mut known)?;
        if is_attributed(study, arm, *training) {
            outcome.attributed = attribute(context, arm, *training, decoder, &records)?;
        }
        outcome.records.push((place, records));
        if writer.messages() > 0 {
            outcome.written.push((place, writer.write(context, arm, *training, decoder)?));
        }
    }
    if study.makes_up_first_messages(*training, &arms[places[0]]) {
        let file = first_messages_file(context, name, trained, *training);
        outcome.first_messages = Some(first_messages(context, training.seed, decoder, &file)?);
    }
    Ok(outcome)
}

/// After which step a finished training is scored, and what a reader should know of its steps.
fn scored_after(state: &State, config: &TrainingConfig) -> String {
    let State { step: taken, best, skipped_steps, .. } = *state;
    let mut sentences = format!("scored after step {} of {taken}.", best.map_or(taken, |best| best.step));
    if skipped_steps > 0 {
        let skipped = counted(skipped_steps, "step");
        sentences += &format!(" {skipped} skipped, because the loss or the gradient was not finite.");
    }
    if taken < config.warmup_steps {
        let highest = config.learning_rate_at(taken.saturating_sub(1), taken);
        sentences += &format!(" It ended within its warm-up: the learning rate reached {highest:.1e}.");
    }
    sentences
}

/// Gathers all outcomes in the order of the arms, without the arms that failed.
fn gathered(
    arms: Vec<Evaluated>,
    jobs: &[Job],
    outcomes: Vec<Option<Outcome>>,
    mut failed: Vec<Failed>,
) -> Result<ArmResults, StudyError> {
    let mut all: Vec<(Evaluated, Vec<ItemRecord>, Vec<Written>)> =
        arms.into_iter().map(|arm| (arm, Vec::new(), Vec::new())).collect();
    let (mut scored, mut attributed) = (Vec::new(), Vec::new());
    let mut first_messages = Vec::<(String, Vec<FirstMessages>)>::new();
    for (job, outcome) in jobs.iter().zip(outcomes).filter_map(|(job, outcome)| Some((job, outcome?))) {
        outcome.records.into_iter().for_each(|(place, records)| all[place].1.extend(records));
        outcome.written.into_iter().for_each(|(place, written)| all[place].2.extend(written));
        scored.extend(outcome.scored);
        let has_failed = failed.iter().any(|failed| failed.arm == job.name);
        attributed.extend(outcome.attributed.into_iter().filter(|_| !has_failed));
        if let Some(one) = outcome.first_messages {
            let name = all[job.arms[0]].0.trained().map_or(UNTRAINED, |_| &job.name);
            match first_messages.iter_mut().find(|(arm, _)| arm == name) {
                Some((_, all)) => all.push(one),
                None => first_messages.push((name.to_owned(), vec![one])),
            }
        }
    }
    let has_failed = |name: &str| failed.iter().any(|failed| failed.arm == name);
    all.retain(|(arm, ..)| !has_failed(arm.trained_name()));
    first_messages.retain(|(name, _)| !has_failed(name));
    if !failed.is_empty() && !all.iter().any(|(arm, ..)| arm.trained().is_some()) {
        return Err(failed.remove(0).error);
    }
    let mut results = ArmResults {
        arms: Vec::new(),
        records: Vec::new(),
        written: Vec::new(),
        attributed,
        first_messages,
        scored,
        failed,
    };
    for (arm, records, written) in all {
        results.arms.push(arm);
        results.records.push(records);
        results.written.push(written);
    }
    Ok(results)
}
