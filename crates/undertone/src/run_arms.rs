//! Every training of every arm, run and scored: one after another, or several side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use undertone_data::InputError;
use undertone_eval::{ItemRecord, KnownRows, Written};
use undertone_model::Decoder;
use undertone_train::{Checkpoint, TrainError};

use crate::base::Base;
use crate::progress::{Board, Line};
use crate::study::{Evaluated, Failed, Study, Training, UNTRAINED};
use crate::writing::{MadeUp, Writer, first_messages};

/// What came of the arms.
pub(crate) struct Ran {
    /// Those that came to their end.
    pub(crate) arms: Vec<Evaluated>,
    /// Their records, arm by arm.
    pub(crate) records: Vec<Vec<ItemRecord>>,
    /// What they wrote, arm by arm.
    pub(crate) written: Vec<Vec<Written>>,
    /// First messages that each model made up, by the arm whose training it is.
    pub(crate) made_up: Vec<(String, Vec<MadeUp>)>,
    /// After which step each training was scored, in words.
    pub(crate) scored: Vec<String>,
    pub(crate) failed: Vec<Failed>,
}

/// One model: a training, or none, and the places of the arms that are scored with it.
struct Job {
    /// The arm whose training it is, or the first arm of the untrained model.
    name: String,
    training: Training,
    arms: Vec<usize>,
}

/// What came of one job.
#[derive(Default)]
struct Outcome {
    /// By the place of the arm.
    records: Vec<(usize, Vec<ItemRecord>)>,
    written: Vec<(usize, Vec<Written>)>,
    made_up: Option<MadeUp>,
    /// After which step it was scored, in words.
    scored: Option<String>,
}

/// Trains and scores every arm in every fold with every seed, `jobs` at a time. An arm that fails does not take the
/// others along. The results do not depend on `jobs`, nor on what was finished before.
///
/// # Errors
/// The user stopped it; or no arm with a training came to its end, and so the first one's failure.
pub(crate) fn run_arms(study: &Study, base: &Base, writer: &Writer, jobs: usize) -> anyhow::Result<Ran> {
    let arms = study.evaluated();
    let all = all_jobs(study, &arms);
    let mut names: Vec<String> = Vec::new();
    for job in &all {
        if !names.contains(&job.name) {
            names.push(job.name.clone());
        }
    }
    let of_name = |name: &str| all.iter().filter(|job| job.name == name).count();
    let board = Board::new(&names.iter().map(|name| (name.clone(), of_name(name))).collect::<Vec<_>>());
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(all.iter().map(|_| None).collect());
    let (failed, stopped) = (Mutex::new(Vec::<Failed>::new()), Mutex::new(None::<anyhow::Error>));
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((place, job)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, all.get(at)?)))
        {
            let line = board.line(&job.name);
            let has_failed = locked(&failed).iter().any(|failed| failed.arm == job.name);
            if has_failed || locked(&stopped).is_some() {
                continue;
            }
            match run(study, base, writer, &arms, job, line) {
                Ok(outcome) => {
                    locked(&outcomes)[place] = Some(outcome);
                    line.end_training();
                }
                Err(error) if matches!(error.downcast_ref(), Some(TrainError::Interrupted(_))) => {
                    locked(&stopped).get_or_insert(error);
                }
                Err(error) => {
                    line.note(&format!("failed; the other arms go on: {error:#}"));
                    line.fail();
                    locked(&failed).push(Failed { arm: job.name.clone(), error });
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.clamp(1, all.len().max(1))).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A defect of ours ends the program as it would without threads.
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    if let Some(error) = stopped.into_inner().expect("no worker panicked") {
        return Err(error);
    }
    let outcomes = outcomes.into_inner().expect("no worker panicked");
    gathered(arms, &all, outcomes, failed.into_inner().expect("no worker panicked"))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// Every model that is scored, fold by fold and seed by seed, so that a study that is cut off has whole arms to compare.
fn all_jobs(study: &Study, arms: &[Evaluated]) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for training in study.trainings() {
        for (place, arm) in arms.iter().enumerate() {
            // The untrained model has no seed: it is scored once.
            if arm.trained.is_none() && training.seed != study.experiment.seed {
                continue;
            }
            let name = arm.trained.as_ref().map_or(&arm.name, |trained| &trained.name);
            match jobs.iter_mut().find(|job| job.name == *name && job.training == training) {
                Some(job) => job.arms.push(place),
                None => jobs.push(Job { name: name.clone(), training, arms: vec![place] }),
            }
        }
    }
    jobs
}

/// Everything in the order of the arms; arms that failed are left out.
fn gathered(
    arms: Vec<Evaluated>,
    jobs: &[Job],
    outcomes: Vec<Option<Outcome>>,
    mut failed: Vec<Failed>,
) -> anyhow::Result<Ran> {
    let mut all: Vec<(Evaluated, Vec<ItemRecord>, Vec<Written>)> =
        arms.into_iter().map(|arm| (arm, Vec::new(), Vec::new())).collect();
    let (mut scored, mut made_up) = (Vec::new(), Vec::<(String, Vec<MadeUp>)>::new());
    for (job, outcome) in jobs.iter().zip(outcomes).filter_map(|(job, outcome)| Some((job, outcome?))) {
        outcome.records.into_iter().for_each(|(place, of_job)| all[place].1.extend(of_job));
        outcome.written.into_iter().for_each(|(place, of_job)| all[place].2.extend(of_job));
        scored.extend(outcome.scored);
        if let Some(one) = outcome.made_up {
            let name = all[job.arms[0]].0.trained.as_ref().map_or(UNTRAINED, |_| &job.name);
            match made_up.iter_mut().find(|(arm, _)| arm == name) {
                Some((_, all)) => all.push(one),
                None => made_up.push((name.to_owned(), vec![one])),
            }
        }
    }
    all.retain(|(arm, ..)| !failed.iter().any(|failed| failed.takes_along(arm)));
    made_up.retain(|(name, _)| !failed.iter().any(|failed| failed.arm == *name));
    if !failed.is_empty() && !all.iter().any(|(arm, ..)| arm.trained.is_some()) {
        return Err(failed.remove(0).error);
    }
    let mut ran = Ran { arms: Vec::new(), records: Vec::new(), written: Vec::new(), made_up, scored, failed };
    for (arm, records, written) in all {
        ran.arms.push(arm);
        ran.records.push(records);
        ran.written.push(written);
    }
    Ok(ran)
}

/// One model, from wherever it stands: trained, and every arm that is scored with it.
fn run(
    study: &Study,
    base: &Base,
    writer: &Writer,
    arms: &[Evaluated],
    job: &Job,
    line: &Line,
) -> anyhow::Result<Outcome> {
    let experiment = &study.experiment;
    let mut outcome = Outcome::default();
    let best = match &arms[job.arms[0]].trained {
        None => None,
        Some(trained) => {
            let folder = study.folder(&job.name, job.training);
            let best = study.train(trained, job.training, base, &folder, true, line)?;
            let scored = Checkpoint::read(&best)?.description.state.step;
            let taken = Checkpoint::read(&folder.join("last.safetensors"))?.description.state.step;
            let which = job.training.folder(experiment);
            outcome.scored = Some(format!("`{}`, {which}: scored after step {scored} of {taken}.", job.name));
            Some(best)
        }
    };
    let decoder = || -> Result<Decoder, InputError> {
        match &best {
            None => Ok(base.decoder.clone()),
            Some(best) => base.restored(experiment, &Checkpoint::read(best)?, best),
        }
    };
    // All arms of a job are of one model.
    let mut known = KnownRows::default();
    for &place in &job.arms {
        let arm = &arms[place];
        let kept = study.records(arm, job.training, base);
        outcome.records.push((place, study.evaluate(arm, job.training, decoder, &mut known, &kept, line)?));
        if writer.messages() > 0 {
            let kept = study.written(arm, job.training, base, writer);
            outcome.written.push((place, writer.write(study, arm, job.training, decoder, &kept, line)?));
        }
    }
    if study.makes_up_first_messages(job.training, &arms[job.arms[0]]) {
        let trained = arms[job.arms[0]].trained.as_ref();
        let kept = study.made_up(&job.name, trained, job.training, base);
        outcome.made_up = Some(first_messages(study, job.training.seed, decoder, &kept)?);
    }
    Ok(outcome)
}
