//! The chat format of a model folder: read from its chat template, or chosen by what its tokenizer has.

mod jinja;
mod probe;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tokenizers::Tokenizer;
use undertone_data::{ChatFormat, GivenFormat, Template, caught};
use undertone_files::{InputError, Place, read_bounded};

pub use self::jinja::{ChatMessage, ChatTemplate, SpecialTokens};
pub use self::probe::format_of_template;
use crate::config::ModelConfig;
use crate::tokenizer::{load_tokenizer, tokens_before_text};

/// The longest chat template that is read, in bytes.
const MAX_TEMPLATE_BYTES: u64 = 128 << 10;
/// The stack for a template of that length that is one chain of operators; memory that is not touched is not used.
const STACK_BYTES: usize = 1 << 30;
/// How long a template may take. Published ones take milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest settings of a tokenizer that are read, in bytes.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// How an error is avoided.
const HINT: &str = "describe the format in `[model.format]` of the experiment: the headers of `user` and `assistant`, and the `end` of a turn";

/// The template of a model folder: its tokenizer, with the model's own chat format. What is `given` replaces parts of it.
///
/// # Errors
/// A file is missing or damaged; the chat template writes turns in no regular way; the tokenizer lacks a token of the
/// format.
pub fn load_template(folder: &Path, config: &ModelConfig, given: &GivenFormat) -> Result<Template, InputError> {
    let tokenizer = load_tokenizer(folder, config)?;
    let mut format = match given.whole() {
        Some(format) => format,
        None => chat_format(folder, config, &tokenizer)?,
    };
    given.replace_in(&mut format);
    let refused = |place: String, cause: String| {
        InputError::new(folder.join("tokenizer.json"), cause).at(Place::Named(place)).hint(HINT)
    };
    match caught(|| Template::new(tokenizer, format)) {
        Ok(template) => template.map_err(|unfit| refused(unfit.token.clone(), unfit.to_string())),
        Err(failed) => Err(refused("normalizer".to_owned(), failed.to_string())),
    }
}

/// The chat format of a model folder. A model without a chat template gets ChatML if its tokenizer has the tokens, and
/// else [`ChatFormat::plain`].
fn chat_format(folder: &Path, config: &ModelConfig, tokenizer: &Tokenizer) -> Result<ChatFormat, InputError> {
    let special = special_tokens(tokenizer);
    let settings = Settings::read(folder)?;
    if let Some((path, source)) = settings.template(folder)? {
        let refused = |cause: String| {
            InputError::new(&path, format!("is not a chat template that can be trained with: {cause}"))
                .at(if path.ends_with(JINJA) { Place::File } else { Place::Named("chat_template".into()) })
                .hint(HINT)
        };
        return probed(source, settings.special, special).map_err(refused);
    }
    let chatml = ChatFormat::chatml();
    if ["<|im_start|>", "<|im_end|>"].iter().all(|token| special.iter().any(|special| special == token)) {
        return Ok(chatml);
    }
    let named = |token: &String| special.contains(token);
    let of_config = || config.eos_token_ids.first().and_then(|id| tokenizer.id_to_token(*id)).filter(named);
    match settings.special.eos.filter(named).or_else(of_config) {
        Some(end) => Ok(ChatFormat::plain(&tokens_before_text(folder)?, &end)),
        None => Err(InputError::new(folder, "has no chat template, and no special token that ends a text").hint(HINT)),
    }
}

/// The format of a template from outside, which is a program: a long chain of operators needs a deep stack, and one
/// operator on lists that share their parts may never end.
fn probed(source: String, tokens: SpecialTokens, special: Vec<String>) -> Result<ChatFormat, String> {
    let (send, receive) = mpsc::channel();
    let work = move || {
        let format = ChatTemplate::parse(&source, tokens).and_then(|template| format_of_template(&template, &special));
        // Nobody listens after the deadline.
        let _ = send.send(format);
    };
    let thread = std::thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(work).map_err(|error| format!("no thread can be started for it: {error}"))?;
    // A thread cannot be ended from outside; this one ends with the program, which ends with the error.
    receive.recv_timeout(DEADLINE).map_err(|_| format!("it is not rendered within {} seconds", DEADLINE.as_secs()))?
}

/// The special tokens of a tokenizer.
fn special_tokens(tokenizer: &Tokenizer) -> Vec<String> {
    let added = tokenizer.get_added_tokens_decoder();
    added.into_values().filter(|token| token.special).map(|token| token.content).collect()
}

/// The file of a chat template.
const JINJA: &str = "chat_template.jinja";

/// What the companions of `tokenizer.json` say about chats.
struct Settings {
    special: SpecialTokens,
    /// `chat_template` in `tokenizer_config.json`.
    template: Option<Value>,
    path: PathBuf,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self, InputError> {
        let path = folder.join("tokenizer_config.json");
        let config = read_json(&path)?;
        let map = read_json(&folder.join("special_tokens_map.json"))?;
        let token = |key: &str| {
            let text = |file: &Value| file[key].as_str().or_else(|| file[key]["content"].as_str()).map(str::to_owned);
            text(&config).or_else(|| text(&map))
        };
        let special = SpecialTokens { bos: token("bos_token"), eos: token("eos_token") };
        let template = config.get("chat_template").filter(|template| !template.is_null()).cloned();
        Ok(Self { special, template, path })
    }

    /// The chat template and the file that holds it.
    fn template(&self, folder: &Path) -> Result<Option<(PathBuf, String)>, InputError> {
        let path = folder.join(JINJA);
        if path.exists() {
            let text = String::from_utf8(read_bounded(&path, MAX_TEMPLATE_BYTES)?);
            return text
                .map(|text| Some((path.clone(), text)))
                .map_err(|_| InputError::new(path, "is not UTF-8").hint(HINT));
        }
        let Some(template) = &self.template else { return Ok(None) };
        let text = match template {
            Value::String(text) => Some(text.as_str()),
            // A list of named templates: for chats, for tools, …
            Value::Array(named) => {
                named.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry["template"].as_str())
            }
            _ => None,
        };
        match text {
            Some(text) if text.len() as u64 <= MAX_TEMPLATE_BYTES => Ok(Some((self.path.clone(), text.to_owned()))),
            Some(_) => Err(self.unfit(format!("is longer than {MAX_TEMPLATE_BYTES} bytes, the most that is read"))),
            None => Err(self.unfit("is neither a text nor a list with a template named `default`".to_owned())),
        }
    }

    fn unfit(&self, cause: String) -> InputError {
        InputError::new(&self.path, cause).at(Place::Named("chat_template".into())).hint(HINT)
    }
}

/// A JSON file, or null if there is none.
fn read_json(path: &Path) -> Result<Value, InputError> {
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&read_bounded(path, MAX_SETTINGS_BYTES)?)
        .map_err(|error| InputError::new(path, format!("is not JSON: {error}")))
}
