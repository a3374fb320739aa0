//! Which thoughts a model may see, and where they are placed. No other module decides this.
//!
//! A view never shows a target's own thought before the target, with one declared exception: [`Access::Oracle`]. A view
//! never shows `task_summary` or `task_expectation`, which are not part of a [`Conversation`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Conversation, ThoughtKind};

/// Which kinds of thoughts are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
pub enum Access {
    /// No thought at all.
    #[default]
    None,
    /// Reasons of earlier user messages.
    Reasons,
    /// Reactions to earlier assistant messages.
    Reactions,
    /// Both.
    Past,
    /// For a target user message, the reactions to the reply right before it and no other thought.
    LastReaction,
    /// Both, and for a target user message its own reason: an upper bound, not a valid prediction.
    Oracle,
}

/// By when a thought must have been written to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
pub enum Timing {
    /// Written before the target's message was sent. Unknown times count as late.
    #[default]
    Strict,
    /// Attached to an earlier message, whenever it was written (as in the paper): includes hindsight.
    Anchored,
}

/// Which thoughts the model may see, and by when they must have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct View {
    /// Which kinds.
    pub access: Access,
    /// By when.
    pub timing: Timing,
    /// Under [`Timing::Strict`]: a thought must be older than the target's message by more than this many seconds, so
    /// that clocks that differ by less cannot let hindsight in.
    pub margin_seconds: u32,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::None => return f.pad("none"),
            Access::Reasons => "reasons",
            Access::Reactions => "reactions",
            Access::Past => "past",
            Access::LastReaction => "last reaction",
            Access::Oracle => "oracle",
        };
        let timing = match self.timing {
            Timing::Strict => "strict",
            Timing::Anchored => "anchored",
        };
        match self.margin_seconds {
            0 => f.pad(&format!("{access}, {timing}")),
            margin => f.pad(&format!("{access}, {timing}, {margin} s before")),
        }
    }
}

/// What a view does with one thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Placed in the trunk after the message of this index: the thought's own, or a later one sent before the thought
    /// was written.
    After(usize),
    /// The view does not show this kind.
    NotInView,
    /// Under [`Timing::Strict`]: written after the last message was sent.
    TooLate,
    /// Under [`Timing::Strict`]: its time is unknown.
    UnknownTime,
}

impl View {
    /// Where thought number `thought` of message number `message` is placed.
    ///
    /// Under [`Timing::Strict`] a thought is placed after the last message that had been sent when the thought was
    /// written, or within the margin after that; so every message after the thought was sent later than the margin. A
    /// message of unknown time counts as sent before.
    pub fn place(&self, conversation: &Conversation, message: usize, thought: usize) -> Placement {
        let messages = &conversation.messages;
        let kind = messages[message].thought_kind();
        let shown = match self.access {
            Access::None => false,
            Access::Reasons => kind == ThoughtKind::Reason,
            Access::Reactions | Access::LastReaction => kind == ThoughtKind::Reaction,
            Access::Past | Access::Oracle => true,
        };
        if !shown {
            return Placement::NotInView;
        }
        if self.timing == Timing::Anchored {
            return Placement::After(message);
        }
        let Some(written_at) = messages[message].thoughts[thought].written_at else {
            return Placement::UnknownTime;
        };
        let known_at = written_at.saturating_add(1000 * i64::from(self.margin_seconds));
        let already_sent = |index: usize| messages[index].sent_at.is_none_or(|sent| sent <= known_at);
        let after = (message + 1..messages.len()).rev().find(|&index| already_sent(index)).unwrap_or(message);
        if after + 1 == messages.len() && after > message { Placement::TooLate } else { Placement::After(after) }
    }

    /// The thoughts (message, thought) in front of a target user message in its own branch, where no other target sees
    /// them; empty for a view that shows thoughts only in the trunk.
    pub fn beside(&self, conversation: &Conversation, message: usize) -> Vec<(usize, usize)> {
        let on = |message: usize| (0..conversation.messages[message].thoughts.len()).map(move |one| (message, one));
        match (self.access, message.checked_sub(1)) {
            (Access::Oracle, _) => on(message).collect(),
            (Access::LastReaction, Some(before)) => {
                let in_time =
                    |&(on, thought): &(usize, usize)| self.place(conversation, on, thought) == Placement::After(before);
                on(before).filter(in_time).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether target user messages are branches, with thoughts that only they see.
    pub fn hangs_prompts(&self) -> bool {
        matches!(self.access, Access::Oracle | Access::LastReaction)
    }

    /// Whether thoughts are placed in the trunk, where all later tokens see them.
    pub fn shows_in_trunk(&self) -> bool {
        !matches!(self.access, Access::None | Access::LastReaction)
    }

    /// Whether a target user message is shown with its own reason.
    pub fn is_oracle(&self) -> bool {
        self.access == Access::Oracle
    }

    /// Whether any thought can be seen.
    pub fn sees_thoughts(&self) -> bool {
        self.access != Access::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, Role, Thought};

    /// A message with thoughts written at these times.
    fn message(role: Role, thoughts: &[i64], sent_at: i64) -> Message {
        let thought = |at: &i64| Thought { content: "why".into(), label: None, written_at: Some(*at) };
        Message {
            role,
            content: "text".into(),
            sent_at: Some(sent_at),
            thoughts: thoughts.iter().map(thought).collect(),
        }
    }

    fn conversation(messages: Vec<Message>) -> Conversation {
        Conversation {
            id: "user1_task1_conversation1".into(),
            user: "user1".into(),
            task: "user1_task1".into(),
            assistant_model: None,
            survey: Default::default(),
            messages,
        }
    }

    /// Messages sent at 10, 20, 30, 40; one thought on the message `on`, written at `written_at`.
    fn check_strict(on: usize, written_at: Option<i64>, expected: Placement) {
        let message = |index: usize| Message {
            role: if index.is_multiple_of(2) { Role::User } else { Role::Assistant },
            content: "text".into(),
            sent_at: Some(10 * (index as i64 + 1)),
            thoughts: if index == on {
                vec![Thought { content: "why".into(), label: None, written_at }]
            } else {
                vec![]
            },
        };
        let conversation = conversation((0..4).map(message).collect());
        let view = View { access: Access::Past, ..View::default() };
        assert_eq!(view.place(&conversation, on, 0), expected);
        let anchored = View { timing: Timing::Anchored, ..view };
        assert_eq!(anchored.place(&conversation, on, 0), Placement::After(on));
    }

    #[test]
    fn the_last_reaction_is_seen_by_the_message_after_it_alone_and_in_time() {
        let conversation = conversation(vec![
            message(Role::User, &[11], 10),
            message(Role::Assistant, &[25, 35], 20),
            message(Role::User, &[31], 30),
            message(Role::Assistant, &[45], 40),
            message(Role::User, &[], 50),
        ]);
        let beside =
            |access, timing, message| View { access, timing, ..View::default() }.beside(&conversation, message);
        use Access::{LastReaction, Oracle, Past};
        // The second reaction to the first reply came after the message that follows.
        assert_eq!(beside(LastReaction, Timing::Strict, 2), [(1, 0)]);
        assert_eq!(beside(LastReaction, Timing::Anchored, 2), [(1, 0), (1, 1)]);
        assert_eq!(beside(LastReaction, Timing::Strict, 4), [(3, 0)]);
        assert_eq!(beside(LastReaction, Timing::Strict, 0), []);
        assert_eq!(beside(Oracle, Timing::Strict, 2), [(2, 0)]);
        assert_eq!(beside(Past, Timing::Strict, 2), []);
    }

    #[test]
    fn a_thought_stands_where_it_became_known() {
        check_strict(0, Some(15), Placement::After(0));
        check_strict(0, Some(5), Placement::After(0));
        check_strict(0, Some(20), Placement::After(1));
        check_strict(0, Some(35), Placement::After(2));
        check_strict(0, Some(40), Placement::TooLate);
        check_strict(1, Some(99), Placement::TooLate);
        check_strict(1, None, Placement::UnknownTime);
        check_strict(3, Some(45), Placement::After(3));
    }

    #[test]
    fn a_margin_hides_thoughts_from_targets_sent_soon_after_them() {
        let conversation = conversation(vec![
            message(Role::User, &[5000], 0),
            message(Role::Assistant, &[40000, 100000], 20000),
            message(Role::User, &[], 110000),
            message(Role::Assistant, &[], 130000),
            message(Role::User, &[], 300000),
        ]);
        let place = |margin_seconds, message, thought| {
            let view = View { access: Access::Past, timing: Timing::Strict, margin_seconds };
            view.place(&conversation, message, thought)
        };
        // A reason written 105 s before the next message, and reactions written 70 and 10 s before it.
        assert_eq!([place(0, 0, 0), place(0, 1, 0), place(0, 1, 1)], [0, 1, 1].map(Placement::After));
        assert_eq!([place(60, 0, 0), place(60, 1, 0), place(60, 1, 1)], [1, 1, 3].map(Placement::After));
        assert_eq!([place(70, 0, 0), place(70, 1, 0), place(104, 0, 0)], [1, 2, 1].map(Placement::After));
        assert_eq!(place(105, 0, 0), Placement::After(2));
        assert_eq!(place(400, 1, 0), Placement::TooLate);
    }
}
