//! Chats in the forms of other datasets, as conversations in the published form.
//!
//! A file is a JSON array, has one JSON object a line, or is a Parquet table; `source` reads it one conversation at a time.
//! The form shows in the keys of the first conversation. Chats have no thoughts: they train models of users. Conversations
//! that are in the published form already stay as they are, with their thoughts.

mod source;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use undertone_files::{InputError, Place, WriteError};

use crate::read::{MAX_TEXT_BYTES, ReadOptions, parse_line, time_of_text};
use source::{Ending, Sink};

/// Reasons that are told of conversations that were skipped.
const TOLD: usize = 5;

/// The form of a dataset of chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ChatForm {
    /// `messages`, each with `type`, `content` or `text`, and thoughts: ThoughtTrace's, which this program reads.
    Thoughttrace,
    /// `messages`, each with `role` and `content`: OpenAI, UltraChat 200k.
    Openai,
    /// `conversations`, each with `from` and `value`.
    Sharegpt,
    /// `conversation`, each with `role` and `content`; users by `hashed_ip`, if there is one: WildChat, LMSYS-Chat-1M.
    Wildchat,
    /// `data`, a list of texts: user and assistant in turn.
    Ultrachat,
}

impl ChatForm {
    const ALL: [Self; 5] = [Self::Thoughttrace, Self::Openai, Self::Sharegpt, Self::Wildchat, Self::Ultrachat];

    /// The key of the messages.
    fn key(self) -> &'static str {
        match self {
            Self::Thoughttrace | Self::Openai => "messages",
            Self::Sharegpt => "conversations",
            Self::Wildchat => "conversation",
            Self::Ultrachat => "data",
        }
    }

    /// The form of a conversation.
    fn of(chat: &Value) -> Option<Self> {
        let first = |form: Self| chat.get(form.key())?.as_array().map(|messages| messages.first());
        Self::ALL.into_iter().find(|form| match (form, first(*form)) {
            (_, None) => false,
            (Self::Thoughttrace, Some(message)) => message.is_some_and(|message| message.get("type").is_some()),
            (_, Some(_)) => true,
        })
    }
}

impl fmt::Display for ChatForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thoughttrace => "ThoughtTrace's `messages`",
            Self::Openai => "OpenAI's `messages`",
            Self::Sharegpt => "ShareGPT's `conversations`",
            Self::Wildchat => "WildChat's `conversation`",
            Self::Ultrachat => "UltraChat's `data`",
        })
    }
}

/// What was converted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// The form of the source.
    pub form: Option<ChatForm>,
    /// Conversations that were written.
    pub conversations: usize,
    /// Conversations that were skipped, because they are not of the form.
    pub skipped: usize,
    /// The first reasons for that.
    pub skipped_reasons: Vec<String>,
    /// System texts, which are left out.
    pub system_texts: usize,
    /// Conversations whose user the source does not name: each, with all its parts, counts as a user of its own.
    pub unnamed_users: usize,
    /// Where the file is cut off or damaged, so that what follows is lost.
    pub cut_off: Option<String>,
}

/// Converts the chats of a file; each becomes a line.
///
/// # Errors
/// The file cannot be read; it is of no known form; or, unless `skip_invalid`, a conversation is not of the form, or the
/// file is cut off.
pub fn convert_chats(
    source: &Path,
    form: Option<ChatForm>,
    skip_invalid: bool,
    to: &mut impl Write,
) -> Result<Converted, WriteError> {
    let mut chats =
        Chats { source, skip_invalid, to, converted: Converted { form, ..Converted::default() }, number: 0 };
    let ending = source::each(source, &mut chats)?;
    let mut converted = chats.converted;
    if let Ending::Broken { expected, cause } = ending {
        if !skip_invalid || converted.conversations == 0 {
            let hint = "`--skip-invalid` keeps the conversations before this place";
            let cause = format!("is not {expected}: {cause}");
            return Err(WriteError::Input(InputError::new(source, cause).hint(hint)));
        }
        converted.cut_off = Some(cause);
    }
    if converted.conversations == 0 {
        return Err(WriteError::Input(InputError::new(source, "holds no conversation that can be converted")));
    }
    Ok(converted)
}

/// The conversion of one file.
struct Chats<'a, W> {
    source: &'a Path,
    skip_invalid: bool,
    to: &'a mut W,
    converted: Converted,
    /// Conversations that were taken.
    number: usize,
}

impl<W: Write> Sink for Chats<'_, W> {
    fn take(&mut self, chat: Result<Value, String>, place: Place) -> Result<(), WriteError> {
        self.number += 1;
        match chat {
            Ok(chat) => self.chat(&chat, place),
            Err(cause) => self.invalid(cause, place),
        }
    }
}

impl<W: Write> Chats<'_, W> {
    fn invalid(&mut self, cause: String, place: Place) -> Result<(), WriteError> {
        let error = InputError::new(self.source, cause).at(place);
        if !self.skip_invalid {
            return Err(WriteError::Input(error.hint("`--skip-invalid` skips and counts such conversations")));
        }
        if self.converted.skipped_reasons.len() < TOLD {
            self.converted.skipped_reasons.push(error.to_string());
        }
        self.converted.skipped += 1;
        Ok(())
    }

    fn chat(&mut self, chat: &Value, place: Place) -> Result<(), WriteError> {
        let Some(form) = self.converted.form.or_else(|| ChatForm::of(chat)) else {
            let keys = ChatForm::ALL[1..].iter().map(|form| format!("`{}`", form.key())).collect::<Vec<_>>().join(", ");
            let hint = format!("the messages of a conversation are a list under one of: {keys}");
            let cause = "is of no known form of chats";
            if self.skip_invalid {
                return self.invalid(cause.to_owned(), place);
            }
            return Err(WriteError::Input(InputError::new(self.source, cause).at(place).hint(hint)));
        };
        self.converted.form = Some(form);
        let line = match form {
            ChatForm::Thoughttrace => self.as_it_is(chat),
            _ => self.published(chat, form),
        };
        match line {
            Ok(line) => {
                serde_json::to_writer(&mut *self.to, &line).map_err(io::Error::from)?;
                self.to.write_all(b"\n")?;
                self.converted.conversations += 1;
                Ok(())
            }
            Err(cause) => self.invalid(cause, place),
        }
    }

    /// A conversation that is in the published form already. What the reader refuses is not written.
    fn as_it_is(&self, chat: &Value) -> Result<Value, String> {
        let read = parse_line(chat.to_string().as_bytes(), &Arc::from(self.source), 1, &ReadOptions::default());
        read.map(|_| chat.clone()).map_err(|error| error.cause)
    }

    /// A conversation in the published form.
    fn published(&mut self, chat: &Value, form: ChatForm) -> Result<Value, String> {
        let key = form.key();
        let given = chat.get(key).and_then(Value::as_array).ok_or_else(|| format!("has no list `{key}`"))?;
        let mut messages = Vec::new();
        let mut system_texts = 0;
        for (index, message) in given.iter().enumerate() {
            let (role, content) = match form {
                ChatForm::Ultrachat => (Some(["user", "assistant"][index % 2]), message),
                ChatForm::Sharegpt => (message["from"].as_str(), &message["value"]),
                ChatForm::Openai | ChatForm::Wildchat => (message["role"].as_str(), &message["content"]),
                ChatForm::Thoughttrace => (message["type"].as_str(), &message["content"]),
            };
            let role = role.ok_or_else(|| format!("`{key}[{index}]` does not say who writes"))?;
            let role = match role.to_lowercase().as_str() {
                "user" | "human" | "prompter" => "user",
                "assistant" | "gpt" | "chatgpt" | "model" | "bot" => "assistant",
                "system" => {
                    system_texts += 1;
                    continue;
                }
                _ => return Err(format!("`{key}[{index}]` is written by `{role}`, which is no user and no assistant")),
            };
            let text = text_of(content).ok_or_else(|| format!("`{key}[{index}]` is not text"))?;
            let mut published = Map::from_iter([("type".to_owned(), json!(role)), ("content".to_owned(), json!(text))]);
            if text.len() > MAX_TEXT_BYTES {
                return Err(format!("`{key}[{index}]` is longer than {MAX_TEXT_BYTES} bytes, the most that is read"));
            }
            // What is no time, or a placeholder such as 1970, is a time that is not known.
            if let Some(time) = message["timestamp"].as_str().filter(|time| time_of_text(time).is_some()) {
                published.insert("timestamp".to_owned(), json!(time));
            }
            messages.push(Value::Object(published));
        }
        if messages.is_empty() {
            return Err("has no messages".to_owned());
        }
        self.converted.system_texts += system_texts;
        let mut line = Map::from_iter([("id".to_owned(), json!(self.id(chat, form)))]);
        if let Some(model) = chat.get("model").and_then(Value::as_str) {
            line.insert("model_name".to_owned(), json!(model));
        }
        line.insert("messages".to_owned(), Value::Array(messages));
        Ok(Value::Object(line))
    }

    /// An id that names the user, if the source does. ShareGPT's long conversations are cut into parts, `ID_0`, `ID_17`, …,
    /// which count as one user, so that a split keeps them together.
    fn id(&mut self, chat: &Value, form: ChatForm) -> String {
        let number = self.number;
        let text = |key: &str| chat.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let user = text("hashed_ip");
        self.converted.unnamed_users += usize::from(user.is_none());
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let of_parts = || text("id")?.rsplit_once('_').filter(|(_, part)| is_number(part)).map(|(id, _)| id);
        match user.or_else(|| of_parts().filter(|_| form == ChatForm::Sharegpt)) {
            Some(user) => format!("user{}_task{number}_conversation{number}", user.replace('_', "-")),
            None => {
                let id = ["id", "conversation_id", "conversation_hash", "prompt_id"].into_iter().find_map(text);
                format!("chat{number}-{}", id.unwrap_or_default().replace('_', "-")).trim_end_matches('-').to_owned()
            }
        }
    }
}

/// A text, or the texts of a list of parts.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            parts.iter().map(|part| (part["type"] == "text").then(|| part["text"].as_str())?).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
