//! Policies for messages that are valid but unusual: empty, two of one role in a row, an assistant message first.
//!
//! The [`ReadReport`] counts each application of a policy. Policies apply once, when a file is read and before any view
//! exists, so that all arms of a comparison see the same messages. Before the policies apply, white space is trimmed
//! and empty thoughts are dropped.

use serde::{Deserialize, Serialize};

use super::report::ReadReport;
use crate::conversation::{Message, Role};

/// The separator between merged messages.
const MERGED_SEPARATOR: &str = "\n\n";

/// Policies for messages that are valid but unusual, applied in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CleanOptions {
    /// Messages without text.
    pub empty_messages: EmptyMessages,
    /// A message of the same role as the one before it.
    pub consecutive: Consecutive,
    /// A conversation that begins with an assistant message.
    pub assistant_first: AssistantFirst,
}

/// Policy for messages without text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyMessages {
    /// They stay. An empty user message is context, but not a target.
    Keep,
    /// They are dropped with their thoughts, except for an empty reply to a user message.
    ///
    /// An empty user message holds nothing to predict, and an empty assistant message that answers no user message
    /// holds nothing to condition on. An empty reply stays because the user saw it: the reaction and the next message
    /// respond to it.
    #[default]
    Drop,
    /// They make the line invalid.
    Refuse,
}

/// Policy for a message of the same role as the message before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consecutive {
    /// Both stay as separate turns, as they were sent.
    #[default]
    Keep,
    /// The texts are joined with a blank line; the thoughts are appended in order.
    ///
    /// The message has the time of its *first* part, or no time if any part has none. A `strict` view shows a target
    /// only the thoughts written before the target was sent, and a thought written between the parts may be about the
    /// first part, which belongs to the target.
    Merge,
    /// They make the line invalid.
    Refuse,
}

/// Policy for a conversation that begins with an assistant message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssistantFirst {
    /// It stays: a greeting, or the rest of a truncated history, is ordinary context.
    #[default]
    Keep,
    /// Every assistant message before the first user message is dropped with its reactions.
    Drop,
    /// It makes the line invalid.
    Refuse,
}

/// A message with its index in the published list, which errors name.
pub(super) struct Numbered {
    pub(super) index: usize,
    pub(super) message: Message,
}

/// A message that a policy refuses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Index in the published list.
    pub(super) index: usize,
    pub(super) cause: String,
    pub(super) hint: String,
}

/// Applies the policies and counts what they did.
pub(super) fn clean(
    messages: Vec<Numbered>,
    options: &CleanOptions,
    report: &mut ReadReport,
) -> Result<Vec<Message>, Refusal> {
    let messages = clean_empty(messages, options.empty_messages, report)?;
    let messages = clean_consecutive(messages, options.consecutive, report)?;
    clean_assistant_first(messages, options.assistant_first, report)
}

fn clean_empty(
    messages: Vec<Numbered>,
    policy: EmptyMessages,
    report: &mut ReadReport,
) -> Result<Vec<Numbered>, Refusal> {
    let mut kept: Vec<Numbered> = Vec::with_capacity(messages.len());
    for numbered in messages {
        let Numbered { index, message } = &numbered;
        if !message.content.is_empty() {
            kept.push(numbered);
            continue;
        }
        let is_reply =
            message.role == Role::Assistant && kept.last().is_some_and(|last| last.message.role == Role::User);
        match policy {
            EmptyMessages::Refuse => {
                return Err(Refusal {
                    index: *index,
                    cause: format!("the {} message is empty", role_name(message.role)),
                    hint: "`empty_messages` is `refuse`; `drop` and `keep` allow it".into(),
                });
            }
            EmptyMessages::Drop if !is_reply => {
                report.empty_messages_dropped += 1;
                report.thoughts_dropped_with_messages += message.thoughts.len();
            }
            EmptyMessages::Drop | EmptyMessages::Keep => {
                report.empty_messages_kept += 1;
                kept.push(numbered);
            }
        }
    }
    Ok(kept)
}

fn clean_consecutive(
    messages: Vec<Numbered>,
    policy: Consecutive,
    report: &mut ReadReport,
) -> Result<Vec<Numbered>, Refusal> {
    let mut kept: Vec<Numbered> = Vec::with_capacity(messages.len());
    for numbered in messages {
        let Some(previous) = kept.last_mut().filter(|previous| previous.message.role == numbered.message.role) else {
            kept.push(numbered);
            continue;
        };
        match policy {
            Consecutive::Keep => {
                report.consecutive_kept += 1;
                kept.push(numbered);
            }
            Consecutive::Merge => {
                report.consecutive_merged += 1;
                merge(&mut previous.message, numbered.message);
            }
            Consecutive::Refuse => {
                return Err(Refusal {
                    index: numbered.index,
                    cause: format!("two {} messages in a row", role_name(numbered.message.role)),
                    hint: "`consecutive` is `refuse`; `keep` and `merge` allow it".into(),
                });
            }
        }
    }
    Ok(kept)
}

/// Appends `next` to `message`; see [`Consecutive::Merge`].
fn merge(message: &mut Message, next: Message) {
    if !message.content.is_empty() && !next.content.is_empty() {
        message.content.push_str(MERGED_SEPARATOR);
    }
    message.content.push_str(&next.content);
    message.sent_at = match (message.sent_at, next.sent_at) {
        (Some(first), Some(second)) => Some(first.min(second)),
        _ => None,
    };
    message.thoughts.extend(next.thoughts);
}

fn clean_assistant_first(
    messages: Vec<Numbered>,
    policy: AssistantFirst,
    report: &mut ReadReport,
) -> Result<Vec<Message>, Refusal> {
    let leading = messages.iter().take_while(|numbered| numbered.message.role == Role::Assistant).count();
    let mut messages = messages;
    if leading > 0 {
        match policy {
            AssistantFirst::Keep => report.assistant_first_kept += 1,
            AssistantFirst::Drop => {
                report.assistant_first_dropped += leading;
                for dropped in messages.drain(..leading) {
                    report.thoughts_dropped_with_messages += dropped.message.thoughts.len();
                }
            }
            AssistantFirst::Refuse => {
                return Err(Refusal {
                    index: messages[0].index,
                    cause: "the conversation begins with an assistant message".into(),
                    hint: "`assistant_first` is `refuse`; `keep` and `drop` allow it".into(),
                });
            }
        }
    }
    Ok(messages.into_iter().map(|numbered| numbered.message).collect())
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Thought;

    /// `u1 hello {a, b}` is a user message sent at 1 with the thoughts `a` and `b`; `a? hi` is an
    /// assistant message of unknown time; `u2` is an empty one.
    fn parse(conversation: &str) -> Vec<Numbered> {
        let parse_message = |(index, text): (usize, &str)| {
            let (text, thoughts) = text.split_once('{').unwrap_or((text, "}"));
            let (header, content) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
            let (role, time) = header.split_at(1);
            let thoughts = thoughts.trim_end_matches('}').split(", ").map(|content| Thought {
                content: content.to_owned(),
                label: None,
                written_at: None,
            });
            let message = Message {
                role: if role == "u" { Role::User } else { Role::Assistant },
                content: content.trim().to_owned(),
                sent_at: time.parse().ok(),
                thoughts: thoughts.filter(|thought| !thought.content.is_empty()).collect(),
            };
            Numbered { index, message }
        };
        conversation.split(" | ").enumerate().map(parse_message).collect()
    }

    fn show(messages: &[Message]) -> String {
        let show_message = |message: &Message| {
            let role = if message.role == Role::User { "u" } else { "a" };
            let time = message.sent_at.map_or("?".into(), |time| time.to_string());
            let thoughts: Vec<&str> = message.thoughts.iter().map(|t| t.content.as_str()).collect();
            let thoughts = match thoughts.is_empty() {
                true => String::new(),
                false => format!(" {{{}}}", thoughts.join(", ")),
            };
            let space = if message.content.is_empty() { "" } else { " " };
            format!("{role}{time}{space}{}{thoughts}", message.content.replace('\n', "/"))
        };
        messages.iter().map(show_message).collect::<Vec<_>>().join(" | ")
    }

    fn check(conversation: &str, options: CleanOptions, expect: &str, counts: ReadReport) {
        let mut report = ReadReport::default();
        let cleaned = clean(parse(conversation), &options, &mut report).expect("none of these options refuses");
        assert_eq!(show(&cleaned), expect);
        assert_eq!(report, counts);
    }

    fn refusal(conversation: &str, options: CleanOptions) -> (usize, String) {
        let refusal =
            clean(parse(conversation), &options, &mut ReadReport::default()).expect_err("these options refuse");
        (refusal.index, format!("{}. {}", refusal.cause, refusal.hint))
    }

    #[test]
    fn the_default_drops_empty_messages_but_keeps_blank_replies_users_saw() {
        check(
            "a1 {r} | u2 hi | a3 {blank!} | u4 {why} | u5 hello? | a6 | a7",
            CleanOptions::default(),
            "u2 hi | a3 {blank!} | u5 hello? | a6",
            ReadReport {
                empty_messages_dropped: 3,
                empty_messages_kept: 2,
                thoughts_dropped_with_messages: 2,
                ..ReadReport::default()
            },
        );
    }

    #[test]
    fn empty_messages_can_be_kept_or_refused() {
        let keep = CleanOptions { empty_messages: EmptyMessages::Keep, ..CleanOptions::default() };
        let kept = ReadReport { empty_messages_kept: 2, ..ReadReport::default() };
        check("u1 | a2 | u3 hi", keep, "u1 | a2 | u3 hi", kept);
        let refuse = CleanOptions { empty_messages: EmptyMessages::Refuse, ..CleanOptions::default() };
        assert_eq!(
            refusal("u1 hi | a2 | u3", refuse),
            (
                1,
                "the assistant message is empty. \
                 `empty_messages` is `refuse`; `drop` and `keep` allow it"
                    .into()
            )
        );
    }

    #[test]
    fn merging_joins_texts_and_thoughts_and_takes_the_first_time() {
        let merge = CleanOptions { consecutive: Consecutive::Merge, ..CleanOptions::default() };
        check(
            "u1 one {a} | u2 two {b, c} | u3 three | a4 x | a? y",
            merge,
            "u1 one//two//three {a, b, c} | a? x//y",
            ReadReport { consecutive_merged: 3, ..ReadReport::default() },
        );
    }

    #[test]
    fn consecutive_messages_are_kept_unless_refused() {
        let kept = ReadReport { consecutive_kept: 1, ..ReadReport::default() };
        check("u1 x | u2 y | a3 z", CleanOptions::default(), "u1 x | u2 y | a3 z", kept);
        let refuse = CleanOptions { consecutive: Consecutive::Refuse, ..CleanOptions::default() };
        // The index is that of the file: dropping the empty message does not shift it.
        assert_eq!(
            refusal("u1 x | u2 | u3 y", refuse),
            (
                2,
                "two user messages in a row. \
                 `consecutive` is `refuse`; `keep` and `merge` allow it"
                    .into()
            )
        );
    }

    #[test]
    fn leading_assistant_messages_are_kept_dropped_or_refused() {
        let conversation = "a1 hello {r} | a2 anyone | u3 hi | a4 yes";
        let with = |assistant_first| CleanOptions { assistant_first, ..CleanOptions::default() };
        check(
            conversation,
            with(AssistantFirst::Keep),
            conversation,
            ReadReport { assistant_first_kept: 1, consecutive_kept: 1, ..ReadReport::default() },
        );
        check(
            conversation,
            with(AssistantFirst::Drop),
            "u3 hi | a4 yes",
            ReadReport {
                assistant_first_dropped: 2,
                consecutive_kept: 1,
                thoughts_dropped_with_messages: 1,
                ..ReadReport::default()
            },
        );
        assert_eq!(
            refusal(conversation, with(AssistantFirst::Refuse)),
            (
                0,
                "the conversation begins with an assistant message. \
                 `assistant_first` is `refuse`; `keep` and `drop` allow it"
                    .into()
            )
        );
    }
}
