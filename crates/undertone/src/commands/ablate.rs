//! `undertone ablate`: train every arm, score all on the same held-out users, compare and report.

use std::collections::BTreeMap;

use undertone_data::{InputError, Split, remove_leftovers, write_whole};
use undertone_eval::{parquet, written_lines};
use undertone_report::Curve;
use undertone_train::read_log;

use super::{plan, print_json, print_text};
use crate::base::Base;
use crate::cli::Ablate;
use crate::experiment::Experiment;
use crate::report::{Results, Scores};
use crate::run_arms::{Ran, run_arms};
use crate::study::{Failed, PROGRAM, Study, UNIGRAM, save_records};
use crate::writing::Writer;

pub(crate) fn run(args: &Ablate, json: bool) -> anyhow::Result<()> {
    let path = &args.experiment.experiment;
    let experiment = Experiment::read(path, &args.experiment.set)?;
    let study = Study::prepare(experiment, path, &[])?;
    study.require_targets()?;
    let experiment = &study.experiment;
    let folder = experiment.folder();
    // The folder belongs to one study, by experiment, data and base model; with the same it goes on.
    let base = Base::load(experiment)?;
    if args.plan {
        return plan::run(&study, &base, json);
    }
    let identity = format!(
        "# {PROGRAM}\n# data sha256 {}\n# base model sha256 {}\n\n{}",
        study.data_sha256,
        base.sha256,
        experiment.resolved()
    );
    let kept = folder.join("experiment.toml");
    if kept.exists() {
        let earlier = std::fs::read_to_string(&kept).map_err(|error| InputError::io(&kept, "read", &error))?;
        if earlier != identity {
            return Err(InputError::new(
                &folder,
                "already holds another study: its experiment, data or base model differ",
            )
            .hint("choose another name with `--set name=…`, or remove the folder")
            .into());
        }
        eprintln!("going on with the study in `{}`", folder.display());
    } else {
        write_whole(&kept, identity.as_bytes())?;
    }

    remove_leftovers(&folder);
    remove_leftovers(&folder.join("records"));

    let primary = study.primary_items(Split::Test);
    let writer = Writer::new(&study, &primary)?;
    let Ran { arms, mut records, mut written, made_up, scored, failed } =
        run_arms(&study, &base, &writer, args.jobs.into())?;
    // The yardsticks have no arm: they stand last.
    records.push(study.unigram());
    written.push(writer.repeated());
    let names = arms.iter().map(|arm| arm.name.as_str()).chain([UNIGRAM]);
    for (name, records) in names.zip(&mut records) {
        for record in records.iter_mut() {
            record.primary = primary.contains(&record.item);
        }
        save_records(&folder.join("records").join(format!("{name}.jsonl")), records)?;
    }
    write_whole(&folder.join("records.parquet"), &parquet(&records.concat())?)?;
    let written = written.concat();
    if !written.is_empty() {
        write_whole(&folder.join("written.jsonl"), &written_lines(&written)?)?;
    }
    let scores = Scores { arms: &arms, records: &records, written: &written, made_up: &made_up };
    let results = Results::new(&study, &base.sha256, scores, &scored, &failed)?;
    write_whole(&folder.join("report.md"), results.markdown().as_bytes())?;
    write_whole(&folder.join("results.json"), &serde_json::to_vec_pretty(&results)?)?;
    for (name, content) in results.html(&study, scores, learning_curves(&study)?) {
        write_whole(&folder.join(name), content.as_bytes())?;
    }
    match json {
        true => print_json(&results),
        false => print_text(&results.terminal()),
    }
    for verdict in results.verdicts() {
        eprintln!("{verdict}");
    }
    let report = folder.join("report.html");
    eprintln!("\nreport:      {}\nresults:     {}", report.display(), folder.join("results.json").display());
    for arm in arms.iter().filter(|arm| arm.trained.as_ref().is_some_and(|trained| trained.name == arm.name)) {
        eprintln!("checkpoints: {}", folder.join(&arm.name).display());
    }
    match failed.into_iter().next() {
        None => Ok(()),
        Some(Failed { error, .. }) => Err(error),
    }
}

/// The training loss of each trained arm by step, the mean over folds and seeds.
fn learning_curves(study: &Study) -> Result<Vec<Curve>, InputError> {
    let experiment = &study.experiment;
    let mut curves = Vec::new();
    for arm in experiment.arms.iter().filter(|arm| experiment.trained(arm).name == arm.name) {
        let mut by_step: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for training in study.trainings() {
            let folder = experiment.folder().join(&arm.name).join(training.folder(experiment));
            for scalars in read_log(&folder)? {
                by_step.entry(scalars.step).or_default().push(scalars.loss_nats_per_token);
            }
        }
        let mean = |(step, losses): (usize, Vec<f64>)| (step as f64, losses.iter().sum::<f64>() / losses.len() as f64);
        curves.push(Curve { name: arm.name.clone(), points: by_step.into_iter().map(mean).collect() });
    }
    Ok(curves)
}
