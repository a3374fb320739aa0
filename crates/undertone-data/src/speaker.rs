//! Who writes a turn.

use serde::{Deserialize, Serialize};

use crate::{Role, TargetKind, ThoughtKind};

/// Whose turn a header opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Speaker {
    /// The fixed text before every conversation.
    System,
    /// A message.
    Message(Role),
    /// The text of a thought.
    Thought(ThoughtKind),
    /// The label of a thought; only ever a target, never context.
    Label(ThoughtKind),
    /// Whether the conversation ends here; only ever a target.
    End,
}

impl Speaker {
    /// Every speaker.
    pub const ALL: [Self; 8] = [
        Self::System,
        Self::Message(Role::User),
        Self::Message(Role::Assistant),
        Self::Thought(ThoughtKind::Reason),
        Self::Thought(ThoughtKind::Reaction),
        Self::Label(ThoughtKind::Reason),
        Self::Label(ThoughtKind::Reaction),
        Self::End,
    ];

    /// Who writes a target.
    pub fn of(kind: TargetKind) -> Self {
        use crate::ThoughtKind::{Reaction, Reason};
        match kind {
            TargetKind::NextPrompt => Self::Message(Role::User),
            TargetKind::Reaction => Self::Thought(Reaction),
            TargetKind::Reason => Self::Thought(Reason),
            TargetKind::ReactionLabel => Self::Label(Reaction),
            TargetKind::ReasonLabel => Self::Label(Reason),
            TargetKind::ConversationEnd => Self::End,
        }
    }

    /// The role name in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Message(Role::User) => "user",
            Self::Message(Role::Assistant) => "assistant",
            Self::Thought(ThoughtKind::Reason) => "reason",
            Self::Thought(ThoughtKind::Reaction) => "reaction",
            Self::Label(ThoughtKind::Reason) => "reason label",
            Self::Label(ThoughtKind::Reaction) => "reaction label",
            Self::End => "conversation",
        }
    }
}

impl From<Speaker> for String {
    fn from(speaker: Speaker) -> Self {
        speaker.name().to_owned()
    }
}

impl TryFrom<String> for Speaker {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|speaker| speaker.name() == name);
        found.ok_or_else(|| format!("`{name}` is no role of a conversation"))
    }
}
