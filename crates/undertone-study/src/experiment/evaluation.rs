//! `[evaluation]`: what is measured of each arm, and by which rules it is decided.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use undertone_data::PREDICTED_TOKENS;
use undertone_model::Sampling;
use undertone_stats::MIN_DRAWS;

use super::problem::Found;

/// The most resamples; more change nothing but the time.
const MAX_DRAWS: usize = 1_000_000;

/// The most messages of other users beside a true one.
const MAX_DISTRACTORS: usize = 100;

/// The most tokens of a message that an arm writes.
const MAX_NEW_TOKENS: usize = 8192;

/// Predicted thoughts are drawn from the most likely tokens of this total probability.
const THOUGHT_TOP_P: f64 = 0.9;

/// `[evaluation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSection {
    /// Resamples of users for intervals.
    pub draws: usize,
    /// Tokens that are run through the model at once.
    pub row_tokens: usize,
    /// Messages of other users from which each next prompt is told; 0 for none.
    pub distractors: usize,
    /// The largest difference that does not matter, in nats per token: smaller ones are called tied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Messages that each arm writes.
    pub writing: WritingSection,
    /// Who judges them.
    pub judge: JudgeSection,
}

impl Default for EvaluationSection {
    fn default() -> Self {
        Self {
            draws: 10_000,
            row_tokens: 4096,
            distractors: 0,
            margin: None,
            writing: WritingSection::default(),
            judge: JudgeSection::default(),
        }
    }
}

/// `[evaluation.writing]`: what each arm writes itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WritingSection {
    /// Primary next prompts that each arm writes, to be compared with the true ones; 0 for none.
    pub messages: usize,
    /// First messages of conversations that each training makes up, for how diverse they are; 0 for none.
    pub first_messages: usize,
    /// Most tokens to write.
    pub max_new_tokens: usize,
    /// Of next prompts: 0 takes the most likely token each time.
    pub temperature: f64,
    /// Nucleus sampling.
    pub top_p: f64,
    /// A folder with the sentence encoder that measures similarity; empty for none.
    pub encoder: PathBuf,
}

impl Default for WritingSection {
    fn default() -> Self {
        let Sampling { temperature, top_p, .. } = Sampling::default();
        Self { messages: 0, first_messages: 0, max_new_tokens: 64, temperature, top_p, encoder: PathBuf::new() }
    }
}

/// `[evaluation.judge]`: a model that rates how alike written and true messages are; off without a `url`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeSection {
    /// The base of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`; empty for no judge.
    pub url: String,
    /// What the endpoint calls the model.
    pub model: String,
    /// The environment variable that holds the endpoint's key; empty if it needs none.
    pub api_key_variable: String,
    /// Only messages whose thoughts the judge rates so high, from 1 to 5, are judged; 1 judges all.
    pub least_telling: u8,
}

impl Default for JudgeSection {
    fn default() -> Self {
        Self { url: String::new(), model: String::new(), api_key_variable: String::new(), least_telling: 1 }
    }
}

impl JudgeSection {
    /// Whether the experiment has a judge.
    pub fn is_asked(&self) -> bool {
        !self.url.is_empty()
    }
}

impl WritingSection {
    /// How next prompts are written.
    pub fn sampling(&self, seed: u64) -> Sampling {
        let Self { max_new_tokens, temperature, top_p, .. } = *self;
        Sampling { temperature, top_p, seed, max_new_tokens, ..Sampling::default() }
    }
}

/// How thoughts are predicted: drawn, because the most likely thought of a barely trained model is a poor one; never
/// empty, because no thought of a user is.
pub(crate) fn thought_sampling(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, top_p: THOUGHT_TOP_P, seed, min_new_tokens: 1, max_new_tokens: PREDICTED_TOKENS }
}

impl EvaluationSection {
    pub(super) fn rules(&self, found: &mut Found) {
        found.require(
            self.margin.is_none_or(|margin| margin > 0.0 && margin.is_finite()),
            "evaluation.margin",
            format!("`margin` ({}) must be above 0", self.margin.unwrap_or_default()),
            "in nats per token: the largest difference that would not matter, such as 0.01",
        );
        found.require(
            self.draws >= MIN_DRAWS,
            "evaluation.draws",
            format!("`draws` ({}) is too few for an interval", self.draws),
            "10000 takes well under a second",
        );
        found.require(
            self.draws <= MAX_DRAWS,
            "evaluation.draws",
            format!("`draws` ({}) is above {MAX_DRAWS}", self.draws),
            "10000 is usual",
        );
        found.require(
            self.distractors <= MAX_DISTRACTORS,
            "evaluation.distractors",
            format!("`distractors` ({}) is above {MAX_DISTRACTORS}", self.distractors),
            "9 make one of ten right by chance",
        );
        found.require(self.row_tokens > 0, "evaluation.row_tokens", "`row_tokens` is 0", "2048 is a good value");
        self.writing.rules(found);
        self.judge.rules(&self.writing, found);
    }
}

impl WritingSection {
    fn rules(&self, found: &mut Found) {
        found.require(
            (1..=MAX_NEW_TOKENS).contains(&self.max_new_tokens),
            "evaluation.writing.max_new_tokens",
            format!("`max_new_tokens` ({}) must be from 1 to {MAX_NEW_TOKENS}", self.max_new_tokens),
            "64 holds nine of ten messages",
        );
        found.require(
            (0.0..=100.0).contains(&self.temperature),
            "evaluation.writing.temperature",
            format!("`temperature` ({}) must be from 0 to 100", self.temperature),
            "0 always writes what is most likely",
        );
        found.require(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "evaluation.writing.top_p",
            format!("`top_p` ({}) must be above 0 and at most 1", self.top_p),
            "1 cuts nothing off",
        );
        found.require(
            self.first_messages != 1,
            "evaluation.writing.first_messages",
            "one first message cannot be diverse",
            "0 writes none; 20 are enough",
        );
    }
}

impl JudgeSection {
    fn rules(&self, writing: &WritingSection, found: &mut Found) {
        found.require(
            !self.is_asked() || self.url.starts_with("http://") || self.url.starts_with("https://"),
            "evaluation.judge.url",
            format!("`url` ({:?}) must begin with `http://` or `https://`", self.url),
            "the base of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`",
        );
        found.require(
            !self.is_asked() || !self.model.is_empty(),
            "evaluation.judge.model",
            "a judge needs the name of a `model`",
            "use the name that the endpoint gives it",
        );
        found.require(
            !self.is_asked() || writing.messages > 0,
            "evaluation.judge.url",
            "a judge has nothing to judge: `evaluation.writing.messages` is 0",
            "let arms write some messages",
        );
        found.require(
            (1..=5).contains(&self.least_telling),
            "evaluation.judge.least_telling",
            format!("`least_telling` ({}) must be from 1 to 5", self.least_telling),
            "1 judges every message, 4 those whose thoughts tell much",
        );
    }
}
