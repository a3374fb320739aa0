//! Fingerprints: results with equal fingerprints have equal bytes.
//!
//! A fingerprint is the SHA-256 of canonical JSON (keys sorted) of everything that determines a result: the program,
//! the base model, the data, the windows, and the keys of the experiment that affect it. Checkpoints hold the
//! fingerprint of their training. A training with another fingerprint is never overwritten; scores and texts with
//! another fingerprint are made again.

use serde_json::{Value, json};
use undertone_data::{Source, Split};

use crate::arms::{Evaluated, Model, Training, thought_writer_arm};
use crate::base::Base;
use crate::digest::sha256_of_json;
use crate::experiment::{Arm, EvaluationSection, Experiment, SplitSection, thought_sampling};
use crate::study::Study;

/// The version of the layout and of the arithmetic: results of another version are not reused.
pub(crate) const PROGRAM: &str = concat!("undertone ", env!("CARGO_PKG_VERSION"), ", layout 8, operators 5");

/// The fingerprint of the weights of an arm's training.
pub(crate) fn of_training(study: &Study, base: &Base, arm: &Arm, training: Training) -> String {
    let Training { fold, seed } = training;
    let experiment = &study.experiment;
    let arm =
        Arm { name: String::new(), trained_as: None, targets: Some(experiment.training_targets(arm)), ..arm.clone() };
    let splits = [Split::Train, Split::Validation];
    let parts = json!({
        "windows": windows(study, fold, &splits),
        "predicted": of_predicted_in(study, base, arm.source, fold, &splits),
        "experiment": bearing_on(experiment, arm),
        "fold": fold,
        "seed": seed,
    });
    fingerprint("training", parts, study, base)
}

/// The fingerprint of the scores of an arm in one training.
pub(crate) fn of_records(study: &Study, base: &Base, arm: &Evaluated, training: Training) -> String {
    let EvaluationSection { row_tokens, distractors, .. } = study.experiment.evaluation;
    let parts = json!({
        "shown": shown_to(study, base, arm, training),
        "row_tokens": row_tokens,
        "distractors": distractors,
    });
    fingerprint("records", parts, study, base)
}

/// The fingerprint of the messages that an arm writes in one training; `chosen` identifies the messages and the
/// encoder that measures them.
pub(crate) fn of_written(study: &Study, base: &Base, arm: &Evaluated, training: Training, chosen: &Value) -> String {
    let parts = json!({
        "shown": shown_to(study, base, arm, training),
        "sampling": study.experiment.evaluation.writing.sampling(study.experiment.seed),
        "chosen": chosen,
    });
    fingerprint("written", parts, study, base)
}

/// The fingerprint of the first messages of a training, or of the untrained model.
pub(crate) fn of_first_messages(study: &Study, base: &Base, trained: Option<&Arm>, training: Training) -> String {
    let writing = &study.experiment.evaluation.writing;
    let parts = json!({
        "training": trained.map(|arm| of_training(study, base, arm, training)),
        "messages": writing.first_messages,
        "max_new_tokens": writing.max_new_tokens,
        "seed": training.seed,
        "system": study.experiment.data.system,
    });
    fingerprint("first messages", parts, study, base)
}

/// The fingerprint of the predicted thoughts of a fold.
pub(crate) fn of_predicted(study: &Study, base: &Base, fold: usize) -> String {
    let all = [Split::Train, Split::Validation, Split::Test];
    of_predicted_in(study, base, Source::Predicted, fold, &all).expect("of predicted thoughts")
}

/// The fingerprint of the weights of one writer of thoughts in a fold.
pub(crate) fn of_thought_writer(study: &Study, base: &Base, fold: usize, writer: &str) -> String {
    fingerprint("writer", json!({ "writers": of_thought_writers(study, base, fold), "writer": writer }), study, base)
}

fn of_thought_writers(study: &Study, base: &Base, fold: usize) -> String {
    let arm = Arm { name: String::new(), ..thought_writer_arm() };
    let parts = json!({
        "windows": windows(study, fold, &[Split::Train]),
        "experiment": bearing_on(&study.experiment, arm),
        "fold": fold,
    });
    fingerprint("writers", parts, study, base)
}

/// The fingerprint of the predicted thoughts of some splits; `None` for arms that see no predicted thoughts.
fn of_predicted_in(study: &Study, base: &Base, source: Source, fold: usize, splits: &[Split]) -> Option<String> {
    (source == Source::Predicted).then(|| {
        let parts = json!({
            "writers": of_thought_writers(study, base, fold),
            "windows": windows(study, fold, splits),
            "sampling": thought_sampling(study.experiment.seed),
        });
        fingerprint("predicted thoughts", parts, study, base)
    })
}

/// What an arm sees in testing, and its model.
fn shown_to(study: &Study, base: &Base, evaluated: &Evaluated, training: Training) -> Value {
    let (view, source) = evaluated.shown;
    let arm = Arm {
        view: view.access,
        timing: view.timing,
        timing_margin_seconds: view.margin_seconds,
        source,
        ..Arm::default()
    };
    let splits = [Split::Test];
    json!({
        "training": match &evaluated.model {
            Model::Untrained => Value::Null,
            Model::Staged => json!("stages"),
            Model::Trained(arm) => json!(of_training(study, base, arm, training)),
        },
        "experiment": bearing_on(&study.experiment, arm),
        "predicted": of_predicted_in(study, base, source, training.fold, &splits),
        "windows": windows(study, training.fold, &splits),
    })
}

/// The digest of the windows of some splits. Every arm that a study begins with influences where windows are cut.
fn windows(study: &Study, fold: usize, splits: &[Split]) -> String {
    let corpus = &study.folds[fold].corpus;
    let split_windows = |split: &Split| (*split, corpus.windows(*split).collect::<Vec<_>>());
    sha256_of_json(&splits.iter().map(split_windows).collect::<Vec<_>>())
}

/// The experiment without the keys that do not affect one arm.
fn bearing_on(experiment: &Experiment, arm: Arm) -> Value {
    let (name, output) = (String::new(), Default::default());
    let (seeds, comparisons, arms) = (Default::default(), Vec::new(), vec![arm]);
    let split = SplitSection { repeats: 1, ..experiment.split.clone() };
    let data = experiment.data.laid_out();
    let training = experiment.training.of_weights();
    let experiment = Experiment { name, output, seeds, data, split, training, comparisons, arms, ..experiment.clone() };
    let mut keys = serde_json::to_value(experiment).expect("plain data");
    keys.as_object_mut().expect("an experiment is a table").remove("evaluation");
    keys
}

fn fingerprint(what: &str, parts: Value, study: &Study, base: &Base) -> String {
    let mut all = json!({
        "what": what, "program": PROGRAM, "base_model": base.sha256, "chat_format": base.template.format(),
        "data": study.data_sha256, "parts": parts,
    });
    assert_eq!(
        study.start.is_some(),
        !study.experiment.stages.is_empty(),
        "stages are prepared before anything is made"
    );
    if let Some(stage) = &study.start {
        all["start"] = json!(stage.key);
    }
    sha256_of_json(&all)
}
