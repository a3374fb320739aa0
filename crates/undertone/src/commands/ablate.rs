//! `undertone ablate`: train every arm, score all on the same held-out users, compare and report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use undertone_data::{InputError, Split, remove_leftovers, write_whole};
use undertone_eval::{parquet, written_lines};
use undertone_report::Curve;
use undertone_train::read_log;

use super::{plan, print_json, print_text};
use crate::amendments::look;
use crate::base::Base;
use crate::cli::Ablate;
use crate::experiment::Experiment;
use crate::judge::Judge;
use crate::report::{Course, Results, Scores};
use crate::run_arms::{Ran, run_arms};
use crate::study::{Evaluated, Failed, Study, UNIGRAM, record_lines};
use crate::writing::Writer;

pub(crate) fn run(args: &Ablate, json: bool) -> anyhow::Result<()> {
    let path = &args.experiment.experiment;
    let mut study = Study::prepare(Experiment::read(path, &args.experiment.set)?, path, &[])?;
    study.require_targets()?;
    let base = Base::load(&study.experiment)?;
    if args.plan {
        return plan::run(&study, &base, json);
    }
    let primary = study.primary_items(Split::Test);
    let writer = Writer::new(&study, &primary)?;
    let folder = study.experiment.folder();
    let amendments = look(&study, &base)?.take(&folder)?;
    remove_leftovers(&folder);
    remove_leftovers(&folder.join("records"));
    let section = study.experiment.evaluation.judge.clone();
    let judge = section.is_asked().then(|| Judge::open(&section, &folder)).transpose()?;

    study.predict_thoughts(&base)?;
    let study = study;
    let Ran { arms, mut records, written, made_up, mut scored, failed } =
        run_arms(&study, &base, &writer, args.jobs.into())?;
    // The yardsticks have no arm: they stand last.
    records.push(study.unigram());
    let mut written = [written.concat(), writer.repeated()].concat();
    let names = arms.iter().map(|arm| arm.name.as_str()).chain([UNIGRAM]);
    let files: BTreeSet<String> = names.clone().map(|name| format!("{name}.jsonl")).collect();
    for (name, records) in names.zip(&mut records) {
        for record in records.iter_mut() {
            record.primary = primary.contains(&record.item);
        }
        write_whole(&folder.join("records").join(format!("{name}.jsonl")), &record_lines(records)?)?;
    }
    remove_others(&folder.join("records"), &files)?;
    write_whole(&folder.join("records.parquet"), &parquet(&records.concat())?)?;
    if let Some(mut judge) = judge {
        scored.extend(judge.judge(&writer, &mut written)?);
    }
    let of_all = folder.join("written.jsonl");
    match written.is_empty() {
        true if of_all.exists() => {
            std::fs::remove_file(&of_all).map_err(|error| InputError::io(&of_all, "remove", &error))?
        }
        true => {}
        false => write_whole(&of_all, &written_lines(&written)?)?,
    }
    let scores = Scores { arms: &arms, records: &records, written: &written, made_up: &made_up };
    let course = Course { scored: &scored, failed: &failed, amendments: &amendments };
    let results = Results::new(&study, &base.sha256, scores, course)?;
    report(&study, &results, scores, json)?;
    match failed.into_iter().next() {
        None => Ok(()),
        Some(Failed { error, .. }) => Err(error),
    }
}

/// Everything that is read: files, the terminal, and where the files are.
fn report(study: &Study, results: &Results<'_>, scores: Scores<'_>, json: bool) -> anyhow::Result<()> {
    let folder = study.experiment.folder();
    write_whole(&folder.join("report.md"), results.markdown().as_bytes())?;
    write_whole(&folder.join("results.json"), &serde_json::to_vec_pretty(results)?)?;
    let pages = results.html(study, scores, learning_curves(study)?);
    let plots = pages.iter().filter_map(|(name, _)| name.strip_prefix("plots/").map(str::to_owned)).collect();
    remove_others(&folder.join("plots"), &plots)?;
    for (name, content) in pages {
        write_whole(&folder.join(name), content.as_bytes())?;
    }
    match json {
        true => print_json(results),
        false => print_text(&results.terminal()),
    }
    for verdict in results.verdicts() {
        eprintln!("{verdict}");
    }
    let report = folder.join("report.html");
    eprintln!("\nreport:      {}\nresults:     {}", report.display(), folder.join("results.json").display());
    let is_trained = |arm: &&Evaluated| arm.trained.as_ref().is_some_and(|trained| trained.name == arm.name);
    for arm in scores.arms.iter().filter(is_trained) {
        eprintln!("checkpoints: {}", folder.join(&arm.name).display());
    }
    Ok(())
}

/// Removes the files of a folder of results that an earlier form of the study left.
fn remove_others(folder: &Path, kept: &BTreeSet<String>) -> Result<(), InputError> {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let is_kept = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| kept.contains(name));
        if !is_kept && path.is_file() {
            std::fs::remove_file(&path).map_err(|error| InputError::io(&path, "remove", &error))?;
        }
    }
    Ok(())
}

/// The training loss of each trained arm by step, the mean over folds and seeds.
fn learning_curves(study: &Study) -> Result<Vec<Curve>, InputError> {
    let experiment = &study.experiment;
    let mut curves = Vec::new();
    for arm in experiment.arms.iter().filter(|arm| experiment.trained(arm).name == arm.name) {
        let mut by_step: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for training in study.trainings() {
            for scalars in read_log(&study.folder(&arm.name, training))? {
                by_step.entry(scalars.step).or_default().push(scalars.loss_nats_per_token);
            }
        }
        let mean = |(step, losses): (usize, Vec<f64>)| (step as f64, losses.iter().sum::<f64>() / losses.len() as f64);
        curves.push(Curve { name: arm.name.clone(), points: by_step.into_iter().map(mean).collect() });
    }
    Ok(curves)
}
