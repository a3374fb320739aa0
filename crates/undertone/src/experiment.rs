//! Experiment files: one complete TOML a run, read strictly.
//!
//! All problems of a file are reported at once, each with its line; `--set section.key=value` is checked
//! the same way. What is left after that is a resolved [`Experiment`], whose TOML and hash go into every
//! checkpoint, result and export.

mod check;
mod evaluation;
mod strict;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml_edit::Document;
use undertone_data::{
    Access, CleanOptions, FoldOptions, InputError, OnInvalid, OnTooLong, Place, ReadOptions, Source, SplitOptions,
    TargetKind, ThoughtDropout, Timing, View,
};
use undertone_eval::{BootstrapOptions, Rules};
use undertone_model::{DeviceName, LoraConfig, MatmulPrecision};
use undertone_train::TrainingConfig;

use self::check::Problem;
pub(crate) use self::evaluation::{EvaluationSection, JudgeSection};
use self::strict::{apply, line_of, read_text, strict};
use crate::digest::sha256_hex;

/// A whole experiment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Experiment {
    /// Names the folder of results.
    pub(crate) name: String,
    /// Seed of adapters, order, dropout, shuffles and resampling.
    pub(crate) seed: u64,
    /// Trainings of each arm: with `seed`, `seed + 1`, …
    pub(crate) seeds: Seeds,
    /// Where tensors live.
    pub(crate) device: DeviceName,
    /// The folder in which the folder of results is made.
    pub(crate) output: PathBuf,
    pub(crate) model: ModelSection,
    pub(crate) data: DataSection,
    pub(crate) split: SplitSection,
    pub(crate) lora: LoraConfig,
    pub(crate) training: TrainingConfig,
    pub(crate) evaluation: EvaluationSection,
    #[serde(rename = "arm")]
    pub(crate) arms: Vec<Arm>,
    #[serde(rename = "comparison", skip_serializing_if = "Vec::is_empty")]
    pub(crate) comparisons: Vec<Declared>,
}

/// A number of seeds; 1 unless told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Seeds(pub(crate) usize);

impl Default for Seeds {
    fn default() -> Self {
        Self(1)
    }
}

/// One `[[comparison]]`: which arms are compared. Without any, every arm is compared with the first, and own
/// thoughts with others'.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Declared {
    /// The arm that is subtracted.
    pub(crate) a: String,
    /// The arm it is subtracted from.
    pub(crate) b: String,
    /// Whether the study was made for this comparison: its p-value is not corrected for the others.
    pub(crate) primary: bool,
}

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelSection {
    /// A Hugging Face folder.
    pub(crate) path: PathBuf,
    /// What is trained.
    pub(crate) method: Method,
    /// How exactly activations are multiplied with weights.
    pub(crate) matmul_precision: MatmulPrecision,
}

/// What training changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// Adapters, by `[lora]`.
    #[default]
    Lora,
    /// Every weight.
    Full,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataSection {
    /// One JSONL file or several.
    pub(crate) path: Paths,
    /// Whether the conversations are made up; said wherever results show.
    pub(crate) synthetic: bool,
    /// A line that cannot be read: `error` or `skip`.
    pub(crate) on_invalid: OnInvalid,
    /// What becomes of odd conversations.
    pub(crate) clean: CleanOptions,
    /// The same text before every conversation of every arm; empty for none.
    pub(crate) system: String,
    /// The longest path through a conversation, in tokens.
    pub(crate) context_tokens: usize,
    /// Longer assistant messages are shortened to this many tokens, in the middle.
    pub(crate) assistant_tokens: usize,
    /// A conversation with a target that is longer than the context: `error` or `skip`.
    pub(crate) on_too_long: OnTooLong,
    /// What is predicted.
    pub(crate) targets: Vec<TargetKind>,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            path: Paths::default(),
            synthetic: false,
            on_invalid: OnInvalid::default(),
            clean: CleanOptions::default(),
            system: String::new(),
            context_tokens: 2048,
            assistant_tokens: 1024,
            on_too_long: OnTooLong::default(),
            targets: vec![TargetKind::NextPrompt],
        }
    }
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Paths {
    /// `path = "a.jsonl"`
    One(PathBuf),
    /// `path = ["a.jsonl", "b.jsonl"]`
    Several(Vec<PathBuf>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Paths {
    pub(crate) fn as_slice(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }
}

/// `[split]`: users to training, validation and test, once or in folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SplitSection {
    /// Seed of the hash that divides users.
    pub(crate) seed: u64,
    /// Share of users to train on; not used with folds.
    pub(crate) train: f64,
    /// Share of users to validate on; with folds, of each fold's training users.
    pub(crate) validation: f64,
    /// Share of users to test on; not used with folds.
    pub(crate) test: f64,
    /// Users to validate on whatever their hash.
    pub(crate) validation_users: Vec<String>,
    /// Users to test on whatever their hash.
    pub(crate) test_users: Vec<String>,
    /// Leave users out: a number of folds, or `"users"` for one a user. 0 divides once.
    pub(crate) folds: Folds,
}

/// How many folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Folds {
    /// So many; 0 is one plain split.
    Count(usize),
    /// One a user.
    Each(EachUser),
}

/// The word for one fold a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EachUser {
    /// `"users"`
    Users,
}

impl Default for SplitSection {
    fn default() -> Self {
        let SplitOptions { seed, train, validation, test, validation_users, test_users } = SplitOptions::default();
        Self { seed, train, validation, test, validation_users, test_users, folds: Folds::Count(0) }
    }
}

impl SplitSection {
    pub(crate) fn once(&self) -> SplitOptions {
        SplitOptions {
            seed: self.seed,
            train: self.train,
            validation: self.validation,
            test: self.test,
            validation_users: self.validation_users.clone(),
            test_users: self.test_users.clone(),
        }
    }

    /// The folds, if users are divided in folds.
    pub(crate) fn folds(&self) -> Option<FoldOptions> {
        let folds = match self.folds {
            Folds::Count(0) => return None,
            Folds::Count(count) => count,
            Folds::Each(EachUser::Users) => 0,
        };
        Some(FoldOptions { folds, seed: self.seed, validation: self.validation })
    }
}

/// One `[[arm]]`: what a model sees in training and in evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Arm {
    /// Shown in tables; also a folder.
    pub(crate) name: String,
    /// Which thoughts are seen.
    pub(crate) view: Access,
    /// Until when they must have been written.
    pub(crate) timing: Timing,
    /// Whose they are.
    pub(crate) source: Source,
    /// The probability with which training hides each thought that the view shows, so that one model learns to do
    /// with and without.
    pub(crate) thought_dropout: f64,
    /// Evaluate the model of this other arm instead of training one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trained_as: Option<String>,
    /// Targets in training, where they differ from `data.targets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) targets: Option<Vec<TargetKind>>,
}

impl Arm {
    pub(crate) fn shown(&self) -> (View, Source) {
        (View { access: self.view, timing: self.timing }, self.source)
    }

    /// Which thoughts one draw leaves out in training.
    pub(crate) fn dropout(&self, seed: [u64; 2]) -> Option<ThoughtDropout> {
        let probability = self.thought_dropout;
        (probability > 0.0).then_some(ThoughtDropout { probability, seed })
    }
}

/// Every problem that was found, in the order of the file.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<InputError>);

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} problems", self.0.len())
    }
}

impl std::error::Error for Problems {}

impl From<InputError> for Problems {
    fn from(error: InputError) -> Self {
        Self(vec![error])
    }
}

impl Experiment {
    /// Reads a file and applies `--set` overrides.
    pub(crate) fn read(path: &Path, overrides: &[String]) -> Result<Self, Problems> {
        let text = read_text(path)?;
        if text.trim().is_empty() {
            return Err(InputError::new(path, "is empty").hint("start from a copy of `experiments/demo.toml`").into());
        }
        let mut problems = Vec::new();
        let Some(mut table) = strict(path, &text, &mut problems) else { return Err(Problems(problems)) };
        apply(&mut table, overrides, &mut problems);
        let experiment: Self = match table.try_into() {
            Ok(experiment) => experiment,
            Err(error) if problems.is_empty() => {
                return Err(InputError::new(path, error.to_string()).into());
            }
            Err(_) => return Err(Problems(problems)),
        };
        experiment.checked(path, &text, overrides, problems)
    }

    /// The same experiment with some keys changed.
    pub(crate) fn with(&self, overrides: &[String]) -> Result<Self, Problems> {
        let text = self.resolved();
        let mut problems = Vec::new();
        let mut table: toml::Table = text.parse().expect("a resolved experiment is TOML");
        apply(&mut table, overrides, &mut problems);
        match table.try_into::<Self>() {
            Ok(experiment) => experiment.checked(Path::new("--set"), &text, overrides, problems),
            Err(_) => Err(Problems(problems)),
        }
    }

    /// The experiment, if its keys can go together and nothing else was wrong.
    fn checked(
        self,
        path: &Path,
        text: &str,
        overrides: &[String],
        mut problems: Vec<InputError>,
    ) -> Result<Self, Problems> {
        let document = Document::parse(text).ok();
        for Problem { key, cause, hint } in self.impossible() {
            let line = document.as_ref().and_then(|document| line_of(document, text, &key));
            // A value that could not be read has been reported, and is not missing.
            if line.is_some_and(|line| problems.iter().any(|problem| problem.place == Place::Line(line))) {
                continue;
            }
            // A key that came from the command line is not in the file.
            let set_by =
                overrides.iter().find(|setting| setting.split_once('=').is_some_and(|(name, _)| name.trim() == key));
            let problem = match (set_by, line) {
                (Some(setting), _) => InputError::new("--set", cause).at(Place::Named(setting.clone())),
                (None, Some(line)) => InputError::new(path, cause).at(Place::Line(line)),
                (None, None) => InputError::new(path, cause).at(Place::Named(key.clone())),
            };
            problems.push(problem.hint(hint));
        }
        // In the order of the file; what stands in no line comes last.
        problems.sort_by_key(|problem| match problem.place {
            Place::Line(line) => line,
            _ => usize::MAX,
        });
        if problems.is_empty() { Ok(self) } else { Err(Problems(problems)) }
    }

    /// The resolved experiment as TOML: every key, defaults included.
    pub(crate) fn resolved(&self) -> String {
        toml::to_string_pretty(self).expect("an experiment is plain data")
    }

    /// Reads back what [`Self::resolved`] wrote, from a checkpoint.
    pub(crate) fn from_resolved(path: &Path, text: &str) -> Result<Self, InputError> {
        let experiment = Self::parsed(path, text)?;
        match experiment.impossible().into_iter().next() {
            None => Ok(experiment),
            Some(Problem { key, cause, hint }) => Err(InputError::new(path, cause).at(Place::Named(key)).hint(hint)),
        }
    }

    fn parsed(path: &Path, text: &str) -> Result<Self, InputError> {
        toml::from_str(text).map_err(|error| {
            InputError::new(path, format!("its experiment cannot be read: {}", error.message()))
                .hint("it was written by another version of `undertone`")
        })
    }

    /// SHA-256 of the resolved experiment, in hex.
    pub(crate) fn hash(&self) -> String {
        sha256_hex(self.resolved().as_bytes())
    }

    /// The folder of results.
    pub(crate) fn folder(&self) -> PathBuf {
        let output = if self.output.as_os_str().is_empty() { Path::new("checkpoints") } else { &self.output };
        output.join(&self.name)
    }

    pub(crate) fn read_options(&self) -> ReadOptions {
        ReadOptions { on_invalid: self.data.on_invalid, clean: self.data.clean.clone(), ..ReadOptions::default() }
    }

    /// The rules by which comparisons are decided.
    pub(crate) fn rules(&self) -> Rules {
        let bootstrap = BootstrapOptions { draws: self.evaluation.draws, seed: self.seed };
        Rules { bootstrap, margin: self.evaluation.margin }
    }

    /// The seeds that every arm is trained with.
    pub(crate) fn training_seeds(&self) -> Vec<u64> {
        (0..self.seeds.0 as u64).map(|index| self.seed + index).collect()
    }

    /// The arm called `name`, or the first.
    pub(crate) fn arm(&self, name: Option<&str>, path: &Path) -> Result<&Arm, InputError> {
        let Some(name) = name else { return Ok(&self.arms[0]) };
        self.arms.iter().find(|arm| arm.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            InputError::new(path, format!("has no arm `{name}`")).hint(format!("its arms are: {}", names.join(", ")))
        })
    }

    /// The arm whose training makes the model of `arm`: the one it names, or the first that trains alike.
    pub(crate) fn trained(&self, arm: &Arm) -> Arm {
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

    /// What the training of an arm predicts.
    pub(crate) fn training_targets(&self, arm: &Arm) -> Vec<TargetKind> {
        arm.targets.clone().unwrap_or_else(|| self.data.targets.clone())
    }
}

#[cfg(test)]
mod tests;
