//! Chats in the forms of other datasets, as conversations in the published form.
//!
//! A file is a JSON array or has one JSON object a line; it is read one conversation at a time. The form shows in the keys
//! of the first conversation. Chats have no thoughts: they train models of users.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use undertone_files::{InputError, Place, WriteError, open_regular};

use crate::read::{MAX_TEXT_BYTES, time_of_text};

/// The longest chat that is read, in bytes. As values, a chat of numbers takes up to 35 times as much memory.
const MAX_CHAT_BYTES: usize = 16 << 20;

/// Reasons that are told of conversations that were skipped.
const TOLD: usize = 5;

/// The form of a dataset of chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ChatForm {
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
    const ALL: [Self; 4] = [Self::Openai, Self::Sharegpt, Self::Wildchat, Self::Ultrachat];

    /// The key of the messages.
    fn key(self) -> &'static str {
        match self {
            Self::Openai => "messages",
            Self::Sharegpt => "conversations",
            Self::Wildchat => "conversation",
            Self::Ultrachat => "data",
        }
    }

    /// The form of a conversation.
    fn of(chat: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|form| chat.get(form.key()).is_some_and(Value::is_array))
    }
}

impl fmt::Display for ChatForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
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
    let mut file = BufReader::with_capacity(1 << 20, open_regular(source).map_err(WriteError::Input)?);
    let is_array = starts_an_array(&mut file).map_err(|error| unreadable(source, &error))?;
    let mut chats =
        Chats { source, skip_invalid, to, number: 0, converted: Converted { form, ..Converted::default() } };
    if is_array {
        chats.array(file)?
    } else {
        chats.lines(file)?
    }
    if chats.converted.conversations == 0 {
        return Err(WriteError::Input(InputError::new(source, "holds no conversation that can be converted")));
    }
    Ok(chats.converted)
}

/// Whether the first character that is no space begins an array; what stands before it is passed over.
fn starts_an_array(file: &mut BufReader<File>) -> io::Result<bool> {
    loop {
        let buffer = file.fill_buf()?;
        let Some(&first) = buffer.first() else { return Ok(false) };
        let is_mark = buffer.starts_with("\u{feff}".as_bytes());
        match first {
            _ if is_mark => file.consume(3),
            b' ' | b'\t' | b'\r' | b'\n' => file.consume(1),
            other => return Ok(other == b'['),
        }
    }
}

fn unreadable(source: &Path, error: &io::Error) -> WriteError {
    WriteError::Input(InputError::io(source, "read", error))
}

/// The conversion of one file.
struct Chats<'a, W> {
    source: &'a Path,
    skip_invalid: bool,
    to: &'a mut W,
    /// The number of the conversation or line, from 1.
    number: usize,
    converted: Converted,
}

impl<W: Write> Chats<'_, W> {
    /// One object a line.
    fn lines(&mut self, mut file: BufReader<File>) -> Result<(), WriteError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.number += 1;
            let bounded = &mut io::Read::take(&mut file, MAX_CHAT_BYTES as u64 + 1);
            if bounded.read_until(b'\n', &mut line).map_err(|error| unreadable(self.source, &error))? == 0 {
                return Ok(());
            }
            if line.len() > MAX_CHAT_BYTES {
                let cause = format!("is longer than {MAX_CHAT_BYTES} bytes, the most that is read");
                return Err(WriteError::Input(InputError::new(self.source, cause).at(Place::Line(self.number))));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(line.trim_ascii()) {
                Ok(chat) => self.chat(&chat, Place::Line(self.number))?,
                Err(error) => {
                    // The library counts lines in what it is given: one.
                    let error = error.to_string();
                    let cause = error.split(" at line ").next().unwrap_or_default();
                    self.invalid(format!("is not JSON: {cause}"), Place::Line(self.number))?;
                }
            }
        }
    }

    /// One array. An error in its text ends it.
    fn array(&mut self, file: BufReader<File>) -> Result<(), WriteError> {
        let mut failed = None;
        let read = Rc::new(Cell::new(0));
        let mut reader = serde_json::Deserializer::from_reader(Bounded { file, read: Rc::clone(&read) });
        let each = Each { chats: self, failed: &mut failed, read };
        let read = each.deserialize(&mut reader).and_then(|()| reader.end());
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) if self.skip_invalid && self.converted.conversations > 0 => {
                self.converted.cut_off = Some(error.to_string());
                Ok(())
            }
            (None, Err(error)) => {
                let cause = format!("is not a whole JSON array: {error}");
                let hint = "`--skip-invalid` keeps the conversations before this place";
                Err(WriteError::Input(InputError::new(self.source, cause).hint(hint)))
            }
            (None, Ok(())) => Ok(()),
        }
    }

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
            let keys = ChatForm::ALL.map(|form| format!("`{}`", form.key())).join(", ");
            let hint = format!("the messages of a conversation are a list under one of: {keys}");
            let cause = "is of no known form of chats";
            if self.skip_invalid {
                return self.invalid(cause.to_owned(), place);
            }
            return Err(WriteError::Input(InputError::new(self.source, cause).at(place).hint(hint)));
        };
        self.converted.form = Some(form);
        match self.published(chat, form) {
            Ok(line) => {
                serde_json::to_writer(&mut *self.to, &line).map_err(io::Error::from)?;
                self.to.write_all(b"\n")?;
                self.converted.conversations += 1;
                Ok(())
            }
            Err(cause) => self.invalid(cause, place),
        }
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

/// Visits the conversations of an array.
struct Each<'a, 'b, W> {
    chats: &'a mut Chats<'b, W>,
    failed: &'a mut Option<WriteError>,
    /// Bytes of the chat that is being read.
    read: Rc<Cell<usize>>,
}

/// Ends with an error in a chat that is too long.
struct Bounded {
    file: BufReader<File>,
    read: Rc<Cell<usize>>,
}

impl io::Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read.set(self.read.get() + count);
        match self.read.get() {
            ..=MAX_CHAT_BYTES => Ok(count),
            _ => Err(io::Error::other(format!("a chat is longer than {MAX_CHAT_BYTES} bytes, the most that is read"))),
        }
    }
}

impl<'de, W: Write> DeserializeSeed<'de> for Each<'_, '_, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, W: Write> Visitor<'de> for Each<'_, '_, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut conversations: A) -> Result<(), A::Error> {
        while let Some(chat) = conversations.next_element::<Value>()? {
            self.read.set(0);
            self.chats.number += 1;
            let place = Place::Named(format!("[{}]", self.chats.number - 1));
            if let Err(error) = self.chats.chat(&chat, place) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(text: &str, skip_invalid: bool) -> Result<(Converted, Vec<Value>), InputError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut lines = Vec::new();
        match convert_chats(file.path(), None, skip_invalid, &mut lines) {
            Ok(converted) => {
                let lines = std::str::from_utf8(&lines).unwrap().lines();
                Ok((converted, lines.map(|line| serde_json::from_str(line).unwrap()).collect()))
            }
            Err(WriteError::Input(error)) => Err(error),
            Err(WriteError::Io(error)) => panic!("{error}"),
        }
    }

    fn roles_and_texts(line: &Value) -> Vec<(&str, &str)> {
        let messages = line["messages"].as_array().unwrap().iter();
        messages.map(|message| (message["type"].as_str().unwrap(), message["content"].as_str().unwrap())).collect()
    }

    #[test]
    fn every_form_is_found_and_converted() {
        let forms = [
            (
                ChatForm::Openai,
                r#"{"id": "a_b", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "A"}]}, {"role": "assistant", "content": "B"}]}"#,
                "chat1-a-b",
            ),
            (
                ChatForm::Sharegpt,
                r#"{"conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]}"#,
                "chat1",
            ),
            (
                ChatForm::Sharegpt,
                r#"{"id": "q_W_17", "conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "B"}]}"#,
                "userq-W_task1_conversation1",
            ),
            (
                ChatForm::Wildchat,
                r#"{"conversation_hash": "h", "hashed_ip": "f0", "model": "gpt-4", "conversation": [{"role": "user", "content": "A", "timestamp": "2023-04-09T00:02:53Z"}, {"role": "assistant", "content": "B", "timestamp": null}]}"#,
                "userf0_task1_conversation1",
            ),
            (ChatForm::Ultrachat, r#"{"id": "7", "data": ["A", "B"]}"#, "chat1-7"),
        ];
        for (form, chat, id) in forms {
            for text in [format!("{chat}\n\n"), format!("\u{feff} [{chat}]\n")] {
                let (converted, lines) = convert(&text, false).unwrap();
                let told = (converted.form, converted.conversations, converted.system_texts, converted.unnamed_users);
                let is_named = form == ChatForm::Wildchat;
                assert_eq!(told, (Some(form), 1, usize::from(form == ChatForm::Openai), usize::from(!is_named)));
                assert_eq!(lines[0]["id"], id);
                assert_eq!(roles_and_texts(&lines[0]), [("user", "A"), ("assistant", "B")]);
                assert_eq!(lines[0]["model_name"].as_str(), is_named.then_some("gpt-4"));
                assert_eq!(lines[0]["messages"][0].get("timestamp").is_some(), is_named);
            }
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_refused_or_skipped_and_counted() {
        let good = r#"{"conversations": [{"from": "human", "value": "A"}]}"#;
        let cases = [
            (r#"{"conversations": []}"#, "has no messages"),
            (r#"{"messages": []}"#, "has no list `conversations`"),
            (r#"{"conversations": [{"value": "A"}]}"#, "`conversations[0]` does not say who writes"),
            (r#"{"conversations": [{"from": "human"}]}"#, "`conversations[0]` is not text"),
            (
                r#"{"conversations": [{"from": "tool", "value": "A"}]}"#,
                "`conversations[0]` is written by `tool`, which is no user and no assistant",
            ),
            ("7", "has no list `conversations`"),
        ];
        for (bad, cause) in cases {
            let lines = format!("{good}\n{bad}\n{good}\n");
            let error = convert(&lines, false).unwrap_err();
            assert_eq!((error.place, error.cause.as_str()), (Place::Line(2), cause));
            let array = format!("[{good}, {bad}, {good}]");
            let error = convert(&array, false).unwrap_err();
            assert_eq!((error.place, error.cause.as_str()), (Place::Named("[1]".into()), cause));
            for text in [lines, array] {
                let (converted, lines) = convert(&text, true).unwrap();
                assert_eq!((converted.conversations, converted.skipped, lines.len()), (2, 1, 2));
                assert!(converted.skipped_reasons[0].ends_with(cause), "{:?}", converted.skipped_reasons);
            }
        }
        assert_eq!(convert(r#"{"text": "A"}"#, false).unwrap_err().cause, "is of no known form of chats");
        let (converted, _) = convert(&format!("7\n{good}\n"), true).unwrap();
        assert_eq!((converted.conversations, converted.skipped), (1, 1));
        assert_eq!(convert("", true).unwrap_err().cause, "holds no conversation that can be converted");
        let error = convert(&format!("{good}\n{{\"conver\n"), false).unwrap_err();
        assert!(error.cause.starts_with("is not JSON: EOF"), "{error}");
    }

    #[test]
    fn what_the_reader_would_refuse_is_not_written() {
        let chat = |text: &str| {
            format!(r#"[{{"messages": [{{"role": "user", "content": "{text}", "timestamp": "yesterday"}}]}}]"#)
        };
        let (_, lines) = convert(&chat("A"), false).unwrap();
        assert_eq!(lines[0]["messages"], json!([{"type": "user", "content": "A"}]));
        let error = convert(&chat(&"a".repeat(MAX_TEXT_BYTES + 1)), false).unwrap_err();
        assert_eq!(error.cause, "`messages[0]` is longer than 4194304 bytes, the most that is read");
        assert_eq!(convert(&chat(&"a".repeat(MAX_TEXT_BYTES)), false).unwrap().0.conversations, 1);
        let numbers = format!(r#"[{{"messages": [{}0]}}]"#, "0,".repeat(MAX_CHAT_BYTES / 2));
        let error = convert(&numbers, false).unwrap_err();
        assert!(error.cause.contains("a chat is longer than 16777216 bytes"), "{error}");
        // The limit is of one chat, not of the file.
        let many = vec![chat(&"a".repeat(MAX_TEXT_BYTES)); 6].join(",").replace("],[", ",");
        assert_eq!(convert(&many, false).unwrap().0.conversations, 6);
    }

    #[test]
    fn an_array_that_was_cut_off_is_salvaged() {
        let good = r#"{"conversations": [{"from": "human", "value": "A"}]}"#;
        let whole = format!("[{good}, {good}]");
        for cut in 1..whole.len() {
            let error = convert(&whole[..cut], false).unwrap_err();
            assert!(error.cause.starts_with("is not a whole JSON array: "), "{error}");
            let kept = usize::from(cut > good.len()) + usize::from(cut > 2 * good.len() + 2);
            match convert(&whole[..cut], true) {
                Ok((converted, lines)) => {
                    assert_eq!((converted.conversations, lines.len()), (kept, kept), "cut at {cut}");
                    assert!(converted.cut_off.is_some());
                }
                Err(_) => assert_eq!(kept, 0, "cut at {cut}"),
            }
        }
        assert_eq!(
            convert(&format!("{whole} x"), true).unwrap().0.cut_off.unwrap(),
            "trailing characters at line 1 column 110"
        );
    }
}
