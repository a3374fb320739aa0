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

/// The most parts of a split model.
const MAX_PARTS: u64 = 1000;

/// A GGUF model whose headers have been checked: one file, or the parts of a split model. The first part has the metadata.
pub(super) struct Gguf {
    parts: Vec<Part>,
    /// Each tensor, and the part that has it.
    tensors: HashMap<String, (usize, TensorEntry)>,
}

/// One file.
struct Part {
    path: PathBuf,
    bytes: Mmap,
    content: Content,
}

impl Part {
    /// Maps the file and reads its header; tensors stay on disk.
    fn open(path: &Path) -> Result<(Self, Vec<TensorEntry>), InputError> {
        let bytes = map_file(path)?;
        let tensors = walk(path, &bytes)?;
        let content =
            Content::read(&mut Cursor::new(&bytes[..])).map_err(|error| InputError::new(path, first_line(&error)))?;
        Ok((Self { path: path.to_owned(), bytes, content }, tensors))
    }

    fn error(&self, name: &str, cause: impl Into<String>) -> InputError {
        InputError::new(&self.path, cause).at(Place::Named(name.to_owned()))
    }
}

impl Gguf {
    /// Opens a file, and the other parts beside it if it is the first of several.
    pub(super) fn open(path: &Path) -> Result<Self, InputError> {
        let (first, entries) = Part::open(path)?;
        let mut gguf = Self { parts: vec![first], tensors: HashMap::new() };
        gguf.add(0, entries)?;
        let parts = gguf.optional_count("split.count")?.unwrap_or(1);
        if parts <= 1 {
            return Ok(gguf);
        }
        let number = gguf.optional_count("split.no")?.unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of = |part: u64| format!("-{:05}-of-{parts:05}.gguf", part + 1);
        let whole = name.strip_suffix(&of(number)).filter(|_| parts <= MAX_PARTS);
        let Some(whole) = whole else {
            let cause = format!("is part {} of {parts}, but its name does not end with `{}`", number + 1, of(number));
            return Err(gguf.error("split.count", cause).hint("give the parts back the names that they had"));
        };
        if number != 0 {
            return Err(gguf
                .error("split.no", format!("is part {} of {parts}", number + 1))
                .hint(format!("give the first part, `{whole}{}`; the others are read from beside it", of(0))));
        }
        for number in 1..parts {
            let (part, entries) = Part::open(&path.with_file_name(format!("{whole}{}", of(number))))?;
            let is = |key: &str, value: u64| part.content.metadata.get(key).and_then(count) == Some(value);
            if !is("split.no", number) || !is("split.count", parts) {
                return Err(part
                    .error("split.no", format!("is not part {} of {parts}", number + 1))
                    .hint("the parts are of different models, or were renamed"));
            }
            gguf.parts.push(part);
            gguf.add(gguf.parts.len() - 1, entries)?;
        }
        match gguf.optional_count("split.tensors.count")? {
            Some(all) if all != gguf.tensors.len() as u64 => {
                let cause = format!("is `{all}`, but the parts have {} tensors", gguf.tensors.len());
                Err(gguf.error("split.tensors.count", cause))
            }
            _ => Ok(gguf),
        }
    }

    /// Adds the tensors of a part.
    fn add(&mut self, part: usize, entries: Vec<TensorEntry>) -> Result<(), InputError> {
        for entry in entries {
            let name = entry.name.clone();
            if let Some((earlier, _)) = self.tensors.insert(name.clone(), (part, entry)) {
                let cause = format!("is also in `{}`", self.parts[earlier].path.display());
                return Err(self.parts[part].error(&name, cause));
            }
        }
        Ok(())
    }

    /// SHA-256 of the file, or of its parts one after the other, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.parts.iter().for_each(|part| hash.update(&part.bytes[..]));
        hex::encode(hash.finalize())
    }

    /// Size of all files, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }

    /// A problem with a metadata key or a tensor.
    pub(super) fn error(&self, name: &str, cause: impl Into<String>) -> InputError {
        let part = self.tensors.get(name).map_or(0, |(part, _)| *part);
        self.parts[part].error(name, cause)
    }

    fn metadata(&self) -> &HashMap<String, Value> {
        &self.parts[0].content.metadata
    }

    /// All metadata keys, in no particular order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata().keys().map(String::as_str)
    }

    /// The names of all tensors, in no particular order.
    pub(super) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
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

    /// True or false; `default` if the key is absent.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, InputError> {
        let flag = self.optional(key, "true or false", |value| value.to_bool().ok())?;
        Ok(flag.unwrap_or(default))
    }

    /// A list of 32-bit numbers.
    pub(super) fn numbers(&self, key: &str) -> Result<Vec<f32>, InputError> {
        let numbers = self.optional(key, "a list of numbers", |value| match value {
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::F32(number) if number.is_finite() => Some(*number),
                    _ => None,
                })
                .collect(),
            _ => None,
        })?;
        numbers.ok_or_else(|| self.missing(key))
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
        self.tensor_of_shape(name, shape)?;
        let Part { bytes, content, .. } = &self.parts[self.tensors[name].0];
        let values = content
            .tensor(&mut Cursor::new(&bytes[..]), name, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| self.error(name, first_line(&error)))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(self.error(name, format!("value {at} is `{}`, not a finite number", values[at])));
        }
        Ok(values)
    }

    /// The header's entry of a tensor, which must have this shape.
    pub(super) fn tensor_of_shape(&self, name: &str, shape: &[usize]) -> Result<&TensorEntry, InputError> {
        let (_, entry) = self.tensors.get(name).ok_or_else(|| self.error(name, "there is no tensor of this name"))?;
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
        let Some(value) = self.metadata().get(key) else { return Ok(None) };
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Made by `tests/golden/quants.py` with ggml's own package.
    const GOLDEN: &str = include_str!("../../../../tests/golden/quants.json");

    /// A file with one tensor of 256 values and no metadata.
    fn file(number: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(b"x");
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(256_u64.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn blocks_of_every_type_are_read_as_ggml_reads_them() {
        let golden: serde_json::Map<String, Value> = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(golden.len(), 10);
        let folder = tempfile::tempdir().unwrap();
        for (name, golden) in golden {
            let path = folder.path().join("x.gguf");
            let data = hex::decode(golden["bytes"].as_str().unwrap()).unwrap();
            std::fs::write(&path, file(golden["number"].as_u64().unwrap() as u32, &data)).unwrap();
            let values = Gguf::open(&path).unwrap().tensor("x", &[256]).unwrap();
            let expected: Vec<f32> = serde_json::from_value(golden["values"].clone()).unwrap();
            let largest = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
            for (ours, theirs) in values.iter().zip(&expected) {
                assert!((ours - theirs).abs() <= 1e-5 * largest, "{name}: {ours}, not {theirs}");
            }
        }
    }
}
