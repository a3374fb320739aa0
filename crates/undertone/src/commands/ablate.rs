//! `undertone ablate`: train every arm, score all on the same held-out users, compare and report.

use std::collections::BTreeMap;

use undertone_data::{InputError, Split, remove_leftovers, write_whole};
use undertone_eval::{ItemRecord, parquet};
use undertone_report::Curve;
use undertone_train::{Checkpoint, TrainError, read_log};

use super::{plan, print_json, print_text};
use crate::base::Base;
use crate::cli::Ablate;
use crate::experiment::Experiment;
use crate::report::Results;
use crate::study::{Evaluated, Failed, PROGRAM, Study, Training, UNIGRAM, save_records};

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

    let Ran { arms, mut records, scored, failed } = run_arms(&study, &base)?;
    // The yardstick has no arm: it stands last.
    records.push(study.unigram());
    let primary = study.primary_items(Split::Test);
    let names = arms.iter().map(|arm| arm.name.as_str()).chain([UNIGRAM]);
    for (name, records) in names.zip(&mut records) {
        for record in records.iter_mut() {
            record.primary = primary.contains(&record.item);
        }
        save_records(&folder.join("records").join(format!("{name}.jsonl")), records)?;
    }
    write_whole(&folder.join("records.parquet"), &parquet(&records.concat())?)?;
    let results = Results::new(&study, &base.sha256, &arms, &records, &scored, &failed)?;
    write_whole(&folder.join("report.md"), results.markdown().as_bytes())?;
    write_whole(&folder.join("results.json"), &serde_json::to_vec_pretty(&results)?)?;
    for (name, content) in results.html(&study, &records, learning_curves(&study)?) {
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

/// What came of the arms.
struct Ran {
    /// Those that came to their end.
    arms: Vec<Evaluated>,
    /// Their records, arm by arm.
    records: Vec<Vec<ItemRecord>>,
    /// After which step each training was scored, in words.
    scored: Vec<String>,
    failed: Vec<Failed>,
}

/// Trains and scores every arm in every fold with every seed. An arm that fails does not take the others along.
///
/// # Errors
/// The user stopped it; or no arm with a training came to its end, and so the first one's failure.
fn run_arms(study: &Study, base: &Base) -> anyhow::Result<Ran> {
    let experiment = &study.experiment;
    let all = study.evaluated();
    let mut records = vec![Vec::new(); all.len()];
    let (mut scored, mut failed) = (Vec::new(), Vec::<Failed>::new());
    for training in study.trainings() {
        for (arm, records) in all.iter().zip(&mut records) {
            // The untrained model has no seed: it is scored once.
            let is_done = arm.trained.is_none() && training.seed != experiment.seed;
            if is_done || failed.iter().any(|failed| failed.takes_along(arm)) {
                continue;
            }
            match run_arm(study, base, arm, training) {
                Ok((of_training, line)) => {
                    records.extend(of_training);
                    scored.extend(line);
                }
                Err(error) if matches!(error.downcast_ref(), Some(TrainError::Interrupted(_))) => return Err(error),
                Err(error) => {
                    let name = arm.trained.as_ref().map_or(&arm.name, |trained| &trained.name).clone();
                    eprintln!("arm `{name}` failed; the others go on: {error:#}");
                    failed.push(Failed { arm: name, error });
                }
            }
        }
    }
    let came_through = |arm: &Evaluated| !failed.iter().any(|failed| failed.takes_along(arm));
    let (arms, records): (Vec<Evaluated>, Vec<Vec<ItemRecord>>) =
        all.into_iter().zip(records).filter(|(arm, _)| came_through(arm)).unzip();
    match failed.pop() {
        Some(Failed { error, .. }) if !arms.iter().any(|arm| arm.trained.is_some()) => Err(error),
        last => {
            failed.extend(last);
            Ok(Ran { arms, records, scored, failed })
        }
    }
}

/// One training of one arm, from wherever it stands, scored; with a line on which step was scored, for the arm that
/// the training is of.
fn run_arm(
    study: &Study,
    base: &Base,
    arm: &Evaluated,
    training: Training,
) -> anyhow::Result<(Vec<ItemRecord>, Option<String>)> {
    let experiment = &study.experiment;
    let folder = |name: &str| experiment.folder().join(name).join(training.folder(experiment));
    let saved = folder(&arm.name).join("records.jsonl");
    let Some(trained) = &arm.trained else {
        return Ok((study.evaluate(arm, training, || Ok(base.decoder.clone()), &saved)?, None));
    };
    let best = study.train(trained, training, base, &folder(&trained.name), true)?;
    let line = (trained.name == arm.name).then(|| -> Result<String, InputError> {
        let scored = Checkpoint::read(&best)?.description.state.step;
        let taken = Checkpoint::read(&folder(&arm.name).join("last.safetensors"))?.description.state.step;
        Ok(format!("`{}`, {}: scored after step {scored} of {taken}.", arm.name, training.folder(experiment)))
    });
    let decoder = || base.restored(experiment, &Checkpoint::read(&best)?, &best);
    Ok((study.evaluate(arm, training, decoder, &saved)?, line.transpose()?))
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
