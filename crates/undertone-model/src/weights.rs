//! Safetensors files in (one, or several with an index), named tensors out as `f32`.
//!
//! Files are memory-mapped: opening reads only the headers, and a tensor takes memory when it is requested. Every claim
//! of a header is checked against the file. Pickled weights (`pytorch_model.bin`) are never opened: they can run code.
//! The decoder interprets the tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::Dtype;
use serde_json::Value;
use undertone_files::{InputError, Place};

use crate::safetensors_header::{SafetensorsHeader, TensorEntry};
use undertone_files::{map_file, read_bounded};

/// The longest index of a sharded model that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// The most names that an error lists; the rest are counted.
const NAMES_SHOWN: usize = 8;

/// One mapped safetensors file.
struct Shard {
    path: PathBuf,
    bytes: Mmap,
}

/// A tensor and the shard that holds it.
struct Entry {
    shard: usize,
    tensor: TensorEntry,
}

/// The tensors of a model folder, each to be [taken](WeightFiles::take) by name.
pub struct WeightFiles {
    /// The file named by errors about all tensors: the weights, or the index.
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
    /// Names that were taken or ignored.
    used: BTreeSet<String>,
}

impl std::fmt::Debug for WeightFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeightFiles").field("path", &self.path).field("tensors", &self.tensors.len()).finish()
    }
}

impl WeightFiles {
    /// Opens `model.safetensors` in a model folder or, if there is none, the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// Neither exists; a file is truncated, or its header gives wrong lengths, types or offsets; the
    /// index names a shard that is missing or outside the folder, or disagrees with the shards.
    pub fn open(folder: &Path) -> Result<Self, InputError> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        if single.exists() {
            return Self::open_file(&single);
        }
        let mut files = Self { path: index, shards: Vec::new(), tensors: BTreeMap::new(), used: BTreeSet::new() };
        if files.path.exists() {
            files.add_indexed_shards(folder)?;
        } else {
            return Err(InputError::new(
                folder,
                "holds neither `model.safetensors` nor `model.safetensors.index.json`",
            )
            .hint(
                "check the path; weights in other formats (`.bin`, `.pt`) are not read, GGUF files are imported first",
            ));
        }
        Ok(files)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is truncated, or its header gives wrong lengths, types or offsets.
    pub fn open_file(path: &Path) -> Result<Self, InputError> {
        let mut files =
            Self { path: path.to_owned(), shards: Vec::new(), tensors: BTreeMap::new(), used: BTreeSet::new() };
        files.add_shard(path.to_owned())?;
        Ok(files)
    }

    /// Reads a tensor as `f32`, row-major; `shape` is what the model expects.
    ///
    /// # Errors
    ///
    /// There is no such tensor (the nearest name is given), its shape differs, its type is none of
    /// F32, F16 and BF16, or a value is not finite.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, InputError> {
        let Some(entry) = self.tensors.get(name) else {
            let missing =
                InputError::new(&self.path, "there is no tensor of this name").at(Place::Named(name.to_owned()));
            return Err(match nearest(name, self.tensors.keys()) {
                Some(nearest) => missing.hint(format!("the nearest name in the file is `{nearest}`")),
                None => missing,
            });
        };
        let Entry { shard, tensor } = entry;
        let shard = &self.shards[*shard];
        let error = |cause: String| InputError::new(&shard.path, cause).at(Place::Named(name.to_owned()));
        if tensor.shape != shape {
            return Err(error(format!("has shape `{:?}`, but the configuration asks for `{shape:?}`", tensor.shape))
                .hint("`config.json` and the weights belong to different models"));
        }
        let bytes = &shard.bytes[tensor.range.clone()];
        let values: Vec<f32> = match tensor.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            other => {
                return Err(error(format!("has type `{other:?}`; only F32, F16 and BF16 are read")));
            }
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(error(format!("value {at} is `{}`, not a finite number", values[at])));
        }
        self.used.insert(name.to_owned());
        Ok(values)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Allows a tensor to stay unused.
    pub fn ignore(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// Some tensor was neither taken nor [ignored](WeightFiles::ignore): the configuration does not describe it. The
    /// rotary frequencies (`*.rotary_emb.inv_freq`) that old releases store are computed, not read, and may stay
    /// unused.
    pub fn finish(self) -> Result<(), InputError> {
        let unused: Vec<&str> = self
            .tensors
            .keys()
            .filter(|name| !self.used.contains(*name) && !name.ends_with(".rotary_emb.inv_freq"))
            .map(String::as_str)
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        Err(InputError::new(&self.path, format!("the model does not use {}", listed(&unused)))
            .hint("`config.json` and the weights belong to different models"))
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<(), InputError> {
        let bytes = map_file(&path)?;
        let shard = self.shards.len();
        for tensor in SafetensorsHeader::parse(&path, &bytes)?.tensors {
            if let Some(first) = self.tensors.get(&tensor.name) {
                let first = self.shards[first.shard].path.display();
                return Err(InputError::new(&path, format!("is also in `{first}`")).at(Place::Named(tensor.name)));
            }
            self.tensors.insert(tensor.name.clone(), Entry { shard, tensor });
        }
        self.shards.push(Shard { path, bytes });
        Ok(())
    }

    /// Opens every shard that the index names, and compares the tensors of each with the index.
    fn add_indexed_shards(&mut self, folder: &Path) -> Result<(), InputError> {
        let path = self.path.clone();
        let error = |name: &str, cause: String| InputError::new(&path, cause).at(Place::Named(name.to_owned()));
        let index: Value = serde_json::from_slice(&read_bounded(&path, MAX_INDEX_BYTES)?)
            .map_err(|cause| InputError::new(&path, format!("is not valid JSON: {cause}")))?;
        let Some(Value::Object(weight_map)) = index.get("weight_map") else {
            return Err(error("weight_map", "is missing or not an object".into()));
        };
        let mut shard_names = BTreeSet::new();
        for (tensor, file) in weight_map {
            let file = file.as_str().ok_or_else(|| error(tensor, format!("is in `{file}`, not a file name")))?;
            if file.contains(['/', '\\', '\0']) || !file.ends_with(".safetensors") {
                return Err(error(
                    tensor,
                    format!("is in `{}`, not a safetensors file of this folder", file.escape_debug()),
                ));
            }
            shard_names.insert(file);
        }
        for file in &shard_names {
            let shard_path = folder.join(file);
            if !shard_path.exists() {
                return Err(InputError::new(&path, format!("names the shard `{file}`, which is missing"))
                    .hint("download the model again; all its shards belong in this folder"));
            }
            self.add_shard(shard_path)?;
        }
        for (tensor, file) in weight_map {
            let found = self.tensors.get(tensor).map(|entry| &self.shards[entry.shard].path);
            if found != file.as_str().map(|file| folder.join(file)).as_ref() {
                return Err(error(tensor, format!("is not in {file}, where the index places it")));
            }
        }
        if let Some(stray) = self.tensors.keys().find(|name| !weight_map.contains_key(*name)) {
            return Err(error(stray, "is in a shard, but not in the index".into()));
        }
        Ok(())
    }
}

/// The existing name that shares the longest beginning and end with `wanted`, if they are more than half of the longer
/// name.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let shared = |name: &str| {
        let start = wanted.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let end = wanted.bytes().rev().zip(name.bytes().rev()).take_while(|(a, b)| a == b).count();
        (start + end).min(name.len()).min(wanted.len())
    };
    names
        .map(|name| (shared(name), name))
        .filter(|(shared, name)| 2 * shared > name.len().max(wanted.len()))
        // At ties, the first in order.
        .min_by_key(|(shared, _)| std::cmp::Reverse(*shared))
        .map(|(_, name)| name.as_str())
}

/// Names for an error message: the first few, and how many more.
pub(crate) fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
