//! Converts a published line to a [`Conversation`]: ids, labels and times get their types here.

use std::path::Path;

use super::clean::{self, CleanOptions, Numbered};
use super::published::{PublishedConversation, PublishedMessage, PublishedSurvey, PublishedThought, TextOrInteger};
use super::quote::quoted;
use super::report::ReadReport;
use crate::conversation::{Conversation, Message, Role, Survey, Thought, ThoughtKind};
use crate::stats::PostHoc;
use crate::user_id::user_and_task;

/// 2000-01-01 to 2100-01-01 in milliseconds since 1970; an integer in this range counts as a time.
const PLAUSIBLE_MILLISECONDS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// The longest text of a message or a thought that is read, in bytes. A tokenizer needs about a hundred times as much memory.
pub(crate) const MAX_TEXT_BYTES: usize = 4 << 20;

/// Keys under which chats of other datasets have their messages.
const OTHER_FORMS: [&str; 3] = ["conversations", "conversation", "data"];
const CONVERT: &str =
    "`undertone data convert` converts chats of OpenAI's, ShareGPT's, WildChat's, LMSYS's and UltraChat's form";

/// How similar (Jaro-Winkler, 0 to 1) a known word must be to be suggested.
const SUGGESTED_SIMILARITY: f64 = 0.7;

/// What is wrong with a line, and where in it.
pub(super) struct Problem {
    /// Empty for the line as a whole.
    pub(super) json_path: String,
    pub(super) cause: String,
    pub(super) hint: Option<String>,
}

impl Problem {
    fn new(json_path: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { json_path: json_path.into(), cause: cause.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Checks, types and cleans one line; adds its counts to `report`.
pub(super) fn convert(
    published: PublishedConversation,
    path: &Path,
    line: usize,
    options: &CleanOptions,
    report: &mut ReadReport,
) -> Result<(Conversation, PostHoc), Problem> {
    report.note_unknown_fields("", &published.unknown_fields);
    let Identity { id, user, task } = identity(&published, path, line, report);

    let is_other_form = |key: &String| OTHER_FORMS.contains(&key.as_str());
    let published_messages = published.messages.ok_or_else(|| {
        let missing = Problem::new("", "`messages` is missing or null");
        if published.unknown_fields.iter().any(is_other_form) { missing.hint(CONVERT) } else { missing }
    })?;
    if published_messages.is_empty() {
        return Err(Problem::new("messages", "the conversation has no messages"));
    }
    let mut messages = Vec::with_capacity(published_messages.len());
    for (index, message) in published_messages.into_iter().enumerate() {
        let message = convert_message(message, &format!("messages[{index}]"), report)?;
        messages.push(Numbered { index, message });
    }
    if !has_user_message(messages.iter().map(|numbered| &numbered.message)) {
        return Err(Problem::new("messages", "the conversation has no user message"));
    }
    count_time_order(&messages, report);

    let messages = clean::clean(messages, options, report)
        .map_err(|refusal| Problem::new(format!("messages[{}]", refusal.index), refusal.cause).hint(refusal.hint))?;
    if !has_user_message(&messages) {
        return Err(Problem::new("messages", "every user message of the conversation is empty"));
    }

    let task_text = published
        .task_summary
        .as_deref()
        .map(str::trim)
        .filter(|summary| !summary.is_empty())
        .or_else(|| {
            let first = messages.iter().find(|message| message.role == Role::User)?;
            Some(first.content.as_str())
        })
        .map(PostHoc::of)
        .unwrap_or_default();

    report.conversations += 1;
    report.messages += messages.len();
    report.thoughts += messages.iter().map(|message| message.thoughts.len()).sum::<usize>();
    let survey = survey(published.survey_answers.unwrap_or_default(), report);
    let conversation = Conversation { id, user, task, assistant_model: published.model_name, survey, messages };
    Ok((conversation, task_text))
}

fn has_user_message<'a>(messages: impl IntoIterator<Item = &'a Message>) -> bool {
    messages.into_iter().any(|message| message.role == Role::User)
}

/// The last survey answers; an empty text or `none` is no answer.
fn survey(answers: Vec<PublishedSurvey>, report: &mut ReadReport) -> Survey {
    for answers in &answers {
        report.note_unknown_fields("survey_answers.", &answers.unknown_fields);
    }
    let Some(PublishedSurvey { age, gender, education, frequency, .. }) = answers.into_iter().next_back() else {
        return Survey::default();
    };
    let said = |text: String| {
        let text = text.trim();
        (!text.is_empty() && !text.eq_ignore_ascii_case("none")).then(|| text.to_owned())
    };
    let text = |answer: TextOrInteger| match answer {
        TextOrInteger::Text(text) => text,
        TextOrInteger::Integer(integer) => integer.to_string(),
    };
    Survey {
        age: age.map(text).and_then(|age| age.trim().parse().ok()),
        gender: gender.and_then(said),
        education: education.and_then(said),
        frequency: frequency.map(text).and_then(said),
    }
}

/// The ids of a conversation, its user and its task.
struct Identity {
    id: String,
    user: String,
    task: String,
}

/// Reads user and task from the id.
///
/// The earlier release has an `id` of the published shape beside a `conversation_id` that several conversations of one
/// session share, so `id` is preferred and `conversation_id` is the fallback. An id of another shape does not name its
/// user: the conversation then counts as its own user and task, and a split by user is valid only if no user has two
/// such conversations.
fn identity(published: &PublishedConversation, path: &Path, line: usize, report: &mut ReadReport) -> Identity {
    let ids: Vec<String> = [&published.id, &published.conversation_id]
        .into_iter()
        .flatten()
        .map(|id| match id {
            TextOrInteger::Text(text) => text.trim().to_owned(),
            TextOrInteger::Integer(integer) => integer.to_string(),
        })
        .filter(|id| !id.is_empty())
        .collect();
    if let Some((id, user, task)) = ids.iter().find_map(|id| {
        let (user, task) = user_and_task(id)?;
        Some((id, user, task))
    }) {
        return Identity { id: id.clone(), user: user.into(), task: task.into() };
    }
    let id = match ids.into_iter().next() {
        Some(id) => {
            report.ids_of_other_shape += 1;
            id
        }
        None => {
            report.ids_missing += 1;
            let file = path.file_name().unwrap_or(path.as_os_str());
            format!("{}:{line}", file.to_string_lossy())
        }
    };
    Identity { user: id.clone(), task: id.clone(), id }
}

fn convert_message(published: PublishedMessage, json_path: &str, report: &mut ReadReport) -> Result<Message, Problem> {
    report.note_unknown_fields("messages.", &published.unknown_fields);
    let role = match published.role.as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(other) => return Err(unknown_type(other, json_path)),
        None => {
            let is_openai = published.unknown_fields.iter().any(|key| key == "role");
            let hint = if is_openai { CONVERT } else { "`type` is `user` or `assistant`" };
            return Err(Problem::new(json_path, "the message's `type` is missing or null").hint(hint));
        }
    };
    let content = content_or_text(published.content, published.text, json_path)?;
    let content = trimmed(content, &mut report.messages_trimmed);

    let mut sent_at = None;
    if let Some(time) = published.timestamp {
        sent_at = Some(parse_time(&time, &format!("{json_path}.timestamp"))?);
    } else if let Some(TextOrInteger::Integer(id)) = published.id
        && PLAUSIBLE_MILLISECONDS.contains(&id)
    {
        report.messages_timed_by_id += 1;
        sent_at = Some(id);
    }
    report.messages_without_time += usize::from(sent_at.is_none());

    let reasons = published.reasons.unwrap_or_default();
    let reactions = published.reactions.unwrap_or_default();
    let (kind, key, fitting, misplaced) = match role {
        Role::User => (ThoughtKind::Reason, "reasons", reasons, reactions),
        Role::Assistant => (ThoughtKind::Reaction, "reactions", reactions, reasons),
    };
    if !misplaced.is_empty() {
        let (misplaced_key, role) = match role {
            Role::User => ("reactions", "a user"),
            Role::Assistant => ("reasons", "an assistant"),
        };
        return Err(Problem::new(
            format!("{json_path}.{misplaced_key}"),
            format!("{role} message has `{misplaced_key}`"),
        )
        .hint("reasons belong to user messages, reactions to assistant messages"));
    }
    let mut thoughts = Vec::with_capacity(fitting.len());
    for (index, thought) in fitting.into_iter().enumerate() {
        let json_path = format!("{json_path}.{key}[{index}]");
        thoughts.extend(convert_thought(thought, kind, key, &json_path, report)?);
    }
    Ok(Message { role, content, sent_at, thoughts })
}

fn unknown_type(value: &str, json_path: &str) -> Problem {
    let known = ["user", "assistant"];
    let mut hint = String::new();
    if let Some(nearest) = nearest(value, known) {
        hint = format!("did you mean `{nearest}`? ");
    }
    hint.push_str("a message is of type `user` or `assistant`");
    Problem::new(format!("{json_path}.type"), format!("unknown message type {}", quoted(value))).hint(hint)
}

/// `None` for a thought without text, which is dropped.
fn convert_thought(
    published: PublishedThought,
    kind: ThoughtKind,
    key: &str,
    json_path: &str,
    report: &mut ReadReport,
) -> Result<Option<Thought>, Problem> {
    report.note_unknown_fields(&format!("messages.{key}."), &published.unknown_fields);
    let label = match published.label.as_deref() {
        None | Some("") => None,
        Some(label) => Some(parse_label(label, kind, &format!("{json_path}.label"))?),
    };
    let written_at =
        published.timestamp.map(|time| parse_time(&time, &format!("{json_path}.timestamp"))).transpose()?;
    let content = content_or_text(published.content, published.text, json_path)?;
    if content.trim().is_empty() {
        report.empty_thoughts_dropped += 1;
        return Ok(None);
    }
    report.thoughts_without_label += usize::from(label.is_none());
    report.thoughts_without_time += usize::from(written_at.is_none());
    Ok(Some(Thought { content: trimmed(content, &mut report.thoughts_trimmed), label, written_at }))
}

/// The text under `content` or `text`; empty if both are absent.
fn content_or_text(content: Option<String>, text: Option<String>, json_path: &str) -> Result<String, Problem> {
    let text = match (content, text) {
        (Some(content), Some(text)) if content != text => {
            return Err(Problem::new(json_path, "`content` and `text` are both present and differ")
                .hint("the two published forms use one each; remove one of them"));
        }
        (content, text) => content.or(text).unwrap_or_default(),
    };
    if text.len() > MAX_TEXT_BYTES {
        let cause = format!("the text has {} bytes, more than {MAX_TEXT_BYTES}, the most that is read", text.len());
        return Err(Problem::new(json_path, cause).hint("no model reads so long a text at once; shorten it"));
    }
    Ok(text)
}

fn trimmed(text: String, count: &mut usize) -> String {
    let kept = text.trim();
    if kept.len() == text.len() {
        return text;
    }
    *count += 1;
    kept.to_owned()
}

/// RFC 3339 with `Z` or an offset, in milliseconds since 1970.
pub(crate) fn time_of_text(text: &str) -> Option<i64> {
    let milliseconds = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    // A year such as 1970 stands for a time that is not known.
    PLAUSIBLE_MILLISECONDS.contains(&milliseconds).then_some(milliseconds)
}

/// RFC 3339 with `Z` or an offset, or an integer: milliseconds, or else seconds, since 1970. Other years than 2000 to 2099 are
/// placeholders, and believed they would put hindsight before everything.
fn parse_time(time: &TextOrInteger, json_path: &str) -> Result<i64, Problem> {
    let value = match time {
        TextOrInteger::Text(text) => match time_of_text(text) {
            Some(milliseconds) => return Ok(milliseconds),
            None => quoted(text),
        },
        TextOrInteger::Integer(integer) => {
            let seconds_as_milliseconds = integer.checked_mul(1000);
            for milliseconds in [Some(*integer), seconds_as_milliseconds].into_iter().flatten() {
                if PLAUSIBLE_MILLISECONDS.contains(&milliseconds) {
                    return Ok(milliseconds);
                }
            }
            format!("`{integer}`")
        }
    };
    Err(Problem::new(json_path, format!("invalid time {value}")).hint(
        "a time is RFC 3339 with `Z` or an offset, such as `2026-04-08T22:11:32.163Z`, or whole milliseconds or seconds \
             since 1970, in the years 2000 to 2099; a time that is not known is `null`",
    ))
}

/// Index of a label among those of its kind.
fn parse_label(value: &str, kind: ThoughtKind, json_path: &str) -> Result<usize, Problem> {
    let labels = kind.labels();
    if let Some(index) = labels.iter().position(|label| label.key == value) {
        return Ok(index);
    }
    let (name, other_name, other_kind) = match kind {
        ThoughtKind::Reason => ("reason", "reaction", ThoughtKind::Reaction),
        ThoughtKind::Reaction => ("reaction", "reason", ThoughtKind::Reason),
    };
    let keys: Vec<String> = labels.iter().map(|label| format!("`{}`", label.key)).collect();
    let known = format!("labels of a {name} are {}", keys.join(", "));
    if other_kind.labels().iter().any(|label| label.key == value) {
        return Err(Problem::new(
            json_path,
            format!("`{value}` is a label of a {other_name}, but this thought is a {name}"),
        )
        .hint(known));
    }
    let hint = match nearest(value, labels.iter().map(|label| label.key)) {
        Some(nearest) => format!("did you mean `{nearest}`? {known}"),
        None => known,
    };
    Err(Problem::new(json_path, format!("unknown label of a {name}: {}", quoted(value))).hint(hint))
}

/// The known word most similar to `value`, ignoring case and spacing, if any is similar enough.
fn nearest<'a>(value: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let value: String =
        value.chars().take(100).map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&value, word), word))
        .filter(|(similarity, _)| *similarity >= SUGGESTED_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

fn count_time_order(messages: &[Numbered], report: &mut ReadReport) {
    let (mut latest, mut backwards) = (i64::MIN, 0);
    for Message { sent_at, thoughts, .. } in messages.iter().map(|numbered| &numbered.message) {
        let Some(sent_at) = *sent_at else { continue };
        backwards += usize::from(sent_at < latest);
        latest = latest.max(sent_at);
        let written = thoughts.iter().filter_map(|thought| thought.written_at);
        report.thoughts_older_than_their_message += written.filter(|written| *written < sent_at).count();
    }
    report.messages_out_of_time_order += backwards;
    report.conversations_with_times_backwards += usize::from(backwards > 0);
}
