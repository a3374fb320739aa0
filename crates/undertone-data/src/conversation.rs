//! A conversation as read: typed, trimmed, in order, without post-hoc fields.
//!
//! `task_summary` and `task_expectation` are written after a conversation, so they are not part of [`Conversation`] and
//! no view can reach them.

use serde::{Deserialize, Serialize};

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The AI.
    Assistant,
}

/// The kind of a thought, which follows from the role of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThoughtKind {
    /// Why the user sent this message.
    Reason,
    /// What the user thought of this reply.
    Reaction,
}

/// A label of a reason or reaction: its key in the files and the paper's name for it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// As the files spell it.
    pub key: &'static str,
    /// As the paper (arXiv 2605.20087) shows it to people; also the text a model scores.
    pub name: &'static str,
}

/// The labels of reasons, in the paper's order of frequency.
pub const REASON_LABELS: [Label; 7] = [
    Label { key: "task_motivation", name: "Task Motivation & Goal" },
    Label { key: "task_continuation", name: "Task Continuation" },
    Label { key: "context_grounding_and_constraints", name: "Context Grounding & Constraints" },
    Label { key: "content_expectation", name: "Content Expectation" },
    Label { key: "social_and_others", name: "Social & Others" },
    Label { key: "style_expectation", name: "Style Expectation" },
    Label { key: "task_reorientation", name: "Task Reorientation" },
];

/// The labels of reactions, in the paper's order of frequency.
pub const REACTION_LABELS: [Label; 5] = [
    Label { key: "explicit_affirmation", name: "Explicit Affirmation" },
    Label { key: "content_relevance", name: "Content Relevance" },
    Label { key: "presentation_style", name: "Presentation Style" },
    Label { key: "scope_fit", name: "Scope Fit" },
    Label { key: "partial_satisfaction", name: "Partial Satisfaction" },
];

/// Whether a conversation goes on after a reply: the labels of [`crate::TargetKind::ConversationEnd`].
pub const END_LABELS: [Label; 2] = [Label { key: "goes_on", name: "Goes On" }, Label { key: "ends", name: "Ends" }];

impl ThoughtKind {
    /// The labels of this kind; a label is identified by its index here.
    pub fn labels(self) -> &'static [Label] {
        match self {
            Self::Reason => &REASON_LABELS,
            Self::Reaction => &REACTION_LABELS,
        }
    }
}

/// One self-reported thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thought {
    /// The text, trimmed, never empty.
    pub content: String,
    /// Index into [`ThoughtKind::labels`] of the kind that fits the message's role.
    pub label: Option<usize>,
    /// When it was written, milliseconds since 1970 UTC.
    pub written_at: Option<i64>,
}

/// One message with the thoughts attached to it, in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who wrote it.
    pub role: Role,
    /// The text, trimmed. Empty only for a blank reply, or if the configuration keeps empty messages.
    pub content: String,
    /// When it was sent, milliseconds since 1970 UTC.
    pub sent_at: Option<i64>,
    /// Reasons (on a user message) or reactions (on an assistant message).
    pub thoughts: Vec<Thought>,
}

impl Message {
    /// The kind of the thoughts attached to this message.
    pub fn thought_kind(&self) -> ThoughtKind {
        match self.role {
            Role::User => ThoughtKind::Reason,
            Role::Assistant => ThoughtKind::Reaction,
        }
    }
}

/// A user's published survey answers; for groups in a report, never for a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// In years.
    pub age: Option<u32>,
    /// In the user's words, like the fields below.
    pub gender: Option<String>,
    /// The highest level of education.
    pub education: Option<String>,
    /// How often the user uses such assistants, from 1 to 5.
    pub frequency: Option<String>,
}

/// One conversation of one user with one assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// As published, such as `user6_task2_conversation1`.
    pub id: String,
    /// The user's part of the id, such as `user6`; splits are by user.
    pub user: String,
    /// User and task, such as `user6_task2`; conversations of one task are near copies of each other.
    pub task: String,
    /// The assistant that answered, as published.
    pub assistant_model: Option<String>,
    /// The user's survey answers.
    pub survey: Survey,
    /// The messages in order.
    pub messages: Vec<Message>,
}
