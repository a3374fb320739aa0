//! `undertone evaluate`: a checkpoint on held-out users, alone or against another model.

use std::path::Path;

use serde_json::json;
use undertone_data::{InputError, Source, Split, Stream, write_whole};
use undertone_eval::{
    Arms, ItemRecord, KnownRows, compare, comparison_table, labels_table, metrics, metrics_table, score,
};
use undertone_model::Decoder;
use undertone_train::Description;

use super::{open_checkpoint, print_json, print_text, require_absent};
use crate::base::Base;
use crate::cli::{Evaluate, SplitArg};
use crate::experiment::Experiment;
use crate::report::warnings;
use crate::study::{Study, record_lines};

pub(crate) fn run(args: &Evaluate, json: bool) -> anyhow::Result<()> {
    if let Some(path) = &args.records {
        require_absent(path)?;
    }
    let (checkpoint, experiment) = open_checkpoint(&args.checkpoint, &args.set)?;
    let arm = experiment.arm(Some(&checkpoint.description.arm), &args.checkpoint)?.clone();
    let (mut view, mut source) = arm.shown();
    view.access = args.view.map_or(view.access, Into::into);
    view.timing = args.timing.map_or(view.timing, Into::into);
    source = args.source.map_or(source, Into::into);
    let split = match args.split {
        SplitArg::Test => Split::Test,
        SplitArg::Validation => Split::Validation,
    };
    let mut study = Study::prepare(experiment, &args.checkpoint, &[(view, source)])?;
    if source == Source::Predicted {
        study.read_predicted()?;
    }
    let experiment = &study.experiment;
    // A checkpoint of a fold was not trained on that fold's test users, whatever its folder is called.
    let fold = fold_of(&args.checkpoint, study.folds.len())?;
    let base = Base::load(experiment)?;
    let streams = study.test_streams((view, source), fold, split);
    if streams.is_empty() {
        return Err(InputError::new(
            &args.checkpoint,
            format!("its experiment has no {split:?} users with a target").to_lowercase(),
        )
        .hint("`--split` chooses between test and validation users; only another training can hold out more")
        .into());
    }
    require_unseen(&checkpoint.description, &args.checkpoint, &streams, split)?;
    let unknown_users = study.read.ids_of_other_shape + study.read.ids_missing;
    let primary = study.primary_items(split);
    let row_tokens = experiment.evaluation.row_tokens;
    let scored = |name: &str, decoder| -> Vec<ItemRecord> {
        let mut records = score(&decoder, &mut KnownRows::default(), name, &streams, row_tokens, |_| {});
        for record in &mut records {
            record.primary = primary.contains(&record.item);
        }
        records
    };
    let name = args.checkpoint.display().to_string();
    let against = match &args.against {
        None => None,
        Some(path) if path == Path::new("base") => Some(("base".to_owned(), base.decoder.clone())),
        Some(path) => Some((path.display().to_string(), comparable(path, args, experiment, &base, &streams, split)?)),
    };
    let ours = scored(&name, base.restored(experiment, &checkpoint, &args.checkpoint)?);
    let other = against.map(|(name, decoder)| scored(&name, decoder));
    if let Some(path) = &args.records {
        write_whole(path, &record_lines(&[ours.clone(), other.clone().unwrap_or_default()].concat())?)?;
    }
    let family: Vec<Arms<'_>> = other.iter().map(|other| Arms { a: other, b: &ours, primary: true }).collect();
    let comparison = compare(&family, experiment.rules())?.pop();
    let all = metrics(&[ours, other.unwrap_or_default()].concat())?;
    if json {
        let warnings = warnings(experiment.data.synthetic, unknown_users, &[(&name, view)]);
        print_json(
            &json!({ "view": view.to_string(), "warnings": warnings, "metrics": all, "comparison": comparison }),
        );
        return Ok(());
    }
    let mut text = metrics_table(&all).terminal();
    text.extend(labels_table(&all).map(|table| format!("\n{}", table.terminal())));
    text.extend(comparison.map(|comparison| format!("\n{}", comparison_table(&comparison).terminal())));
    print_text(&text);
    eprintln!("scored under the view: {view}");
    for warning in warnings(experiment.data.synthetic, unknown_users, &[(&name, view)]) {
        eprintln!("! {warning}");
    }
    Ok(())
}

/// The model of another checkpoint, which differs from ours in its arm at most.
fn comparable(
    path: &Path,
    args: &Evaluate,
    ours: &Experiment,
    base: &Base,
    streams: &[Stream],
    split: Split,
) -> anyhow::Result<Decoder> {
    let (checkpoint, experiment) = open_checkpoint(path, &args.set)?;
    let theirs = Experiment { arms: ours.arms.clone(), name: ours.name.clone(), ..experiment.clone() };
    let ours = Experiment { output: theirs.output.clone(), ..ours.clone() };
    if ours != theirs {
        let differ = differences(&ours, &theirs);
        return Err(InputError::new(path, format!("was trained in another way: not the same {differ}"))
            .hint("only arms that differ in nothing but what they see can be compared")
            .into());
    }
    require_unseen(&checkpoint.description, path, streams, split)?;
    Ok(base.restored(&experiment, &checkpoint, path)?)
}

/// Whatever the settings: nobody is scored on whom the model was trained, and nobody is tested on whom its
/// checkpoint was chosen.
fn require_unseen(description: &Description, path: &Path, streams: &[Stream], split: Split) -> Result<(), InputError> {
    let trained = |user: &String| description.trained_users.contains(user);
    let chosen = |user: &String| split == Split::Test && description.validated_users.contains(user);
    match streams.iter().find(|stream| trained(&stream.user) || chosen(&stream.user)) {
        None => Ok(()),
        Some(stream) => {
            let cause = format!("was trained on the user `{}`, who would be scored", stream.user);
            Err(InputError::new(path, cause)
                .hint("leave `split` and `data` as they were in training, or score data of other users"))
        }
    }
}

/// The top-level keys in which two experiments differ.
fn differences(a: &Experiment, b: &Experiment) -> String {
    let table = |experiment: &Experiment| experiment.resolved().parse::<toml::Table>().unwrap_or_default();
    let (a, b) = (table(a), table(b));
    let keys = a.iter().filter(|(key, value)| b.get(*key) != Some(value)).map(|(key, _)| format!("`{key}`"));
    keys.collect::<Vec<_>>().join(", ")
}

/// The fold in `…/fold3/best.safetensors`; 0 where users are divided once.
fn fold_of(path: &Path, folds: usize) -> Result<usize, InputError> {
    if folds == 1 {
        return Ok(0);
    }
    let name = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    // `fold3`, or `fold3-seed1` of another training.
    let number = name.as_deref().and_then(|name| name.strip_prefix("fold")?.split('-').next());
    let fold = number.and_then(|number| number.parse().ok());
    fold.filter(|&fold| fold < folds).ok_or_else(|| {
        InputError::new(path, format!("cannot tell which of the {folds} folds it was trained in"))
            .hint("keep the checkpoint in its folder, such as `fold3/`: its held-out users depend on it")
    })
}
