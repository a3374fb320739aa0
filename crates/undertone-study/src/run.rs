//! A whole study: every arm trained, scored and compared, and all results written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use undertone_data::Split;
use undertone_files::{FolderLock, InputError, remove_leftovers_below, write_whole};
use undertone_report::Curve;
use undertone_stats::{ItemRecord, attributed_lines, parquet, written_lines};
use undertone_train::read_log;

use crate::amendments::check_folder;
use crate::arms::{Evaluated, Failed};
use crate::base::Base;
use crate::context::Context;
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
use crate::study::Study;

/// A study that has run.
pub struct Finished {
    /// What it found.
    pub results: Results,
    /// The folder with all result files.
    pub folder: PathBuf,
    /// The folders with the checkpoints of trained arms.
    pub checkpoints: Vec<PathBuf>,
    /// Arms that failed; no comparison includes them.
    pub failed: Vec<Failed>,
}

/// Runs a study in its folder, from the start or from where it stopped: trains every arm, scores all on the same
/// held-out users, compares them, and writes results and report. Runs up to `workers` trainings in parallel.
///
/// # Errors
/// An input is wrong, such as a folder of another study; another process writes in the folder; every trained arm failed;
/// or `stop` was set.
pub fn run(
    study: &mut Study,
    base: &Base,
    observer: &dyn Observer,
    stop: &AtomicBool,
    workers: usize,
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

    let thoughts = predict_thoughts(&Context { study, base, observer, stop })?;
    study.set_predicted(thoughts);
    let study = &*study;
    let ArmResults { arms, mut records, written, attributed, first_messages, mut scored, failed } =
        run_arms(&Context { study, base, observer, stop }, &writer, workers)?;
    // The baseline has no arm, so it comes last.
    records.push(study.unigram());
    for record in records.iter_mut().flatten() {
        record.primary = primary.contains(&record.item);
    }
    write_records(&folder, &arms, &records)?;
    let mut written = [written.concat(), writer.repeated()].concat();
    if let Some(mut judge) = judge {
        scored.extend(judge.judge(&writer, &mut written)?);
    }
    write_or_remove(&folder.join(WRITTEN), written_lines(&written))?;
    write_or_remove(&folder.join(ATTRIBUTED), attributed_lines(&attributed))?;
    let other_replies = other_replies(&Context { study, base, observer, stop }, prepared, workers, &primary)?;
    let scores = Scores {
        arms: &arms,
        records: &records,
        written: &written,
        attributed: &attributed,
        first_messages: &first_messages,
        other_replies: &other_replies,
    };
    let registration = registration::in_words(&Context { study, base, observer, stop })?;
    let course = Course { scored: &scored, failed: &failed, amendments: &amendments, registration: &registration };
    let results = Results::new(study, &base.sha256, scores, course)?;
    write_results(study, &results, scores)?;
    let trained = arms.iter().filter(|arm| arm.is_trained_itself());
    let checkpoints = trained.map(|arm| folder.join(&arm.name)).collect();
    Ok(Finished { results, folder, checkpoints, failed })
}

/// Writes the records of every arm and of the unigram baseline, as JSON Lines and as Parquet.
fn write_records(folder: &Path, arms: &[Evaluated], records: &[Vec<ItemRecord>]) -> Result<(), StudyError> {
    let names = arms.iter().map(|arm| arm.name.as_str()).chain([UNIGRAM]);
    let mut files = BTreeSet::new();
    for (name, records) in names.zip(records) {
        let file = format!("{name}.jsonl");
        write_whole(&folder.join("records").join(&file), &record_lines(records)?)?;
        files.insert(file);
    }
    remove_others(&folder.join("records"), &files)?;
    let table = parquet(&records.iter().flatten().collect::<Vec<_>>())
        .map_err(|fault| StudyError::Scores(fault.to_string()))?;
    Ok(write_whole(&folder.join("records.parquet"), &table)?)
}

/// Writes lines to a file; removes it if there are none.
fn write_or_remove(path: &Path, lines: std::io::Result<Vec<u8>>) -> Result<(), InputError> {
    let lines = lines.expect("written to memory");
    if !lines.is_empty() {
        return write_whole(path, &lines);
    }
    if path.exists() {
        std::fs::remove_file(path).map_err(|error| InputError::io(path, "remove", &error))?;
    }
    Ok(())
}

/// Writes `results.json`, `report.md`, `report.html` and the plots.
fn write_results(study: &Study, results: &Results, scores: Scores<'_>) -> Result<(), InputError> {
    let folder = study.experiment.folder();
    write_whole(&folder.join("report.md"), results.markdown().as_bytes())?;
    let json = serde_json::to_vec_pretty(results).expect("results are plain data");
    write_whole(&folder.join(RESULTS), &json)?;
    let pages = results.html(study, scores, learning_curves(study)?);
    let plots = pages.iter().filter_map(|(name, _)| name.strip_prefix("plots/").map(str::to_owned)).collect();
    remove_others(&folder.join("plots"), &plots)?;
    for (name, content) in pages {
        write_whole(&folder.join(name), content.as_bytes())?;
    }
    Ok(())
}

/// Removes the files of a results folder that an earlier run of the study left, except those in `keep`.
fn remove_others(folder: &Path, keep: &BTreeSet<String>) -> Result<(), InputError> {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let is_kept = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| keep.contains(name));
        if !is_kept && path.is_file() {
            std::fs::remove_file(&path).map_err(|error| InputError::io(&path, "remove", &error))?;
        }
    }
    Ok(())
}

/// The training loss of each trained arm by step, averaged over folds and seeds.
fn learning_curves(study: &Study) -> Result<Vec<Curve>, InputError> {
    let mut curves = Vec::new();
    for arm in study.experiment.trained_arms() {
        let mut by_step: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for training in study.trainings() {
            for scalars in read_log(&study.training_folder(&arm.name, training))? {
                by_step.entry(scalars.step).or_default().push(scalars.loss_nats_per_token);
            }
        }
        let mean = |(step, losses): (usize, Vec<f64>)| (step as f64, losses.iter().sum::<f64>() / losses.len() as f64);
        curves.push(Curve { name: arm.name.clone(), points: by_step.into_iter().map(mean).collect() });
    }
    Ok(curves)
}
