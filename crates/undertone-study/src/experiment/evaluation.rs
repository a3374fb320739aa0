//! `[evaluation]`: what is measured of each arm, and the rules that decide comparisons.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use undertone_data::PREDICTED_TOKENS;
use undertone_model::Sampling;
use undertone_stats::MIN_DRAWS;

use super::problem::Found;

/// The most resamples; more would only take longer.
const MAX_DRAWS: usize = 1_000_000;

/// The most distractors per message.
const MAX_DISTRACTORS: usize = 100;

/// The most tokens of a message that an arm writes.
const MAX_NEW_TOKENS: usize = 8192;

/// The nucleus probability (top-p) for predicted thoughts.
const THOUGHT_TOP_P: f64 = 0.9;

/// `[evaluation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationSection {
    /// Bootstrap resamples of users, for intervals.
    pub draws: usize,
    /// Tokens per forward pass.
    pub row_tokens: usize,
    /// Distractors: messages of other users among which each true next prompt is ranked; 0 for none.
    pub distractors: usize,
    /// The largest difference that does not matter, in nats per token; a difference shown to be smaller is a tie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The primary comparison is repeated, without training anew, with thoughts that are older than the target's message
    /// by more than each of these numbers of seconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timing_margins_seconds: Vec<u32>,
    /// How many thoughts are left out, one at a time, to find what each does; 0 for none. Each costs a pass over its window.
    pub attribution: usize,
    /// What `--plan` assumes about differences.
    pub planned: PlannedSection,
    /// Messages that each arm writes.
    pub writing: WritingSection,
    /// The judge of these messages.
    pub judge: JudgeSection,
}

impl Default for EvaluationSection {
    fn default() -> Self {
        Self {
            draws: 10_000,
            row_tokens: 4096,
            distractors: 0,
            margin: None,
            timing_margins_seconds: Vec::new(),
            attribution: 0,
            planned: PlannedSection::default(),
            writing: WritingSection::default(),
            judge: JudgeSection::default(),
        }
    }
}

/// `[evaluation.planned]`: what `--plan` assumes to find the power of the study, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlannedSection {
    /// The true difference.
    pub difference: f64,
    /// The standard deviation of the difference between users.
    pub user_sd: f64,
    /// The standard deviation of the difference between trainings.
    pub training_sd: f64,
    /// The standard deviation of what is left, between a user's trainings.
    pub rest_sd: f64,
}

impl Default for PlannedSection {
    /// A difference of 5 % of perplexity, and standard deviations that are assumed, not measured: a study's report gives its
    /// own.
    fn default() -> Self {
        Self { difference: -0.05, user_sd: 0.1, training_sd: 0.03, rest_sd: 0.05 }
    }
}

/// `[evaluation.writing]`: the messages that each arm writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WritingSection {
    /// The number of primary next prompts that each arm writes, to compare them with the true ones; 0 for none.
    pub messages: usize,
    /// The number of first messages that each training generates, to measure their diversity; 0 for none.
    pub first_messages: usize,
    /// The most tokens per message.
    pub max_new_tokens: usize,
    /// The sampling temperature of next prompts; 0 is greedy.
    pub temperature: f64,
    /// The nucleus probability (top-p) of next prompts.
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
    /// The base URL of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`; empty for no judge.
    pub url: String,
    /// The endpoint's name for the model.
    pub model: String,
    /// The environment variable that holds the endpoint's key; empty if it needs none.
    pub api_key_variable: String,
    /// The judge skips messages whose thoughts it rates lower than this, from 1 to 5; 1 judges all.
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
    /// The sampling of next prompts.
    pub fn sampling(&self, seed: u64) -> Sampling {
        let Self { max_new_tokens, temperature, top_p, .. } = *self;
        Sampling { temperature, top_p, seed, max_new_tokens, ..Sampling::default() }
    }
}

/// The sampling of predicted thoughts. It is not greedy, because greedy thoughts of a barely trained model are poor. A
/// thought is never empty, because no user's thought is.
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
            "with 9, chance is one in ten",
        );
        found.require(self.row_tokens > 0, "evaluation.row_tokens", "`row_tokens` is 0", "2048 is a good value");
        let margins = &self.timing_margins_seconds;
        found.require(
            margins.iter().enumerate().all(|(index, margin)| *margin > 0 && !margins[..index].contains(margin)),
            "evaluation.timing_margins_seconds",
            "`timing_margins_seconds` holds 0 or a number twice",
            "the study itself is the margin 0; for example `[30, 120]`",
        );
        let PlannedSection { difference, user_sd, training_sd, rest_sd } = self.planned;
        for (key, sd) in [("user_sd", user_sd), ("training_sd", training_sd), ("rest_sd", rest_sd)] {
            found.require(
                sd >= 0.0 && sd.is_finite(),
                &format!("evaluation.planned.{key}"),
                format!("`{key}` ({sd}) is not a standard deviation"),
                "in nats per token, at least 0; a report gives those of its study",
            );
        }
        found.require(
            difference.is_finite(),
            "evaluation.planned.difference",
            format!("`difference` ({difference}) is not a number"),
            "in nats per token, such as -0.05",
        );
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
            "`first_messages` is 1, and diversity needs at least 2",
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
        // The experiment is written to the study's folder, and the address into messages.
        let address =
            self.url.split("://").nth(1).unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
        found.require(
            !address.contains('@') && !self.url.contains(['?', '#']),
            "evaluation.judge.url",
            "`url` holds a user, a password or a query, which would be written to files",
            "name the environment variable of a key with `api_key_variable`",
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
            "raise `evaluation.writing.messages`",
        );
        found.require(
            (1..=5).contains(&self.least_telling),
            "evaluation.judge.least_telling",
            format!("`least_telling` ({}) must be from 1 to 5", self.least_telling),
            "1 judges every message, 4 only those whose thoughts tell much about them",
        );
    }
}
