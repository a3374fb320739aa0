//! `undertone train`: trains one arm of an experiment.

use serde_json::json;
use undertone_data::Source;
use undertone_files::{FolderLock, write_sealed_text};
use undertone_study::{
    Base, Context, Experiment, Observer, Study, Training, predict_thoughts, prepare_stages, train_arm, train_stages,
};
use undertone_train::Checkpoint;

use crate::cli::Train;
use crate::progress::Board;
use crate::shell::{Shell, say};

pub(crate) fn run(args: &Train, shell: &Shell) -> anyhow::Result<()> {
    let path = &args.experiment.experiment;
    let experiment = Experiment::read(path, &args.experiment.set)?;
    let arm = experiment.trained(experiment.arm(args.arm.as_deref(), path)?);
    let mut study = Study::prepare(experiment, path, &[])?;
    study.require_fold(args.fold, path)?;
    let base = Base::load(&study.experiment)?;
    prepare_stages(&mut study, &base)?;
    let (observer, stop) = (&Board::new(shell), shell.stop);
    // Several processes may train arms of one study, but none while `ablate` works in it.
    let _lock = FolderLock::shared(&study.experiment.folder())?;
    let base = train_stages(&Context { study: &study, base: &base, observer, stop })?;
    if arm.source == Source::Predicted {
        let thoughts = predict_thoughts(&Context { study: &study, base: &base, observer, stop })?;
        study.set_predicted(thoughts);
    }
    let training = Training { fold: args.fold, seed: args.seed.unwrap_or(study.experiment.seed) };
    observer.rows(&[(arm.name.clone(), 1)]);
    let context = Context { study: &study, base: &base, observer, stop };
    let best = train_arm(&context, &arm, training, args.resume)?;
    let folder = study.training_folder(&arm.name, training);
    write_sealed_text(&folder.join("experiment.toml"), &study.experiment.resolved())?;
    // Read as a whole: a damaged checkpoint of an earlier run is no success.
    let state = Checkpoint::read(&best)?.description.state;
    say(format!("trained `{}`; best checkpoint: `{}`", arm.name, best.display()));
    if shell.json {
        shell.print_json(&json!({ "arm": arm.name, "checkpoint": best, "state": state }));
    }
    Ok(())
}
