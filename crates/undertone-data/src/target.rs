//! What is predicted: the kinds of target, and the identity of one target within a study.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{END_LABELS, Label, REACTION_LABELS, REASON_LABELS};

/// The kind of a target. Kinds are never pooled in evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// The user's message: its content and the end token.
    NextPrompt,
    /// The text of a reaction to an assistant message.
    Reaction,
    /// The label of a reaction, scored as candidates.
    ReactionLabel,
    /// The text of the reason for a user message.
    Reason,
    /// The label of a reason, scored as candidates.
    ReasonLabel,
    /// Whether the user writes nothing more after a reply, scored as candidates.
    ConversationEnd,
}

impl TargetKind {
    /// Every kind, in the order reports show them.
    pub const ALL: [Self; 6] =
        [Self::NextPrompt, Self::Reaction, Self::ReactionLabel, Self::Reason, Self::ReasonLabel, Self::ConversationEnd];

    /// As configuration and result files spell it.
    pub fn key(self) -> &'static str {
        match self {
            Self::NextPrompt => "next_prompt",
            Self::Reaction => "reaction",
            Self::ReactionLabel => "reaction_label",
            Self::Reason => "reason",
            Self::ReasonLabel => "reason_label",
            Self::ConversationEnd => "conversation_end",
        }
    }

    /// The labels of a kind that is scored as candidates.
    pub fn labels(self) -> Option<&'static [Label]> {
        match self {
            Self::ReactionLabel => Some(&REACTION_LABELS),
            Self::ReasonLabel => Some(&REASON_LABELS),
            Self::ConversationEnd => Some(&END_LABELS),
            Self::NextPrompt | Self::Reaction | Self::Reason => None,
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.key())
    }
}

/// One thing to predict, the same in every view and arm of a study.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The conversation's id.
    pub conversation: String,
    /// Index of the message that is predicted, or to which the predicted thought is attached.
    pub message: usize,
    /// What is predicted.
    pub kind: TargetKind,
    /// Which of the message's thoughts; 0 for a message.
    pub thought: usize,
}

/// `user6_task2_conversation1/3/next_prompt`, and `…/4/reaction/1` for a second reaction.
impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.conversation, self.message, self.kind)?;
        match self.thought {
            0 => Ok(()),
            thought => write!(f, "/{thought}"),
        }
    }
}
