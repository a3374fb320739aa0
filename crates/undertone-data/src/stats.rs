//! Statistics of conversations, for judging a data set before using it.
//!
//! Counts what a comparison depends on: targets, the thoughts before them, and the thoughts written too late. Tokens
//! are not counted here: they depend on the template and the tokenizer.

mod near_duplicates;
#[cfg(test)]
mod tests;

pub use near_duplicates::{NearDuplicates, PostHoc, near_duplicates};

use std::collections::HashSet;

use serde::Serialize;

use crate::conversation::{Conversation, Message, Role, ThoughtKind};
use crate::user_id::{LookAlikes, appearance, user_and_task};

/// The statistics of a set of conversations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataStats {
    /// Conversations.
    pub conversations: usize,
    /// Distinct users.
    pub users: usize,
    /// Distinct tasks; a task may have several conversations.
    pub tasks: usize,
    /// Distinct assistants, by `model_name`.
    pub assistant_models: usize,
    /// User messages.
    pub user_messages: usize,
    /// User messages that are not the first of their conversation: the targets of a comparison.
    pub user_messages_after_first: usize,
    /// Assistant messages.
    pub assistant_messages: usize,
    /// User messages with at least one reason.
    pub user_messages_with_reason: usize,
    /// Assistant messages with at least one reaction.
    pub assistant_messages_with_reaction: usize,
    /// Thoughts on user messages.
    pub reasons: ThoughtStats,
    /// Thoughts on assistant messages.
    pub reactions: ThoughtStats,
    /// When thoughts were written, relative to the next user message.
    pub timing: ThoughtTiming,
    /// Lengths of user messages in characters.
    pub user_message_characters: Quantiles,
    /// Lengths of assistant messages in characters.
    pub assistant_message_characters: Quantiles,
    /// Lengths of thoughts in characters.
    pub thought_characters: Quantiles,
    /// Conversations of different users about nearly the same task.
    pub near_duplicate_tasks: NearDuplicates,
    /// Groups of user ids that differ only in case, white space, invisible characters, width or zeros before a number, and may be
    /// of one person.
    pub look_alike_users: Vec<Vec<String>>,
}

/// The thoughts of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThoughtStats {
    /// How many there are.
    pub count: usize,
    /// How many of them have no label.
    pub without_label: usize,
    /// How often each label occurs, in the paper's order.
    pub labels: Vec<LabelShare>,
}

/// How often a label occurs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelShare {
    /// As the files spell it.
    pub key: &'static str,
    /// As the paper shows it.
    pub name: &'static str,
    /// Thoughts with this label.
    pub count: usize,
    /// Their share of the labelled thoughts of the kind, 0 to 1.
    pub share: f64,
}

/// When thoughts were written, relative to the next user message of their conversation.
///
/// A late thought is hindsight for a model that predicts that message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ThoughtTiming {
    /// Thoughts that a user message follows: the sum of the next three.
    pub precede_a_user_message: usize,
    /// Written before that message was sent.
    pub before: usize,
    /// Written after that message was sent, or in the same millisecond.
    pub late: usize,
    /// The time of the thought or of the message is unknown.
    pub unknown: usize,
    /// Thoughts that no user message follows.
    pub nothing_follows: usize,
}

/// Quantiles by nearest rank: each is a length that occurs. All are 0 if there are no lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Quantiles {
    /// How many lengths there are.
    pub count: usize,
    /// The shortest.
    pub min: usize,
    /// A quarter is at most this long.
    pub p25: usize,
    /// The lower median.
    pub p50: usize,
    /// Three quarters are at most this long.
    pub p75: usize,
    /// Nine in ten are at most this long.
    pub p90: usize,
    /// 99 in a hundred are at most this long.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

impl Quantiles {
    /// Each number with its name, in the order of the fields.
    pub fn numbers(&self) -> [(&'static str, usize); 8] {
        let Self { count, min, p25, p50, p75, p90, p99, max } = *self;
        [
            ("count", count),
            ("min", min),
            ("p25", p25),
            ("p50", p50),
            ("p75", p75),
            ("p90", p90),
            ("p99", p99),
            ("max", max),
        ]
    }

    /// Quantiles of lengths in any order.
    pub fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let count = lengths.len();
        let at = |percent: usize| match (count * percent).div_ceil(100) {
            0 => lengths.first().copied().unwrap_or(0),
            rank => lengths[rank - 1],
        };
        Self { count, min: at(0), p25: at(25), p50: at(50), p75: at(75), p90: at(90), p99: at(99), max: at(100) }
    }
}

/// Collects the statistics of conversations one by one; keeps lengths and hashes, no text.
#[derive(Debug, Default)]
pub struct StatsBuilder {
    users: HashSet<String>,
    look_alikes: LookAlikes,
    tasks: HashSet<String>,
    assistant_models: HashSet<String>,
    user_messages_after_first: usize,
    user_messages_with_reason: usize,
    assistant_messages_with_reaction: usize,
    reasons: LabelCounts,
    reactions: LabelCounts,
    timing: ThoughtTiming,
    user_message_characters: Vec<usize>,
    assistant_message_characters: Vec<usize>,
    thought_characters: Vec<usize>,
    task_texts: Vec<TaskText>,
}

#[derive(Debug)]
struct TaskText {
    user: String,
    id: String,
    text: PostHoc,
}

#[derive(Debug, Default)]
struct LabelCounts {
    count: usize,
    without_label: usize,
    /// One count per label of the kind; empty before the first thought.
    by_label: Vec<usize>,
}

impl LabelCounts {
    fn add(&mut self, label: Option<usize>, kind: ThoughtKind) {
        self.count += 1;
        self.by_label.resize(kind.labels().len(), 0);
        match label {
            Some(label) => self.by_label[label] += 1,
            None => self.without_label += 1,
        }
    }

    fn finish(&self, kind: ThoughtKind) -> ThoughtStats {
        let labelled = (self.count - self.without_label).max(1) as f64;
        let labels = kind.labels().iter().enumerate().map(|(index, label)| {
            let count = self.by_label.get(index).copied().unwrap_or(0);
            LabelShare { key: label.key, name: label.name, count, share: count as f64 / labelled }
        });
        ThoughtStats { count: self.count, without_label: self.without_label, labels: labels.collect() }
    }
}

impl StatsBuilder {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a conversation and the hashes of its task text.
    pub fn add(&mut self, conversation: &Conversation, task_text: &PostHoc) {
        self.users.insert(conversation.user.clone());
        // An id of another shape counts as its own user; it may have the published shape to the eye.
        let shown = appearance(&conversation.id);
        let user = user_and_task(&shown).map(|(user, _)| user.to_owned());
        self.look_alikes.add(&conversation.user, user.unwrap_or_else(|| appearance(&conversation.user)));
        self.tasks.insert(conversation.task.clone());
        self.assistant_models.extend(conversation.assistant_model.clone());
        self.task_texts.push(TaskText {
            user: conversation.user.clone(),
            id: conversation.id.clone(),
            text: task_text.clone(),
        });

        let messages = &conversation.messages;
        let mut user_messages = 0_usize;
        for message in messages {
            let characters = message.content.chars().count();
            let has_thought = usize::from(!message.thoughts.is_empty());
            match message.role {
                Role::User => {
                    user_messages += 1;
                    self.user_message_characters.push(characters);
                    self.user_messages_with_reason += has_thought;
                }
                Role::Assistant => {
                    self.assistant_message_characters.push(characters);
                    self.assistant_messages_with_reaction += has_thought;
                }
            }
        }
        self.user_messages_after_first += user_messages.saturating_sub(1);

        // Backwards, so that the next user message is always known.
        let mut next_user_message: Option<&Message> = None;
        for message in messages.iter().rev() {
            self.add_thoughts(message, next_user_message);
            if message.role == Role::User {
                next_user_message = Some(message);
            }
        }
    }

    fn add_thoughts(&mut self, message: &Message, next_user_message: Option<&Message>) {
        let kind = message.thought_kind();
        for thought in &message.thoughts {
            match kind {
                ThoughtKind::Reason => self.reasons.add(thought.label, kind),
                ThoughtKind::Reaction => self.reactions.add(thought.label, kind),
            }
            self.thought_characters.push(thought.content.chars().count());
            let Some(next) = next_user_message else {
                self.timing.nothing_follows += 1;
                continue;
            };
            self.timing.precede_a_user_message += 1;
            match (thought.written_at, next.sent_at) {
                (Some(written_at), Some(sent_at)) if written_at < sent_at => {
                    self.timing.before += 1;
                }
                (Some(_), Some(_)) => self.timing.late += 1,
                _ => self.timing.unknown += 1,
            }
        }
    }

    /// The statistics of everything added.
    pub fn finish(self) -> DataStats {
        DataStats {
            conversations: self.task_texts.len(),
            users: self.users.len(),
            tasks: self.tasks.len(),
            assistant_models: self.assistant_models.len(),
            user_messages: self.user_message_characters.len(),
            user_messages_after_first: self.user_messages_after_first,
            assistant_messages: self.assistant_message_characters.len(),
            user_messages_with_reason: self.user_messages_with_reason,
            assistant_messages_with_reaction: self.assistant_messages_with_reaction,
            reasons: self.reasons.finish(ThoughtKind::Reason),
            reactions: self.reactions.finish(ThoughtKind::Reaction),
            timing: self.timing,
            near_duplicate_tasks: near_duplicates(
                self.task_texts.iter().map(|task| (task.user.as_str(), task.id.as_str(), &task.text)),
            ),
            look_alike_users: self.look_alikes.groups(),
            user_message_characters: Quantiles::of(self.user_message_characters),
            assistant_message_characters: Quantiles::of(self.assistant_message_characters),
            thought_characters: Quantiles::of(self.thought_characters),
        }
    }
}
