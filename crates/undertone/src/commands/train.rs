//! `undertone train`: one arm of an experiment.

use serde_json::json;
use undertone_data::{InputError, Place, Source, write_whole};
use undertone_train::Checkpoint;

use super::print_json;
use crate::base::Base;
use crate::cli::Train;
use crate::experiment::Experiment;
use crate::progress::Line;
use crate::study::{Study, Training};

pub(crate) fn run(args: &Train, json: bool) -> anyhow::Result<()> {
    let path = &args.experiment.experiment;
    let experiment = Experiment::read(path, &args.experiment.set)?;
    let arm = experiment.trained(experiment.arm(args.arm.as_deref(), path)?);
    let mut study = Study::prepare(experiment, path, &[])?;
    if args.fold >= study.folds.len() {
        let cause = format!("has {} folds, so no fold {}", study.folds.len(), args.fold);
        return Err(InputError::new(path, cause)
            .at(Place::Named("split.folds".into()))
            .hint("folds are counted from 0")
            .into());
    }
    let seed = args.seed.unwrap_or(study.experiment.seed);
    let training = Training { fold: args.fold, seed };
    let folder = study.folder(&arm.name, training);
    let base = Base::load(&study.experiment)?;
    if arm.source == Source::Predicted {
        study.predict_thoughts(&base)?;
    }
    let best = study.train(&arm, training, &base, &folder, args.resume, &Line::alone(&arm.name))?;
    write_whole(&folder.join("experiment.toml"), study.experiment.resolved().as_bytes())?;
    let state = Checkpoint::read(&best)?.description.state;
    eprintln!("trained `{}`; best checkpoint: `{}`", arm.name, best.display());
    if json {
        print_json(&json!({ "arm": arm.name, "checkpoint": best, "state": state }));
    }
    Ok(())
}
