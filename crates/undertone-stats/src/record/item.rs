//! The record of one target as one arm scored it.

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

/// One target, scored by one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemRecord {
    /// The target's id: the same in every arm, unique within one arm and training seed.
    pub item: String,
    /// The conversation the target is from.
    pub conversation: String,
    /// The user whose conversation it is: the unit that the bootstrap resamples.
    pub user: String,
    /// What was predicted. Kinds are never pooled.
    pub kind: TargetKind,
    /// The arm that scored it.
    pub arm: String,
    /// The loss: −ln p of the target, summed over its supervised tokens.
    pub nats: f64,
    /// The nats of each supervised token, if kept; for a label, those of the true label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_nats: Vec<f32>,
    /// The number of supervised tokens: the content's and the end token.
    pub tokens: usize,
    /// The number of UTF-8 bytes of the content.
    pub bytes: usize,
    /// For label kinds, how the candidates were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelOutcome>,
    /// Messages of other users, scored in the place of this one if the study asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distractors: Vec<Distractor>,
    /// Whether the item belongs to the primary comparison.
    pub primary: bool,
    /// Whether a thought that is visible to the arm holds five consecutive words of the target, or all words of a
    /// shorter target.
    pub quotes_target: bool,
    /// How many thoughts the arm could see before the target.
    pub visible_thoughts: usize,
    /// Whether one of these thoughts has no words because the source has no donor for it. No comparison counts such an
    /// item.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_words: bool,
    /// How many tokens of the replies before the target the arm could not see: those cut from the middle of replies, and
    /// those of replies before the window.
    #[serde(default)]
    pub reply_tokens_lost: usize,
    /// The cross-validation fold that the item was held out in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<usize>,
    /// The seed that the arm's model was trained with; `None` if it was not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The candidates of one label target, scored side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelOutcome {
    /// The index of the true label.
    pub truth: usize,
    /// The probability of each label, in the order of the kind's labels: the softmax of the
    /// candidates' negated summed nats. Sums to 1.
    pub probabilities: Vec<f64>,
}

/// A message of another user, scored in the place of the true one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distractor {
    /// Its loss in nats, summed over its tokens.
    pub nats: f64,
    /// Its number of tokens, including the end token.
    pub tokens: usize,
}

impl LabelOutcome {
    /// The index of the most probable label; the first of ties.
    pub fn prediction(&self) -> usize {
        let mut best = 0;
        for (class, probability) in self.probabilities.iter().enumerate() {
            if *probability > self.probabilities[best] {
                best = class;
            }
        }
        best
    }
}

impl ItemRecord {
    /// The rank of the true message among itself and its distractors, from 1, lowest loss first. Losses are per token,
    /// so that length alone decides nothing; the true message is the last of ties. `None` without distractors.
    pub fn rank(&self) -> Option<usize> {
        let own = self.nats / self.tokens as f64;
        let before = self.distractors.iter().filter(|other| other.nats / other.tokens as f64 <= own).count();
        (!self.distractors.is_empty()).then_some(before + 1)
    }
}
