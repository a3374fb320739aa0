//! Experiment files: one complete TOML file per run, read strictly.
//!
//! All problems of a file are reported at once, each with its line; `--set section.key=value` is checked the same way.
//! The outcome is a resolved [`Experiment`], whose TOML and hash go into every checkpoint, result and export. Each
//! section has a source file with its keys and its rules.

mod arm;
mod comparison;
mod data;
mod derived;
mod evaluation;
mod lora;
mod model;
mod overrides;
mod problem;
mod reply_tokens;
mod split;
mod stage;
mod strict;
mod training;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml_edit::Document;
use undertone_data::{Source, TargetKind};
use undertone_files::{InputError, Place};
use undertone_model::{DeviceName, LoraConfig};
use undertone_stats::{BootstrapOptions, Question, Rules};
use undertone_train::TrainingConfig;

pub use self::arm::Arm;
pub(crate) use self::arm::contradiction;
pub use self::comparison::DeclaredComparison;
pub use self::data::{DataSection, Paths};
pub(crate) use self::evaluation::thought_sampling;
pub use self::evaluation::{EvaluationSection, JudgeSection, PlannedSection, WritingSection};
pub use self::model::{Method, ModelSection};
use self::overrides::apply;
use self::problem::{Found, Problem, can_be_a_folder};
pub use self::reply_tokens::{ReplyTokens, ReplyTokensList};
pub use self::split::{Folds, SplitSection};
pub use self::stage::StageSection;
use self::strict::{line_of, read_text, strict};
use crate::digest::sha256_hex;

/// The most seeds of an arm.
const MAX_SEEDS: usize = 100;

/// A whole experiment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Experiment {
    /// The name of the results folder.
    pub name: String,
    /// Seed of adapters, order, dropout, shuffles and resampling.
    pub seed: u64,
    /// The number of seeds that each arm is trained with: `seed`, `seed + 1`, …
    pub seeds: Seeds,
    /// The device that computes.
    pub device: DeviceName,
    /// The parent of the results folder.
    pub output: PathBuf,
    /// Which model, and which of its weights are trained.
    pub model: ModelSection,
    /// Which conversations, and what is predicted.
    pub data: DataSection,
    /// How users are split.
    pub split: SplitSection,
    /// Adapters.
    pub lora: LoraConfig,
    /// The training loop.
    pub training: TrainingConfig,
    /// What is measured, and the rules that decide comparisons.
    pub evaluation: EvaluationSection,
    /// What every arm's model is trained on before.
    #[serde(rename = "stage", skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageSection>,
    /// The arms: what models see.
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
    /// Which arms are compared.
    #[serde(rename = "comparison", skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<DeclaredComparison>,
}

/// A number of seeds; 1 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seeds(pub usize);

impl Default for Seeds {
    fn default() -> Self {
        Self(1)
    }
}

/// Every problem of an experiment, in the order of the file.
#[derive(Debug, thiserror::Error)]
#[error("{} problems", .0.len())]
pub struct Problems(pub Vec<InputError>);

impl From<InputError> for Problems {
    fn from(error: InputError) -> Self {
        Self(vec![error])
    }
}

impl Experiment {
    /// Reads a file and applies overrides, each like `section.key=value`.
    ///
    /// # Errors
    /// All problems of the file and the overrides: unknown keys, wrong types, impossible combinations.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, Problems> {
        let text = read_text(path)?;
        if text.trim().is_empty() {
            return Err(InputError::new(path, "is empty").hint("start from a copy of `experiments/demo.toml`").into());
        }
        Self::resolve(path, &text, overrides)
    }

    /// The same experiment with some keys changed.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn with(&self, overrides: &[String]) -> Result<Self, Problems> {
        Self::resolve(Path::new("--set"), &self.resolved(), overrides)
    }

    fn resolve(path: &Path, text: &str, overrides: &[String]) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let Some(mut table) = strict::<Self>(path, text, &mut problems) else { return Err(Problems(problems)) };
        apply::<Self>(&mut table, overrides, &mut problems);
        match table.try_into::<Self>() {
            Ok(experiment) => experiment.checked(path, text, overrides, problems),
            Err(error) if problems.is_empty() => Err(InputError::new(path, error.message()).into()),
            Err(_) => Err(Problems(problems)),
        }
    }

    /// The experiment, if its values are valid and there is no other problem.
    fn checked(
        self,
        path: &Path,
        text: &str,
        overrides: &[String],
        mut problems: Vec<InputError>,
    ) -> Result<Self, Problems> {
        let document = Document::parse(text).ok();
        for Problem { key, cause, hint } in self.problems() {
            let line = document.as_ref().and_then(|document| line_of(document, text, &key));
            // An unreadable value is reported already, and is not missing.
            if line.is_some_and(|line| problems.iter().any(|problem| problem.place == Place::Line(line))) {
                continue;
            }
            // A key from the command line has no line in the file.
            let set_by =
                overrides.iter().find(|setting| setting.split_once('=').is_some_and(|(name, _)| name.trim() == key));
            let problem = match (set_by, line) {
                (Some(setting), _) => InputError::new("--set", cause).at(Place::Named(setting.clone())),
                (None, Some(line)) => InputError::new(path, cause).at(Place::Line(line)),
                (None, None) => InputError::new(path, cause).at(Place::Named(key.clone())),
            };
            problems.push(problem.hint(hint));
        }
        // In the order of the file; problems without a line come last.
        problems.sort_by_key(|problem| match problem.place {
            Place::Line(line) => line,
            _ => usize::MAX,
        });
        if problems.is_empty() { Ok(self) } else { Err(Problems(problems)) }
    }

    /// Invalid values and combinations, section by section.
    fn problems(&self) -> Vec<Problem> {
        let mut found = Found::default();
        found.require(
            can_be_a_folder(&self.name),
            "name",
            format!("`name` ({:?}) must be usable as a folder name", self.name),
            "use up to 100 letters, digits, `-` and `_`",
        );
        found.require(
            (1..=MAX_SEEDS).contains(&self.seeds.0) && self.seed.checked_add(self.seeds.0 as u64).is_some(),
            "seeds",
            format!("`seeds` ({}) must be from 1 to {MAX_SEEDS}", self.seeds.0),
            "3 or more show how much training itself varies; each costs a training of every arm",
        );
        found.require(
            !self.folder().components().eq(self.model.path.components()),
            "name",
            format!("`name` ({:?}) gives the folder of the base model", self.name),
            "choose another name",
        );
        self.model.rules(self.device, &mut found);
        self.data.rules(&mut found);
        training::rules(&self.training, &self.split, &mut found);
        if self.model.method == Method::Lora {
            lora::rules(&self.lora, &mut found);
        }
        self.evaluation.rules(&mut found);
        self.split.rules(&mut found);
        stage::rules(&self.stages, &self.training, &self.split, &mut found);
        arm::rules(&self.arms, &mut found);
        comparison::rules(&self.comparisons, &self.arms, &mut found);
        for (_, pair) in self.margin_pairs() {
            for arm in pair.iter().filter(|arm| self.arms.iter().any(|known| known.name == arm.name && known != *arm)) {
                found.require(
                    false,
                    "evaluation.timing_margins_seconds",
                    format!(
                        "`timing_margins_seconds` makes an arm called `{}`, and another arm has this name",
                        arm.name
                    ),
                    "rename the other arm",
                );
            }
        }
        found.0
    }

    /// The resolved experiment as TOML: every key, defaults included.
    pub fn resolved(&self) -> String {
        toml::to_string_pretty(self).expect("an experiment is plain data")
    }

    /// Reads back what [`Self::resolved`] wrote, from a checkpoint.
    ///
    /// # Errors
    /// The first problem; the text comes from a file, so it may be wrong.
    pub fn from_resolved(path: &Path, text: &str) -> Result<Self, InputError> {
        let mut problems = Vec::new();
        let table = strict::<Self>(path, text, &mut problems);
        if let Some(InputError { cause, .. }) = problems.into_iter().next() {
            return Err(InputError::new(path, format!("its experiment cannot be read: {cause}"))
                .hint("it was written by another version of `undertone`"));
        }
        let experiment: Self = table.unwrap_or_default().try_into().expect("read strictly before");
        match experiment.problems().into_iter().next() {
            None => Ok(experiment),
            Some(Problem { key, cause, hint }) => Err(InputError::new(path, cause).at(Place::Named(key)).hint(hint)),
        }
    }

    /// SHA-256 of the resolved experiment, in hex.
    pub fn hash(&self) -> String {
        sha256_hex(self.resolved().as_bytes())
    }

    /// The results folder.
    pub fn folder(&self) -> PathBuf {
        let output = if self.output.as_os_str().is_empty() { Path::new("checkpoints") } else { &self.output };
        output.join(&self.name)
    }

    /// The rules that decide comparisons.
    pub fn decision_rules(&self) -> Rules {
        let bootstrap = BootstrapOptions { draws: self.evaluation.draws, seed: self.seed };
        Rules { bootstrap, margin: self.evaluation.margin, question: Question::WayOfTraining }
    }

    /// The seeds that every arm is trained with.
    pub fn training_seeds(&self) -> Vec<u64> {
        (0..self.seeds.0 as u64).map(|index| self.seed + index).collect()
    }

    /// The arm called `name`, or the first; `path` is the experiment file, for error messages.
    ///
    /// # Errors
    /// There is no such arm.
    pub fn arm(&self, name: Option<&str>, path: &Path) -> Result<&Arm, InputError> {
        let Some(name) = name else { return Ok(&self.arms[0]) };
        self.arms.iter().find(|arm| arm.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            InputError::new(path, format!("has no arm `{name}`")).hint(format!("its arms are: {}", names.join(", ")))
        })
    }

    /// The arm whose training makes the model of `arm`: follows `trained_as`, then takes the first arm with the
    /// same training.
    pub fn trained(&self, arm: &Arm) -> Arm {
        let named = |other: &&Arm| arm.trained_as.as_ref().is_some_and(|name| *name == other.name);
        let arm = self.arms.iter().find(named).unwrap_or(arm);
        let alike = |other: &&Arm| {
            other.trained_as.is_none()
                && other.shown() == arm.shown()
                && other.thought_dropout == arm.thought_dropout
                && self.training_targets(other) == self.training_targets(arm)
        };
        self.arms.iter().find(alike).unwrap_or(arm).clone()
    }

    /// The arms with a training of their own, in order.
    pub fn trained_arms(&self) -> impl Iterator<Item = &Arm> {
        self.arms.iter().filter(|arm| self.trained(arm).name == arm.name)
    }

    /// Whether some arm sees predicted thoughts.
    pub fn sees_predicted(&self) -> bool {
        self.arms.iter().any(|arm| arm.source == Source::Predicted)
    }

    /// The training targets of an arm.
    pub fn training_targets(&self, arm: &Arm) -> Vec<TargetKind> {
        arm.targets.clone().unwrap_or_else(|| self.data.targets.clone())
    }
}

#[cfg(test)]
mod tests;
