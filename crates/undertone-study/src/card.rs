//! What a model card says about a checkpoint: what it was trained on, its scores on held-out users, its use and limits.

use std::path::PathBuf;

use serde_json::Value;
use undertone_data::Source;
use undertone_files::{InputError, read_regular};
use undertone_train::Description;

use crate::experiment::{Experiment, Method, Paths};
use crate::names::RESULTS;

/// The sections of the card, in Markdown. Scores are those of the study, if it has compared this model.
///
/// # Errors
/// The checkpoint's arm is not in its experiment, or the study's results cannot be read.
pub fn model_card(description: &Description, experiment: &Experiment) -> Result<String, InputError> {
    let path = experiment.folder();
    let arm = experiment.arm(Some(&description.arm), &path)?;
    let results = results(description, experiment)?;
    let (view, source) = arm.shown();
    let words = match source {
        _ if !view.sees_thoughts() => String::new(),
        Source::Own => ", in the user's own words".to_owned(),
        other => format!(", with the words of `source = {}`", serde_json::json!(other)),
    };
    let targets: Vec<String> = experiment.training_targets(arm).iter().map(ToString::to_string).collect();
    let stages = match experiment.stages.as_slice() {
        [] => String::new(),
        stages => {
            let each = stages.iter().map(|stage| format!("`{}` ({})", stage.name, files(&stage.path)));
            format!(
                "\n- Trained before on: {} ({} users).",
                each.collect::<Vec<_>>().join(", then "),
                description.earlier_users.len()
            )
        }
    };
    let others = match experiment.model.adapter.as_os_str().is_empty() {
        true => " No other user was seen.",
        false => " Training began with an adapter, and on whom that was trained is not known here.",
    };
    let method = match experiment.model.method {
        Method::Lora => format!("LoRA of rank {}", experiment.lora.rank),
        Method::Full => "all weights".to_owned(),
    };
    let system = match experiment.data.system.trim() {
        "" => "none".to_owned(),
        text => format!("{text:?}"),
    };
    let synthetic = match experiment.data.synthetic {
        true => {
            "\n- **The data is synthetic**: the model shows that the program works, and knows nothing about people."
        }
        false => "",
    };
    Ok(format!(
        "## Training

- Arm `{}` of the study `{}` (fold {}, seed {}). The model sees earlier thoughts of the user: {view}{words}.
- Targets: {}.
- Data: {} ({} users trained on, {} for choosing the checkpoint).{stages}{others}{synthetic}
- {method}, {} steps, {} supervised tokens. System text: {system}.

## Scores on held-out users

{}

## Use and limits

The model writes what a user may say, think or feel next, to simulate users when assistants are evaluated and to study what thoughts
add. It is no person, and its texts are no evidence of what people think. It has learned from few users and from their languages and
tasks alone, and can repeat what they wrote: treat it as private if the conversations are private. The licences of the base model
and of the conversations apply to it.
",
        arm.name,
        experiment.name,
        description.fold,
        description.seed,
        targets.join(", "),
        files(&experiment.data.path),
        description.trained_users.len(),
        description.validated_users.len(),
        description.state.step,
        description.state.supervised_tokens,
        scores(results.as_ref(), &arm.name),
    ))
}

/// The names of data files, in words.
fn files(paths: &Paths) -> String {
    let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().replace('`', "'");
    paths.as_slice().iter().map(|path| format!("`{}`", name(path))).collect::<Vec<_>>().join(", ")
}

/// The results of the study with this base model, if there are any.
fn results(description: &Description, experiment: &Experiment) -> Result<Option<Value>, InputError> {
    let path = experiment.folder().join(RESULTS);
    if !path.exists() {
        return Ok(None);
    }
    let results: Value = serde_json::from_slice(&read_regular(&path)?)
        .map_err(|error| InputError::new(&path, format!("is not JSON: {error}")))?;
    Ok(Some(results).filter(|results| results["base_model_sha256"] == description.base_model))
}

/// The verdicts about an arm, in words, each with its interval.
fn scores(results: Option<&Value>, arm: &str) -> String {
    let Some(results) = results else {
        return "The study has not compared this model.".to_owned();
    };
    let named = format!("`{arm}`");
    let verdicts =
        ["training_verdicts", "verdicts"].into_iter().flat_map(|key| results[key].as_array().into_iter().flatten());
    let about = verdicts.filter_map(Value::as_str).filter(|verdict| verdict.contains(&named));
    let warnings = results["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let lines: Vec<String> = about.chain(warnings).map(|line| format!("- {line}")).collect();
    match lines.is_empty() {
        true => "The study has not compared this model.".to_owned(),
        false => format!("Of the arm, over all its trainings in the study:\n\n{}", lines.join("\n")),
    }
}
