//! `undertone ablate`: train every arm, score all on the same held-out users, compare.

use std::collections::BTreeMap;

use undertone_data::{InputError, Split, remove_leftovers, write_whole};
use undertone_report::Curve;
use undertone_train::{Checkpoint, read_log};

use super::{plan, print_json, print_text};
use crate::base::Base;
use crate::cli::Ablate;
use crate::experiment::Experiment;
use crate::report::Results;
use crate::study::{PROGRAM, Study, save_records};

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

    let arms = study.evaluated();
    let primary = study.primary_items(Split::Test);
    let mut records = vec![Vec::new(); arms.len()];
    let mut scored = Vec::new();
    for training in study.trainings() {
        for (index, arm) in arms.iter().enumerate() {
            let of_training = |name: &str| folder.join(name).join(training.folder(experiment));
            let decoder = || match &arm.trained {
                None => Ok(base.decoder.clone()),
                Some(trained) => {
                    let best = of_training(&trained.name).join("best.safetensors");
                    base.restored(experiment, &Checkpoint::read(&best)?, &best)
                }
            };
            // The untrained model has no seed: it is scored once.
            if arm.trained.is_none() && training.seed != experiment.seed {
                continue;
            }
            if let Some(trained) = &arm.trained {
                let best = study.train(trained, training, &base, &of_training(&trained.name), true)?;
                if trained.name == arm.name {
                    let best = Checkpoint::read(&best)?.description.state;
                    let last = of_training(&arm.name).join("last.safetensors");
                    let taken = Checkpoint::read(&last)?.description.state;
                    scored.push(format!(
                        "`{}`, {}: scored after step {} of {}.",
                        arm.name,
                        training.folder(experiment),
                        best.step,
                        taken.step
                    ));
                }
            }
            let saved = of_training(&arm.name).join("records.jsonl");
            records[index].extend(study.evaluate(arm, training, decoder, &saved)?);
        }
    }
    for (arm, records) in arms.iter().zip(&mut records) {
        for record in records.iter_mut() {
            record.primary = primary.contains(&record.item);
        }
        save_records(&folder.join("records").join(format!("{}.jsonl", arm.name)), records)?;
    }
    let results = Results::new(&study, &base.sha256, &arms, &records, &scored)?;
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
    Ok(())
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
