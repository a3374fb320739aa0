//! Experiment files: one complete TOML a run, read strictly.
//!
//! All problems of a file are reported at once, each with its line: a key that cannot be read is noted,
//! blanked out in the text, and the rest is read again. `--set section.key=value` is checked the same
//! way. What is left after that is a resolved [`Experiment`], whose TOML and hash go into every
//! checkpoint, result and export.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml_edit::{Document, Item, Table};
use undertone_data::{
    Access, CleanOptions, FoldOptions, InputError, OnInvalid, Place, ReadOptions, Source, SplitOptions, TargetKind,
    Timing, View,
};
use undertone_model::{DeviceName, LoraConfig};
use undertone_train::TrainingConfig;

use crate::digest::sha256_hex;

/// A whole experiment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Experiment {
    /// Names the folder of results.
    pub(crate) name: String,
    /// Seed of adapters, order, dropout, shuffles and resampling.
    pub(crate) seed: u64,
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
}

/// `[model]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelSection {
    /// A Hugging Face folder.
    pub(crate) path: PathBuf,
    /// What is trained.
    pub(crate) method: Method,
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

/// `[evaluation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvaluationSection {
    /// Resamples of users for intervals.
    pub(crate) draws: usize,
    /// Tokens that are run through the model at once.
    pub(crate) row_tokens: usize,
}

impl Default for EvaluationSection {
    fn default() -> Self {
        Self { draws: 10_000, row_tokens: 4096 }
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
                && self.training_targets(other) == self.training_targets(arm)
        };
        self.arms.iter().find(alike).unwrap_or(arm).clone()
    }

    /// What the training of an arm predicts.
    pub(crate) fn training_targets(&self, arm: &Arm) -> Vec<TargetKind> {
        arm.targets.clone().unwrap_or_else(|| self.data.targets.clone())
    }

    /// Keys whose values cannot go together, with reason and advice.
    fn impossible(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut check = |fine: bool, key: &str, cause: String, hint: &str| {
            if !fine {
                found.push(Problem { key: key.into(), cause, hint: hint.into() });
            }
        };
        let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        check(
            plain(&self.name),
            "name",
            format!("`name` ({:?}) must be the name of a folder", self.name),
            "use letters, digits and `-`",
        );
        check(
            !self.model.path.as_os_str().is_empty(),
            "model.path",
            "`model.path` is missing".into(),
            "name a Hugging Face folder; `make model` makes one",
        );
        check(
            !self.data.path.as_slice().is_empty(),
            "data.path",
            "`data.path` is missing".into(),
            "name a JSONL file here or with `--set data.path=FILE`",
        );
        check(
            !self.data.targets.is_empty(),
            "data.targets",
            "`data.targets` is empty".into(),
            "for example `targets = [\"next_prompt\"]`",
        );
        check(
            self.data.context_tokens >= 64,
            "data.context_tokens",
            format!("`context_tokens` ({}) is below 64", self.data.context_tokens),
            "the model's own context is a good value, or less to save time",
        );
        check(
            self.data.assistant_tokens >= 16,
            "data.assistant_tokens",
            format!("`assistant_tokens` ({}) is below 16", self.data.assistant_tokens),
            "the marker of a shortened message alone takes several tokens",
        );
        let training = &self.training;
        check(
            training.epochs > 0,
            "training.epochs",
            "`epochs` is 0".into(),
            "use `undertone evaluate` to score without training",
        );
        check(
            training.conversations_per_step > 0,
            "training.conversations_per_step",
            "`conversations_per_step` is 0".into(),
            "1 takes one conversation a step",
        );
        check(
            training.learning_rate > 0.0 && training.learning_rate.is_finite(),
            "training.learning_rate",
            format!("`learning_rate` ({}) must be above 0", training.learning_rate),
            "LoRA likes 1e-4 to 5e-4, full fine-tuning 1e-5 to 5e-5",
        );
        check(
            (0.0..1.0).contains(&training.beta1),
            "training.beta1",
            format!("`beta1` ({}) must be from 0 to below 1", training.beta1),
            "0.9 is usual",
        );
        check(
            (0.0..1.0).contains(&training.beta2),
            "training.beta2",
            format!("`beta2` ({}) must be from 0 to below 1", training.beta2),
            "0.999 is usual",
        );
        check(
            training.epsilon > 0.0,
            "training.epsilon",
            format!("`epsilon` ({}) must be above 0", training.epsilon),
            "1e-8 is usual",
        );
        check(
            training.clip_norm >= 0.0,
            "training.clip_norm",
            format!("`clip_norm` ({}) is negative", training.clip_norm),
            "0 turns clipping off",
        );
        check(
            (0.0..=1.0).contains(&training.final_learning_rate_share),
            "training.final_learning_rate_share",
            format!("`final_learning_rate_share` ({}) must be from 0 to 1", training.final_learning_rate_share),
            "0.1 ends at a tenth of the peak",
        );
        check(
            training.weight_decay >= 0.0,
            "training.weight_decay",
            format!("`weight_decay` ({}) is negative", training.weight_decay),
            "0.01 is usual",
        );
        let can_validate = self.split.validation > 0.0 || !self.split.validation_users.is_empty();
        check(
            training.patience_validations == 0 || can_validate,
            "training.patience_validations",
            "`patience_validations` needs validation users, and `split.validation` is 0".into(),
            "set `split.validation`, or `patience_validations = 0`",
        );
        if self.model.method == Method::Lora {
            check(
                self.lora.rank <= MAX_RANK,
                "lora.rank",
                format!("`rank` ({}) is above {MAX_RANK}", self.lora.rank),
                "8 to 64 is usual; `model.method = \"full\"` trains without adapters",
            );
            check(
                self.lora.rank > 0,
                "lora.rank",
                "`rank` is 0".into(),
                "8 to 64 is usual; `model.method = \"full\"` trains without adapters",
            );
            check(
                !self.lora.targets.is_empty(),
                "lora.targets",
                "`lora.targets` is empty: nothing would be trained".into(),
                "q, k, v, o, gate, up, down",
            );
            check(
                (0.0..1.0).contains(&self.lora.dropout),
                "lora.dropout",
                format!("`dropout` ({}) must be from 0 to below 1", self.lora.dropout),
                "0.05 is usual",
            );
            check(
                self.lora.alpha > 0.0,
                "lora.alpha",
                format!("`alpha` ({}) must be above 0", self.lora.alpha),
                "twice the rank is usual",
            );
        }
        check(
            self.evaluation.draws >= undertone_eval::MIN_DRAWS,
            "evaluation.draws",
            format!("`draws` ({}) is too few for an interval", self.evaluation.draws),
            "10000 takes well under a second",
        );
        for (section, rows) in [("training", training.row_tokens), ("evaluation", self.evaluation.row_tokens)] {
            check(rows > 0, &format!("{section}.row_tokens"), "`row_tokens` is 0".into(), "2048 takes about 2 GB");
        }
        let finite = [
            ("training.weight_decay", training.weight_decay),
            ("training.clip_norm", training.clip_norm),
            ("training.epsilon", training.epsilon),
            ("lora.alpha", self.lora.alpha),
        ];
        for (key, value) in finite {
            let name = key.rsplit('.').next().unwrap_or(key);
            check(
                value.is_finite(),
                key,
                format!("`{name}` ({value}) must be a finite number"),
                "see experiments/demo.toml",
            );
        }
        check(
            training.epochs <= MAX_EPOCHS,
            "training.epochs",
            format!("`epochs` ({}) is above {MAX_EPOCHS}", training.epochs),
            "1 to 10 is usual",
        );
        check(
            self.evaluation.draws <= MAX_DRAWS,
            "evaluation.draws",
            format!("`draws` ({}) is above {MAX_DRAWS}", self.evaluation.draws),
            "10000 is usual",
        );
        let folds = self.split.folds().is_some();
        if !folds {
            // Users are known once the data is read; here the lists are taken at their word.
            let once = self.split.once();
            let listed: Vec<&str> = once.validation_users.iter().chain(&once.test_users).map(String::as_str).collect();
            for problem in once.problems(listed, Path::new("")) {
                let Place::Named(key) = &problem.place else { continue };
                let hint = problem.hint.as_deref().unwrap_or("lower one of them");
                check(false, &format!("split.{key}"), problem.cause, hint);
            }
        }
        check(
            !(folds && (!self.split.test_users.is_empty() || !self.split.validation_users.is_empty())),
            "split.folds",
            "`folds` tests every user once, so `test_users` and `validation_users` cannot be given".into(),
            "remove the lists, or set `folds = 0`",
        );
        check(
            self.split.folds != Folds::Count(1),
            "split.folds",
            "one fold would leave nobody to train on".into(),
            "use 2 or more, \"users\", or 0 for a single split",
        );
        check(
            !self.arms.is_empty(),
            "arm",
            "there is no `[[arm]]`".into(),
            "an arm says what a model sees, for example `name = \"none\"`",
        );
        for (index, arm) in self.arms.iter().enumerate() {
            let key = |part: &str| format!("arm[{index}].{part}");
            let name = &arm.name;
            check(
                plain(name),
                &key("name"),
                format!("the arm's `name` ({name:?}) must be the name of a folder"),
                "use letters, digits and `-`",
            );
            check(
                !self.arms[..index].iter().any(|other| other.name == *name),
                &key("name"),
                format!("two arms are called `{name}`"),
                "give each its own name",
            );
            check(
                name != "base" && !name.starts_with("base-"),
                &key("name"),
                format!("the name `{name}` is taken by the untrained model"),
                "call it something else",
            );
            if let Some(other) = &arm.trained_as {
                let known = self.arms.iter().find(|arm| arm.name == *other);
                check(
                    known.is_some(),
                    &key("trained_as"),
                    format!("`trained_as` names the arm `{other}`, which is not there"),
                    "name another `[[arm]]`",
                );
                check(
                    known.is_none_or(|known| known.trained_as.is_none()),
                    &key("trained_as"),
                    format!("the arm `{other}` is not trained itself"),
                    "name the arm whose training is meant",
                );
                check(
                    arm.targets.is_none(),
                    &key("targets"),
                    "an arm with `trained_as` has no training of its own, so no `targets`".into(),
                    "remove one of the two",
                );
            }
            check(
                arm.targets.as_ref().is_none_or(|targets| !targets.is_empty()),
                &key("targets"),
                "the arm's `targets` is empty".into(),
                "remove the key to train on `data.targets`",
            );
            check(
                arm.source == Source::Own || arm.view != Access::None,
                &key("source"),
                "shuffled thoughts are not seen by the view `none`".into(),
                "choose a view such as `past`",
            );
        }
        found
    }
}

/// The most bytes of an experiment file that are read.
const MAX_BYTES: u64 = 1 << 20;

/// The most passes over the data; the whole order of training is laid out beforehand.
const MAX_EPOCHS: usize = 10_000;

/// The most resamples; more change nothing but the time.
const MAX_DRAWS: usize = 1_000_000;

/// The highest rank of an adapter; no linear layer is narrow enough to need more.
const MAX_RANK: usize = 4096;

/// The text of an experiment file, which may be anything at all.
fn read_text(path: &Path) -> Result<String, InputError> {
    let failed = |error: std::io::Error| InputError::io(path, "read the experiment", &error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(InputError::new(path, format!("is longer than {MAX_BYTES} bytes, the most that is read")));
    }
    Ok(text)
}

/// A combination that cannot be.
struct Problem {
    key: String,
    cause: String,
    hint: String,
}

/// Reads TOML as an [`Experiment`] as far as it can be; what cannot is noted and left out.
///
/// Nothing at all if the text is not TOML.
fn strict(path: &Path, text: &str, problems: &mut Vec<InputError>) -> Option<toml::Table> {
    let line_at = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let mut rest = text.to_owned();
    loop {
        let error = match toml::from_str::<Experiment>(&rest) {
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let Ok(document) = Document::parse(rest.as_str()) else {
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            problems.push(
                InputError::new(path, message)
                    .at(Place::Line(line_at(span.start)))
                    .hint("experiment files are TOML: https://toml.io"),
            );
            return None;
        };
        let whole = entry_at(document.as_table(), &span).map(|entry| with_section(&rest, entry));
        problems
            .push(explained(path, &rest, error.message(), &span, whole.as_ref()).at(Place::Line(line_at(span.start))));
        let whole = whole?;
        let blank: String = rest[whole.clone()]
            .chars()
            .map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) })
            .collect();
        rest.replace_range(whole, &blank);
    }
    toml::from_str(&rest).ok()
}

/// The bytes of an entry and, where it is written as `section.key = value`, of the section before it.
fn with_section(text: &str, entry: Range<usize>) -> Range<usize> {
    let line = text[..entry.start].rfind('\n').map_or(0, |newline| newline + 1);
    let is_section = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | '\t');
    let start = if text[line..entry.start].chars().all(is_section) { line } else { entry.start };
    start..entry.end
}

/// The problem in our words: which key, and the nearest one that exists.
fn explained(path: &Path, text: &str, message: &str, span: &Range<usize>, whole: Option<&Range<usize>>) -> InputError {
    let message = message.lines().next().unwrap_or(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let key = whole.and_then(|whole| text[whole.clone()].split('=').next()).map_or("", str::trim);
    if let Some((&unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown ")) {
        let what = if message.starts_with("unknown field") { "key" } else { "value" };
        let cause = if what == "key" {
            format!("unknown key `{unknown}`")
        } else {
            format!("`{key}` has the unknown value `{unknown}`")
        };
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
        let hint = match nearest.filter(|name| strsim::jaro_winkler(unknown, name) > 0.75) {
            Some(nearest) => format!("did you mean `{nearest}`? The {what}s here are: {}", known.join(", ")),
            None => format!("the {what}s here are: {}", known.join(", ")),
        };
        return InputError::new(path, cause).hint(hint);
    }
    let found = text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("");
    let cause = if message.starts_with("data did not match any variant of untagged enum Folds") {
        format!("`{key}` is `{found}`, it must be a number of folds or \"users\"")
    } else if message.starts_with("data did not match any variant of untagged enum Paths") {
        format!("`{key}` is `{found}`, it must be a path or a list of paths")
    } else {
        format!("`{key}`: {message}")
    };
    InputError::new(path, cause)
}

/// The bytes of the key and value, or of the table, that an error points into.
fn entry_at(table: &Table, span: &Range<usize>) -> Option<Range<usize>> {
    let inside = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (name, item) in table.iter() {
        let key = table.key(name).and_then(toml_edit::Key::span);
        let found = match item {
            Item::Table(inner) => entry_at(inner, span),
            Item::ArrayOfTables(tables) => tables.iter().find_map(|inner| entry_at(inner, span)),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        let (Some(key), Some(value)) = (key, item.span()) else { continue };
        let both = key.start.min(value.start)..key.end.max(value.end);
        if inside(&key) || inside(&value) || inside(&both) {
            // A whole table is blanked with its content, which ends where its last entry ends.
            let last = match item {
                Item::Table(inner) => inner.iter().filter_map(|(_, item)| item.span()).map(|span| span.end).max(),
                _ => None,
            };
            let start = if matches!(item, Item::Table(_) | Item::ArrayOfTables(_)) { value.start } else { both.start };
            return Some(start..both.end.max(last.unwrap_or(0)));
        }
    }
    None
}

/// The line of a dotted key such as `training.epochs` or `arm[1].name`; of its table if it is absent.
fn line_of(document: &Document<&str>, text: &str, key: &str) -> Option<usize> {
    let mut table = document.as_table();
    let mut found = None;
    for part in key.split('.') {
        let (name, index) = match part.trim_end_matches(']').split_once('[') {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(item) = table.get(name) else { break };
        found = table.key(name).and_then(toml_edit::Key::span).or(found);
        match (item, index) {
            (Item::Table(inner), _) => table = inner,
            (Item::ArrayOfTables(tables), Some(index)) => {
                let inner = tables.get(index)?;
                found = inner.span().or(found);
                table = inner;
            }
            _ => break,
        }
    }
    found.map(|span| 1 + text[..span.start].matches('\n').count())
}

/// Puts every override where it belongs, checked like a file.
fn apply(table: &mut toml::Table, overrides: &[String], problems: &mut Vec<InputError>) {
    for setting in overrides {
        match override_text(setting) {
            Ok((keys, text)) => {
                let mut of_setting = Vec::new();
                let value = strict(Path::new("--set"), &text, &mut of_setting);
                problems.extend(of_setting.into_iter().map(|problem| problem.at(Place::Named(setting.clone()))));
                set(table, &keys, value.unwrap_or_default());
            }
            Err(problem) => problems.push(problem),
        }
    }
}

/// `section.key=value` as TOML text; a value that is not TOML is taken as a string.
fn override_text(setting: &str) -> Result<(Vec<String>, String), InputError> {
    let malformed = || {
        InputError::new("--set", "is not of the form `section.key=value`")
            .at(Place::Named(setting.into()))
            .hint("for example `--set training.epochs=1` or `--set data.path=a.jsonl`")
    };
    let (name, value) = setting.split_once('=').ok_or_else(malformed)?;
    let keys: Vec<String> = name.trim().split('.').map(str::to_owned).collect();
    let plain = |key: &String| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !keys.iter().all(plain) {
        return Err(malformed());
    }
    let value = value.trim();
    let is_toml = format!("value = {value}").parse::<toml::Table>().is_ok_and(|table| table.len() == 1);
    let value = if is_toml { value.to_owned() } else { toml::Value::String(value.into()).to_string() };
    Ok((keys.clone(), format!("{} = {value}", keys.join("."))))
}

/// Puts the one value of `value` where `keys` lead.
fn set(table: &mut toml::Table, keys: &[String], mut value: toml::Table) {
    let Some((key, rest)) = keys.split_first() else { return };
    let Some(inner) = value.remove(key) else { return };
    match inner {
        toml::Value::Table(inner) => {
            let entry = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(existing) = entry {
                match rest.is_empty() {
                    // A whole section at once changes the keys it names and leaves the others.
                    true => existing.extend(inner),
                    false => set(existing, rest, inner),
                }
            }
        }
        inner => {
            table.insert(key.clone(), inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a text, as they are shown.
    fn check(text: &str, overrides: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|&setting| setting.to_owned()).collect();
        let shown: Vec<String> = match Experiment::read(&path, &overrides) {
            Ok(_) => Vec::new(),
            Err(Problems(problems)) => problems
                .iter()
                .map(|problem| {
                    let hint = problem.hint.as_deref().map(|hint| format!(" // {hint}")).unwrap_or_default();
                    format!("{problem}{hint}").replace(&path.display().to_string(), "x.toml")
                })
                .collect(),
        };
        assert_eq!(shown, expected);
    }

    const FINE: &str = "name = \"x\"\n[model]\npath = \"m\"\n[data]\npath = \"d.jsonl\"\n[[arm]]\nname = \"none\"\n";

    #[test]
    fn a_complete_file_is_read_and_survives_its_own_resolved_form() {
        check(FINE, &[], &[]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, FINE).unwrap();
        let experiment =
            Experiment::read(&path, &["training.epochs=7".into(), "data.path=[\"a\", \"b\"]".into()]).unwrap();
        assert_eq!((experiment.training.epochs, experiment.data.path.as_slice().len()), (7, 2));
        assert_eq!(Experiment::from_resolved(&path, &experiment.resolved()).unwrap(), experiment);
    }

    #[test]
    fn the_experiments_that_are_shipped_can_be_read_and_are_complete() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        for name in ["demo", "thoughttrace", "full-finetune"] {
            let path = folder.join(format!("{name}.toml"));
            let experiment = Experiment::read(&path, &["data.path=\"x.jsonl\"".into()]).unwrap();
            assert_eq!(experiment.name, name);
            let text = std::fs::read_to_string(&path).unwrap();
            let written: toml::Table = text.parse().unwrap();
            let resolved: toml::Table = experiment.resolved().parse().unwrap();
            for section in ["data", "split", "training", "evaluation"] {
                let keys = |table: &toml::Table| table[section].as_table().unwrap().keys().cloned().collect::<Vec<_>>();
                let missing: Vec<_> = keys(&resolved).into_iter().filter(|key| !keys(&written).contains(key)).collect();
                assert!(missing.is_empty(), "{name}.toml lacks {missing:?} of [{section}]");
            }
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_lines() {
        check(
            "name = \"x\"\nsede = 1\n[model]\npath = \"m\"\n[training]\nepochs = \"many\"\nlearning_rate = -1.0\n[data]\npath = 7\n[split]\nfolds = true\n[[arm]]\nname = \"a\"\nview = \"passt\"\n[[arm]]\nname = \"a\"\nsource = \"shuffled\"\n",
            &[],
            &[
                "`x.toml` line 2: unknown key `sede` // did you mean `seed`? The keys here are: name, seed, device, output, model, data, split, lora, training, evaluation, arm",
                "`x.toml` line 6: `epochs`: invalid type: string \"many\", expected usize",
                "`x.toml` line 7: `learning_rate` (-1) must be above 0 // LoRA likes 1e-4 to 5e-4, full fine-tuning 1e-5 to 5e-5",
                "`x.toml` line 9: `path` is `7`, it must be a path or a list of paths",
                "`x.toml` line 11: `folds` is `true`, it must be a number of folds or \"users\"",
                "`x.toml` line 14: `view` has the unknown value `passt` // did you mean `past`? The values here are: none, reasons, reactions, past, oracle",
                "`x.toml` line 16: two arms are called `a` // give each its own name",
                "`x.toml` line 17: shuffled thoughts are not seen by the view `none` // choose a view such as `past`",
            ],
        );
    }

    #[test]
    fn a_setting_is_checked_like_the_file() {
        check(
            FINE,
            &["training.epoch=1", "training.clip_norm=-1", "device=cpu", "nonsense"],
            &[
                "`--set`, `training.epoch=1`: unknown key `epoch` // did you mean `epochs`? The keys here are: epochs, conversations_per_step, row_tokens, learning_rate, warmup_steps, schedule, final_learning_rate_share, weight_decay, beta1, beta2, epsilon, clip_norm, recompute, validate_every_steps, patience_validations, save_every_steps",
                "`--set`, `device=cpu`: `device` has the unknown value `cpu` // the values here are: flex, libtorch, cuda, wgpu",
                "`--set`, `nonsense`: is not of the form `section.key=value` // for example `--set training.epochs=1` or `--set data.path=a.jsonl`",
                "`--set`, `training.clip_norm=-1`: `clip_norm` (-1) is negative // 0 turns clipping off",
            ],
        );
        check(
            "name = [\n",
            &[],
            &["`x.toml` line 1: unclosed array, expected `]` // experiment files are TOML: https://toml.io"],
        );
        check(" \n", &[], &["`x.toml`: is empty // start from a copy of `experiments/demo.toml`"]);
    }
}
