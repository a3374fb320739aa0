//! A whole study: every arm trained, scored and compared, and all results written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use undertone_data::Split;
use undertone_files::{FolderLock, InputError, Manifest, remove_leftovers_below};
use undertone_report::Curve;
use undertone_stats::{attributed_lines, parquet, written_lines};
use undertone_train::read_log;

use crate::amendments::check_folder;
use crate::base::Base;
use crate::context::Context;
use crate::digest::sha256_of_json;
use crate::error::StudyError;
use crate::jobs::attribute::ATTRIBUTED;
use crate::jobs::predict_thoughts::predict_thoughts;
use crate::jobs::score::record_lines;
use crate::jobs::write::MessageWriter;
use crate::judge::Judge;
use crate::names::{RESULTS, UNIGRAM, WRITTEN};
use crate::observer::Observer;
use crate::queue::{ArmResults, run_arms};
use crate::registration;
use crate::replies::{other_replies, prepare_other_replies};
use crate::results::{Course, Results, Scores};
use crate::stages::{require_unseen_by_stages, train_stages};
use crate::study::Study;

/// A study that has run.
pub struct Finished {
    /// What it found.
    pub results: Results,
    /// The folder with all result files.
    pub folder: PathBuf,
    /// The folders with the checkpoints of trained arms.
    pub checkpoints: Vec<PathBuf>,
    /// Why an arm, which no comparison includes, or the judge failed: the first failure.
    pub failure: Option<StudyError>,
}

/// How a study runs; results do not depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    /// The most trainings in parallel.
    pub workers: usize,
    /// Whether the conversations in the report are redacted.
    pub redact: bool,
}

impl Default for Choices {
    fn default() -> Self {
        Self { workers: 1, redact: false }
    }
}

/// Runs a study in its folder, from the start or from where it stopped: trains every arm, scores all on the same
/// held-out users, compares them, and writes results and report.
///
/// # Errors
/// An input is wrong, such as a folder of another study; another process writes in the folder; every trained arm failed;
/// or `stop` was set.
pub fn run(
    study: &mut Study,
    base: &Base,
    observer: &dyn Observer,
    stop: &AtomicBool,
    choices: Choices,
) -> Result<Finished, StudyError> {
    study.require_targets()?;
    let prepared = prepare_other_replies(study)?;
    let primary = study.primary_items(Split::Test);
    let writer = MessageWriter::new(study, &primary)?;
    let folder = study.experiment.folder();
    let _lock = FolderLock::exclusive(&folder)?;
    let amendments = check_folder(&Context { study, base, observer, stop })?.claim(&study.experiment)?;
    remove_leftovers_below(&folder);
    let section = study.experiment.evaluation.judge.clone();
    let judge = section.is_asked().then(|| Judge::open(&section, &folder, stop)).transpose()?;

    let base = &train_stages(&Context { study, base, observer, stop })?;
    require_unseen_by_stages(study, base);
    let thoughts = predict_thoughts(&Context { study, base, observer, stop })?;
    study.set_predicted(thoughts);
    let study = &*study;
    let ArmResults { arms, mut records, written, attributed, first_messages, mut scored, failed } =
        run_arms(&Context { study, base, observer, stop }, &writer, choices.workers)?;
    // The baseline has no arm, so it comes last.
    records.push(study.unigram());
    for record in records.iter_mut().flatten() {
        record.primary = primary.contains(&record.item);
    }
    let mut written = [written.concat(), writer.repeated()].concat();
    let judge_failed = match judge.map(|mut judge| judge.judge(&writer, &mut written)) {
        None => None,
        Some(Ok(notes)) => {
            scored.extend(notes);
            None
        }
        Some(Err(interrupted @ StudyError::Interrupted(_))) => return Err(interrupted),
        Some(Err(error)) => Some(error),
    };
    let other_replies = other_replies(&Context { study, base, observer, stop }, prepared, choices.workers, &primary)?;
    let scores = Scores {
        arms: &arms,
        records: &records,
        written: &written,
        attributed: &attributed,
        first_messages: &first_messages,
        other_replies: &other_replies,
    };
    let registration = registration::in_words(&Context { study, base, observer, stop })?;
    let course = Course {
        scored: &scored,
        failed: &failed,
        judge_failed: judge_failed.as_ref(),
        amendments: &amendments,
        registration: &registration,
    };
    let results = Results::new(study, &base.sha256, scores, course)?;
    let curves = learning_curves(study)?;
    let files = files(study, &results, scores, (curves, choices.redact))?;
    // An arm that fails now keeps the records that it has.
    let failed_records: Vec<String> = failed.iter().map(|failed| records_file(&failed.arm)).collect();
    let fingerprint = sha256_of_json(&[&study.data_sha256, &base.sha256, &study.experiment.hash()]);
    Manifest::read(&folder)?.write_all(&files, &fingerprint, |name| failed_records.iter().any(|kept| kept == name))?;
    let trained = arms.iter().filter(|arm| arm.is_trained_itself());
    let checkpoints = trained.map(|arm| folder.join(&arm.name)).collect();
    let failure = failed.into_iter().map(|failed| failed.error).chain(judge_failed).next();
    Ok(Finished { results, folder, checkpoints, failure })
}

/// The file with the records of an arm, or of a baseline.
fn records_file(arm: &str) -> String {
    format!("records/{arm}.jsonl")
}

/// Every file that a finished study has in its folder, by name: records, texts, results, report and plots.
fn files(
    study: &Study,
    results: &Results,
    scores: Scores<'_>,
    (curves, redact): (Vec<Curve>, bool),
) -> Result<BTreeMap<String, Vec<u8>>, StudyError> {
    let mut files = BTreeMap::new();
    let names = scores.arms.iter().map(|arm| arm.name.as_str()).chain([UNIGRAM]);
    for (name, records) in names.zip(scores.records) {
        files.insert(records_file(name), record_lines(records)?);
    }
    let table = parquet(&scores.records.iter().flatten().collect::<Vec<_>>());
    let json = serde_json::to_vec_pretty(results).expect("results are plain data");
    files.extend([
        ("records.parquet".to_owned(), table.map_err(|fault| StudyError::Scores(fault.to_string()))?),
        ("report.md".to_owned(), results.markdown().into_bytes()),
        (RESULTS.to_owned(), json),
    ]);
    for (name, lines) in [(WRITTEN, written_lines(scores.written)), (ATTRIBUTED, attributed_lines(scores.attributed))] {
        let lines = lines.expect("written to memory");
        if !lines.is_empty() {
            files.insert(name.to_owned(), lines);
        }
    }
    files.extend(
        results.html(study, scores, curves, redact).into_iter().map(|(name, content)| (name, content.into_bytes())),
    );
    Ok(files)
}

/// The training loss of each trained arm by step, averaged over folds and seeds.
fn learning_curves(study: &Study) -> Result<Vec<Curve>, InputError> {
    let mut curves = Vec::new();
    for arm in study.experiment.trained_arms() {
        let mut by_step: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for training in study.trainings() {
            let log = read_log(&study.training_folder(&arm.name, training))?;
            for scalars in log.into_iter().filter(|scalars| scalars.loss_nats_per_token.is_finite()) {
                by_step.entry(scalars.step).or_default().push(scalars.loss_nats_per_token);
            }
        }
        let mean = |(step, losses): (usize, Vec<f64>)| (step as f64, losses.iter().sum::<f64>() / losses.len() as f64);
        curves.push(Curve { name: arm.name.clone(), points: by_step.into_iter().map(mean).collect() });
    }
    Ok(curves)
}
