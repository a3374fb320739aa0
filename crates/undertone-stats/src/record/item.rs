//! The record of one target as one arm scored it.

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

/// One target, scored by one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemRecord {
    /// The target's id: the same in every arm, unique within one, for each training seed.
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
    /// The nats of each supervised token, where they were kept; of a label, those of the true one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_nats: Vec<f32>,
    /// The supervised tokens: the content's and the end token.
    pub tokens: usize,
    /// The UTF-8 bytes of the content.
    pub bytes: usize,
    /// For label kinds, how the candidates were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelOutcome>,
    /// How messages of other users scored in the place of this one, where the study asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distractors: Vec<Distractor>,
    /// Whether the item belongs to the primary comparison.
    pub primary: bool,
    /// Whether a thought that is visible to the arm shares a 5-gram with the target.
    pub quotes_target: bool,
    /// How many thoughts the arm could see before the target.
    pub visible_thoughts: usize,
    /// The cross-validation fold that the item was held out in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<usize>,
    /// The seed that the arm's model was trained with; none if it was not trained.
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

/// A message of another user, scored where the true one stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distractor {
    /// Its loss, summed over its tokens.
    pub nats: f64,
    /// Its tokens, the end token among them.
    pub tokens: usize,
}

impl LabelOutcome {
    /// The index of the most probable label; of equals, the first.
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
    /// The place of the true message among itself and its distractors by nats per token, the least first, so that
    /// length alone decides nothing; of equals it is the last. None without distractors.
    pub fn rank(&self) -> Option<usize> {
        let own = self.nats / self.tokens as f64;
        let before = self.distractors.iter().filter(|other| other.nats / other.tokens as f64 <= own).count();
        (!self.distractors.is_empty()).then_some(before + 1)
    }
}
