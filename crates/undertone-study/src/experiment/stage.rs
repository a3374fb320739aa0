//! `[[stage]]`: conversations on which the model is trained before every arm.

use serde::{Deserialize, Serialize};
use undertone_data::{OnInvalid, OnTooLong, TargetKind};
use undertone_train::TrainingConfig;

use super::arm::name_rules;
use super::data::Paths;
use super::problem::{Found, Problem};
use super::split::{Folds, SplitSection};
use super::training::rules as rules_of_training;

/// One `[[stage]]`. The first begins with the base model, each other one with the model of the stage before it, and every
/// arm, in every fold and with every seed, with the model of the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageSection {
    /// The name of its folder.
    pub name: String,
    /// One JSONL file or several.
    pub path: Paths,
    /// The most conversations, chosen by hash; 0 for all.
    pub conversations: usize,
    /// Policy for a line that cannot be read.
    pub on_invalid: OnInvalid,
    /// Policy for a conversation with a target that is longer than the context.
    pub on_too_long: OnTooLong,
    /// What is predicted.
    pub targets: Vec<TargetKind>,
    /// Share of its users to validate on.
    pub validation: f64,
    /// As in `[training]`, whose values count for keys that are not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// As in `[training]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations_per_step: Option<usize>,
    /// As in `[training]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// As in `[training]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    /// As in `[training]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every_steps: Option<usize>,
    /// As in `[training]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_every_steps: Option<usize>,
    /// Validations without a lower loss before the stage ends; 0 never ends it early.
    pub patience_validations: usize,
}

impl Default for StageSection {
    fn default() -> Self {
        Self {
            name: String::new(),
            path: Paths::default(),
            conversations: 0,
            on_invalid: OnInvalid::default(),
            on_too_long: OnTooLong::default(),
            targets: vec![TargetKind::NextPrompt],
            validation: 0.0,
            epochs: None,
            conversations_per_step: None,
            learning_rate: None,
            warmup_steps: None,
            validate_every_steps: None,
            save_every_steps: None,
            patience_validations: 0,
        }
    }
}

impl StageSection {
    /// Its training: that of the experiment, with the keys that it gives.
    pub(super) fn training(&self, given: &TrainingConfig) -> TrainingConfig {
        TrainingConfig {
            epochs: self.epochs.unwrap_or(given.epochs),
            conversations_per_step: self.conversations_per_step.unwrap_or(given.conversations_per_step),
            learning_rate: self.learning_rate.unwrap_or(given.learning_rate),
            warmup_steps: self.warmup_steps.unwrap_or(given.warmup_steps),
            validate_every_steps: self.validate_every_steps.unwrap_or(given.validate_every_steps),
            save_every_steps: self.save_every_steps.unwrap_or(given.save_every_steps),
            patience_validations: self.patience_validations,
            ..given.clone()
        }
    }

    /// The same stage with every key of its training given.
    pub(super) fn explicit(&self, given: &TrainingConfig) -> Self {
        let training = self.training(given);
        Self {
            epochs: Some(training.epochs),
            conversations_per_step: Some(training.conversations_per_step),
            learning_rate: Some(training.learning_rate),
            warmup_steps: Some(training.warmup_steps),
            validate_every_steps: Some(training.validate_every_steps),
            save_every_steps: Some(training.save_every_steps),
            ..self.clone()
        }
    }

    /// Its users train or validate; none is tested.
    pub(super) fn split(&self, seed: u64) -> SplitSection {
        SplitSection {
            seed,
            train: 1.0 - self.validation,
            validation: self.validation,
            test: 0.0,
            validation_users: Vec::new(),
            test_users: Vec::new(),
            folds: Folds::Count(0),
            repeats: 1,
        }
    }
}

pub(super) fn rules(stages: &[StageSection], training: &TrainingConfig, split: &SplitSection, found: &mut Found) {
    // Problems of keys that a stage does not give are those of `[training]`, which are reported there.
    let mut common = Found::default();
    rules_of_training(training, split, &mut common);
    for (index, stage) in stages.iter().enumerate() {
        let key = |part: &str| format!("stage[{index}].{part}");
        let earlier: Vec<&str> = stages[..index].iter().map(|stage| stage.name.as_str()).collect();
        name_rules("stage", &stage.name, &earlier, &key("name"), found);
        found.require(
            !stage.path.as_slice().is_empty(),
            &key("path"),
            "the stage's `path` is missing",
            "name a JSONL file; `undertone data convert` makes one of other chats",
        );
        found.require(
            !stage.targets.is_empty(),
            &key("targets"),
            "the stage's `targets` is empty",
            "for example `targets = [\"next_prompt\"]`",
        );
        found.require(
            (0.0..1.0).contains(&stage.validation),
            &key("validation"),
            format!("`validation` ({}) is not a share of users below 1", stage.validation),
            "0.02 is enough for a large file; 0 validates on nobody",
        );
        let mut own = Found::default();
        rules_of_training(&stage.training(training), &stage.split(0), &mut own);
        for Problem { key: name, cause, hint } in own.0 {
            let name = name.trim_start_matches("training.");
            let is_common = common.0.iter().any(|problem| problem.cause == cause);
            found.require(
                is_common,
                &key(name),
                cause.replace("split.validation", "validation"),
                &hint.replace("split.validation", "validation"),
            );
        }
    }
}
