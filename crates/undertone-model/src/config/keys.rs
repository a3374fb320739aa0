//! The keys of a JSON object, checked as they are read.

use std::path::Path;

use serde_json::{Map, Value};
use undertone_files::{InputError, Place};

/// The largest believable width or number of heads.
pub(super) const MAX_SIZE: usize = 1_000_000;
/// The largest believable number of blocks.
pub(super) const MAX_BLOCKS: usize = 10_000;
/// The largest believable vocabulary, in tokens.
pub(super) const MAX_VOCABULARY: usize = 10_000_000;
/// The largest believable context, in tokens.
pub(super) const MAX_CONTEXT: usize = 100_000_000;

/// The keys of one JSON object, with the file that errors name.
pub(super) struct Keys<'a> {
    pub(super) path: &'a Path,
    /// Put before a key in errors, such as `rope_parameters.`.
    pub(super) prefix: &'a str,
    pub(super) object: &'a Map<String, Value>,
}

impl Keys<'_> {
    pub(super) fn error(&self, key: &str, cause: impl Into<String>) -> InputError {
        InputError::new(self.path, cause).at(Place::Named(format!("{}{key}", self.prefix)))
    }

    pub(super) fn missing(&self, key: &str) -> InputError {
        self.error(key, "is missing")
    }

    /// The value of a key, unless it is absent or null.
    pub(super) fn present(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn optional_size(&self, key: &str, most: usize) -> Result<Option<usize>, InputError> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value
            .as_u64()
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| (1..=most).contains(size))
            .map(Some)
            .ok_or_else(|| self.error(key, format!("is `{}`, not a whole number from 1 to {most}", shown(value))))
    }

    pub(super) fn size(&self, key: &str, most: usize) -> Result<usize, InputError> {
        self.optional_size(key, most)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, InputError> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.error(key, format!("is `{}`, not a number", shown(value))))
    }

    /// A number that must not be 0 or negative; `default` if it is absent.
    pub(super) fn positive(&self, key: &str, default: f64) -> Result<f64, InputError> {
        match self.number(key)? {
            None => Ok(default),
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            Some(number) => Err(self.error(key, format!("is `{number}`, not above 0"))),
        }
    }

    /// A flag that is false when absent.
    pub(super) fn flag(&self, key: &str) -> Result<bool, InputError> {
        self.flag_or(key, false)
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, InputError> {
        let Some(value) = self.present(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.error(key, format!("is `{}`, not `true` or `false`", shown(value))))
    }

    pub(super) fn token_id(&self, key: &str, value: &Value, vocab_size: usize) -> Result<u32, InputError> {
        value
            .as_u64()
            .filter(|id| usize::try_from(*id).is_ok_and(|id| id < vocab_size))
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| {
                self.error(key, format!("is `{}`, not a token id below `vocab_size` `{vocab_size}`", shown(value)))
            })
    }

    pub(super) fn optional_token_id(&self, key: &str, vocab_size: usize) -> Result<Option<u32>, InputError> {
        self.present(key).map(|value| self.token_id(key, value, vocab_size)).transpose()
    }
}

/// A value for an error message, without quotes around text, cut if it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
