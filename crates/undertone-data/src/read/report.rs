//! Named counts of what reading changed, dropped, skipped or only noticed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::quote::quoted;
use crate::counts::named_counts;
use undertone_files::InputError;

/// How many reasons for skipped lines a report keeps.
pub const SKIPPED_REASONS: usize = 5;

/// How many names of unknown fields a report counts separately.
pub const MAX_UNKNOWN_FIELDS: usize = 64;

/// Every count of one or several reads. Counts cover the lines that were read, not those skipped.
///
/// Reports of several readers are added up by [`merge`](Self::merge).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReadReport {
    /// Files read to their end.
    pub files: usize,
    /// Lines, blank and skipped ones included.
    pub lines: usize,
    /// Lines of only white space, ignored.
    pub blank_lines: usize,
    /// Files that began with a UTF-8 byte order mark, which is ignored.
    pub byte_order_marks: usize,
    /// Lines skipped because they are not valid conversations.
    pub skipped_lines: usize,
    /// The reasons for the first [`SKIPPED_REASONS`] skipped lines.
    pub skipped_reasons: Vec<String>,
    /// Conversations returned.
    pub conversations: usize,
    /// Messages in them.
    pub messages: usize,
    /// Thoughts in them.
    pub thoughts: usize,

    /// Conversations without an id; each is named after file and line, and counts as its own user.
    pub ids_missing: usize,
    /// Conversations whose id is not `USER_TASK_CONVERSATION`; each counts as its own user.
    pub ids_of_other_shape: usize,
    /// Fields that are in no published form, by name, such as `messages.tokens`; ignored.
    pub unknown_fields: BTreeMap<String, usize>,
    /// Occurrences of unknown fields beyond the first [`MAX_UNKNOWN_FIELDS`] names.
    pub other_unknown_fields: usize,

    /// Messages that lost leading or trailing white space.
    pub messages_trimmed: usize,
    /// Thoughts that lost leading or trailing white space.
    pub thoughts_trimmed: usize,
    /// Thoughts without any text, dropped.
    pub empty_thoughts_dropped: usize,
    /// Thoughts without a label, kept.
    pub thoughts_without_label: usize,
    /// Thoughts without a time, kept; a `strict` view counts them as late.
    pub thoughts_without_time: usize,
    /// Messages without a time.
    pub messages_without_time: usize,
    /// Messages without a `timestamp` whose integer id gave the time.
    pub messages_timed_by_id: usize,
    /// Messages with an earlier time than a message before them; file order is kept.
    pub messages_out_of_time_order: usize,
    /// Conversations with such a message: their times run backwards.
    pub conversations_with_times_backwards: usize,
    /// Thoughts with an earlier time than the message that they are about: clocks disagree, so a `strict` view may take
    /// hindsight for a thought in time.
    pub thoughts_older_than_their_message: usize,

    /// Empty messages dropped, see [`EmptyMessages`](crate::EmptyMessages).
    pub empty_messages_dropped: usize,
    /// Empty messages kept.
    pub empty_messages_kept: usize,
    /// Messages that were joined to the message before them.
    pub consecutive_merged: usize,
    /// Messages of the same role as the message before them, kept apart.
    pub consecutive_kept: usize,
    /// Assistant messages before the first user message, dropped.
    pub assistant_first_dropped: usize,
    /// Conversations that begin with an assistant message and keep it.
    pub assistant_first_kept: usize,
    /// Thoughts dropped with their message.
    pub thoughts_dropped_with_messages: usize,
}

named_counts!(ReadReport {
    files,
    lines,
    blank_lines,
    byte_order_marks,
    skipped_lines,
    conversations,
    messages,
    thoughts,
    ids_missing,
    ids_of_other_shape,
    other_unknown_fields,
    messages_trimmed,
    thoughts_trimmed,
    empty_thoughts_dropped,
    thoughts_without_label,
    thoughts_without_time,
    messages_without_time,
    messages_timed_by_id,
    messages_out_of_time_order,
    conversations_with_times_backwards,
    thoughts_older_than_their_message,
    empty_messages_dropped,
    empty_messages_kept,
    consecutive_merged,
    consecutive_kept,
    assistant_first_dropped,
    assistant_first_kept,
    thoughts_dropped_with_messages,
} and { skipped_reasons, unknown_fields });

impl ReadReport {
    /// Adds the counts of another report, and its reasons up to [`SKIPPED_REASONS`].
    pub fn merge(&mut self, other: &Self) {
        self.add_counts(other);
        let room = SKIPPED_REASONS.saturating_sub(self.skipped_reasons.len());
        self.skipped_reasons.extend(other.skipped_reasons.iter().take(room).cloned());
        for (name, &count) in &other.unknown_fields {
            self.count_unknown_field(name, count);
        }
    }

    /// Counts unknown fields; `parent` is empty or ends with a dot.
    pub(super) fn note_unknown_fields(&mut self, parent: &str, names: &[String]) {
        for name in names {
            let name = quoted(name);
            self.count_unknown_field(&format!("{parent}{}", name.trim_matches('`')), 1);
        }
    }

    /// Counts a skipped line.
    pub(super) fn skip(&mut self, error: &InputError) {
        self.skipped_lines += 1;
        if self.skipped_reasons.len() < SKIPPED_REASONS {
            self.skipped_reasons.push(error.to_string());
        }
    }

    fn count_unknown_field(&mut self, name: &str, count: usize) {
        if let Some(known) = self.unknown_fields.get_mut(name) {
            *known += count;
        } else if self.unknown_fields.len() < MAX_UNKNOWN_FIELDS {
            self.unknown_fields.insert(name.into(), count);
        } else {
            self.other_unknown_fields += count;
        }
    }
}
