//! An open GGUF file: checked metadata values and dequantised tensors.
//!
//! Knows the format, not the model: `llama.rs` and `tokenizer.rs` interpret keys and tensors.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use undertone_files::{InputError, Place};

use super::header::{TensorEntry, walk};
use undertone_files::map_file;

/// A GGUF file whose header has been checked.
pub(super) struct Gguf {
    path: PathBuf,
    bytes: Mmap,
    content: Content,
    tensors: HashMap<String, TensorEntry>,
}

impl Gguf {
    /// Maps the file and reads its header; tensors stay on disk.
    pub(super) fn open(path: &Path) -> Result<Self, InputError> {
        let bytes = map_file(path)?;
        let tensors = walk(path, &bytes)?;
        let content =
            Content::read(&mut Cursor::new(&bytes[..])).map_err(|error| InputError::new(path, first_line(&error)))?;
        let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Ok(Self { path: path.to_owned(), bytes, content, tensors })
    }

    /// SHA-256 of the whole file, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.bytes[..]))
    }

    /// Size of the whole file, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// A problem with a metadata key or a tensor.
    pub(super) fn error(&self, name: &str, cause: impl Into<String>) -> InputError {
        InputError::new(&self.path, cause).at(Place::Named(name.to_owned()))
    }

    /// All metadata keys, in no particular order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.content.metadata.keys().map(String::as_str)
    }

    /// All tensors by name, in no particular order.
    pub(super) fn tensors(&self) -> &HashMap<String, TensorEntry> {
        &self.tensors
    }

    /// Text, or nothing if the key is absent.
    pub(super) fn optional_text(&self, key: &str) -> Result<Option<&str>, InputError> {
        self.optional(key, "text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Text.
    pub(super) fn text(&self, key: &str) -> Result<&str, InputError> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number from 0, or nothing if the key is absent.
    pub(super) fn optional_count(&self, key: &str) -> Result<Option<u64>, InputError> {
        self.optional(key, "a whole number", count)
    }

    /// A whole number from 0.
    pub(super) fn count(&self, key: &str) -> Result<u64, InputError> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key))
    }

    /// A number, or nothing if the key is absent. A 32-bit number is returned as the decimal that it was rounded from:
    /// 0.00001, not 0.00000999999974.
    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>, InputError> {
        self.optional(key, "a number", |value| match value {
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(*number),
            _ => None,
        })
    }

    /// True or false; false if the key is absent.
    pub(super) fn flag(&self, key: &str) -> Result<bool, InputError> {
        let flag = self.optional(key, "true or false", |value| value.to_bool().ok())?;
        Ok(flag.unwrap_or(false))
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<&str>, InputError> {
        let texts = self.optional(key, "a list of texts", |value| match value {
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
            _ => None,
        })?;
        texts.ok_or_else(|| self.missing(key))
    }

    /// A list of whole numbers from 0.
    pub(super) fn counts(&self, key: &str) -> Result<Vec<u64>, InputError> {
        let counts = self.optional(key, "a list of whole numbers", |value| match value {
            Value::Array(items) => items.iter().map(count).collect(),
            _ => None,
        })?;
        counts.ok_or_else(|| self.missing(key))
    }

    /// A tensor as `f32`, row-major; `shape` is the shape that the metadata require.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, InputError> {
        let entry = self.tensor_of_shape(name, shape)?;
        let values = self
            .content
            .tensor(&mut Cursor::new(&self.bytes[..]), &entry.name, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| self.error(name, first_line(&error)))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(self.error(name, format!("value {at} is `{}`, not a finite number", values[at])));
        }
        Ok(values)
    }

    /// The header's entry of a tensor, which must have this shape.
    pub(super) fn tensor_of_shape(&self, name: &str, shape: &[usize]) -> Result<&TensorEntry, InputError> {
        let entry = self.tensors.get(name).ok_or_else(|| self.error(name, "there is no tensor of this name"))?;
        if entry.shape != shape {
            let cause = format!("has shape `{:?}`, but the metadata require `{shape:?}`", entry.shape);
            return Err(self.error(name, cause));
        }
        Ok(entry)
    }

    fn missing(&self, key: &str) -> InputError {
        self.error(key, "is missing from the metadata")
    }

    fn optional<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, InputError> {
        let Some(value) = self.content.metadata.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.error(key, format!("has a value of type {:?}, not {wanted}", value.value_type()))),
        }
    }
}

/// A whole number from 0 of any stored width.
fn count(value: &Value) -> Option<u64> {
    match *value {
        Value::U8(number) => Some(number.into()),
        Value::U16(number) => Some(number.into()),
        Value::U32(number) => Some(number.into()),
        Value::U64(number) => Some(number),
        Value::I8(number) => number.try_into().ok(),
        Value::I16(number) => number.try_into().ok(),
        Value::I32(number) => number.try_into().ok(),
        Value::I64(number) => number.try_into().ok(),
        _ => None,
    }
}

/// A candle error without the backtrace that it may carry.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or("cannot be read").to_owned()
}
