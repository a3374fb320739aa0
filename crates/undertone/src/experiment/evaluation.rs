//! `[evaluation]`: what is measured of each arm, and by which rules it is decided.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use undertone_model::Sampling;

/// `[evaluation]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EvaluationSection {
    /// Resamples of users for intervals.
    pub(crate) draws: usize,
    /// Tokens that are run through the model at once.
    pub(crate) row_tokens: usize,
    /// Messages of other users from which each next prompt is told; 0 for none.
    pub(crate) distractors: usize,
    /// A difference below this does not matter, in nats per token: what is shown to be smaller is called tied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<f64>,
    pub(crate) writing: WritingSection,
    pub(crate) judge: JudgeSection,
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
pub(crate) struct WritingSection {
    /// Primary next prompts that each arm writes, to be compared with the true ones; 0 for none.
    pub(crate) messages: usize,
    /// First messages of conversations that each training makes up, for how diverse they are; 0 for none.
    pub(crate) first_messages: usize,
    /// Most tokens to write.
    pub(crate) max_new_tokens: usize,
    /// Of next prompts: 0 takes the most likely token each time.
    pub(crate) temperature: f64,
    /// Nucleus sampling.
    pub(crate) top_p: f64,
    /// A folder with the sentence encoder that measures similarity; empty for none.
    pub(crate) encoder: PathBuf,
}

impl Default for WritingSection {
    fn default() -> Self {
        let Sampling { temperature, top_p, .. } = Sampling::default();
        Self { messages: 0, first_messages: 0, max_new_tokens: 64, temperature, top_p, encoder: PathBuf::new() }
    }
}

/// `[evaluation.judge]`: somebody who is asked how alike what arms write and what is true are; off without a `url`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JudgeSection {
    /// The base of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`; empty for no judge.
    pub(crate) url: String,
    /// What the endpoint calls the model.
    pub(crate) model: String,
    /// The environment variable that holds the endpoint's key; empty if it needs none.
    pub(crate) api_key_variable: String,
    /// Only messages whose thoughts the judge rates so high, from 1 to 5, are judged; 1 judges all.
    pub(crate) least_telling: u8,
}

impl Default for JudgeSection {
    fn default() -> Self {
        Self { url: String::new(), model: String::new(), api_key_variable: String::new(), least_telling: 1 }
    }
}

impl JudgeSection {
    pub(crate) fn is_asked(&self) -> bool {
        !self.url.is_empty()
    }
}

impl WritingSection {
    /// How next prompts are written.
    pub(crate) fn sampling(&self, seed: u64) -> Sampling {
        let Self { max_new_tokens, temperature, top_p, .. } = *self;
        Sampling { temperature, top_p, seed, max_new_tokens, ..Sampling::default() }
    }
}
