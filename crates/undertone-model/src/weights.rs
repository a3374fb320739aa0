//! Safetensors files in (one, or several with an index), named tensors out as `f32`.
//!
//! Files are memory-mapped, so opening costs the headers only, and a tensor's memory is taken when
//! it is asked for. Every claim of a header is checked against the file before it is believed.
//! Pickled weights (`pytorch_model.bin`) are never opened: they can run code. What the tensors mean
//! is the decoder's business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::{Map, Value};
use undertone_data::{InputError, Place};

use crate::config::read_bounded;

/// The longest header that is believed, in bytes. A model of 400 billion parameters has about
/// 150,000.
const MAX_HEADER_BYTES: u64 = 8 << 20;
/// The longest index of a sharded model that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Names listed in an error before the rest is only counted.
const NAMES_SHOWN: usize = 8;

/// One mapped safetensors file.
struct Shard {
    path: PathBuf,
    bytes: Mmap,
}

/// Where one tensor lies.
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Byte range in the whole file; inside it, as long as dtype and shape say.
    range: Range<usize>,
}

/// The tensors of a model folder, each to be [taken](WeightFiles::take) by name.
pub struct WeightFiles {
    /// The file that errors about the whole set name: the weights, or the index.
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
    /// Names taken or declared harmless.
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
    /// Neither exists; a file is truncated, or its header lies about lengths, types or offsets; the
    /// index names a shard that is missing or outside the folder, or disagrees with the shards.
    pub fn open(folder: &Path) -> Result<Self, InputError> {
        let single = folder.join("model.safetensors");
        let index = folder.join("model.safetensors.index.json");
        let mut files =
            Self { path: single.clone(), shards: Vec::new(), tensors: BTreeMap::new(), used: BTreeSet::new() };
        if single.exists() {
            files.add_shard(single)?;
        } else if index.exists() {
            files.path = index;
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
        let shard = &self.shards[entry.shard];
        let error = |cause: String| InputError::new(&shard.path, cause).at(Place::Named(name.to_owned()));
        if entry.shape != shape {
            return Err(error(format!("has shape `{:?}`, but the configuration asks for `{shape:?}`", entry.shape))
                .hint("`config.json` and the weights belong to different models"));
        }
        let bytes = &shard.bytes[entry.range.clone()];
        let values: Vec<f32> = match entry.dtype {
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
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Declares a tensor harmless if it stays unused, such as the `lm_head.weight` that some
    /// writers add to a model with tied embeddings.
    pub fn ignore(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// Some tensor was neither taken nor [ignored](WeightFiles::ignore): the file holds more than
    /// the configuration speaks of. The rotary frequencies (`*.rotary_emb.inv_freq`) that old
    /// releases store are computed, not read, and do not count.
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
        Err(InputError::new(&self.path, format!("the model has no use for {}", listed(&unused)))
            .hint("`config.json` and the weights belong to different models"))
    }

    fn add_shard(&mut self, path: PathBuf) -> Result<(), InputError> {
        let bytes = map_file(&path)?;
        let shard = self.shards.len();
        for (name, info, range) in read_header(&path, &bytes)? {
            let entry = Entry { shard, dtype: info.dtype, shape: info.shape, range };
            if let Some(first) = self.tensors.get(&name) {
                let first = self.shards[first.shard].path.display();
                return Err(InputError::new(&path, format!("is also in `{first}`")).at(Place::Named(name)));
            }
            self.tensors.insert(name, entry);
        }
        self.shards.push(Shard { path, bytes });
        Ok(())
    }

    /// Opens every shard the index names, and compares what each holds with what the index says.
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
                    .hint("download the model again; all its shards belong into this folder"));
            }
            self.add_shard(shard_path)?;
        }
        for (tensor, file) in weight_map {
            let found = self.tensors.get(tensor).map(|entry| &self.shards[entry.shard].path);
            if found != file.as_str().map(|file| folder.join(file)).as_ref() {
                return Err(error(tensor, format!("is said to be in {file}, and is not")));
            }
        }
        if let Some(stray) = self.tensors.keys().find(|name| !weight_map.contains_key(*name)) {
            return Err(error(stray, "is in a shard, but not in the index".into()));
        }
        Ok(())
    }
}

/// Maps a regular file for reading.
#[allow(unsafe_code)]
pub(crate) fn map_file(path: &Path) -> Result<Mmap, InputError> {
    let unreadable = |error: std::io::Error| InputError::io(path, "read", &error);
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(InputError::new(path, "is not a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    // SAFETY: the map is read-only and private to this process. As with every memory map, another
    // process that shortens the file meanwhile ends this one with a signal; weights are read once,
    // from files that nobody edits in place, and copying them first would double the memory.
    unsafe { Mmap::map(&file) }.map_err(unreadable)
}

/// Checks the header against the file; returns each tensor with its byte range in the file.
///
/// The format is an eight-byte length, a JSON object of that length, and the tensors, which must
/// follow one another without gap or overlap up to the end of the file.
fn read_header(path: &Path, bytes: &[u8]) -> Result<Vec<(String, TensorInfo, Range<usize>)>, InputError> {
    let again = "the download may be incomplete; fetch the file again";
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(
            InputError::new(path, format!("has {} bytes, too few for a safetensors file", bytes.len())).hint(again)
        );
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MAX_HEADER_BYTES {
        let cause = format!("is no safetensors file: its header would have {header_bytes} bytes");
        return Err(InputError::new(path, cause));
    }
    let Some((header, data)) = rest.split_at_checked(header_bytes as usize) else {
        let cause = format!("its header has {header_bytes} bytes, but only {} follow", rest.len());
        return Err(InputError::new(path, cause).hint(again));
    };
    let data_start = bytes.len() - data.len();
    let mut header: Map<String, Value> = serde_json::from_slice(header)
        .map_err(|error| InputError::new(path, format!("its header is not a JSON object: {error}")))?;
    header.remove("__metadata__");

    let mut tensors = Vec::with_capacity(header.len());
    for (name, value) in header {
        let error = |cause: String| InputError::new(path, cause).at(Place::Named(name.clone()));
        let info: TensorInfo = serde_json::from_value(value)
            .map_err(|cause| error(format!("its entry in the header is wrong: {cause}")))?;
        let (start, end) = info.data_offsets;
        let (dtype, shape) = (info.dtype, &info.shape);
        if start > end {
            return Err(error(format!("ends at byte {end}, before its start at byte {start}")));
        }
        if end > data.len() {
            return Err(
                error(format!("ends at byte {end}, but the file holds {} bytes of tensors", data.len())).hint(again)
            );
        }
        let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &axis| bits.checked_mul(axis));
        if bits != Some((end - start) * 8) {
            let cause =
                format!("has {} bytes, which is not what type `{dtype:?}` and shape `{shape:?}` need", end - start);
            return Err(error(cause));
        }
        tensors.push((name, info, data_start + start..data_start + end));
    }
    tensors.sort_by(|a, b| (a.2.start, a.2.end, &a.0).cmp(&(b.2.start, b.2.end, &b.0)));
    let mut expected = data_start;
    for (name, _, range) in &tensors {
        if range.start != expected {
            let how = if range.start < expected { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(InputError::new(path, how).at(Place::Named(name.clone())));
        }
        expected = range.end;
    }
    if expected != bytes.len() {
        return Err(InputError::new(path, format!("{} bytes follow the last tensor", bytes.len() - expected)));
    }
    Ok(tensors)
}

/// The existing name that shares the longest beginning and end with a missing one, if that is most
/// of it.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    let shared = |name: &str| {
        let start = wanted.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let end = wanted.bytes().rev().zip(name.bytes().rev()).take_while(|(a, b)| a == b).count();
        (start + end).min(name.len()).min(wanted.len())
    };
    names
        .map(|name| (shared(name), name))
        .filter(|(shared, name)| 2 * shared > name.len().max(wanted.len()))
        // Of equally good names the first in order.
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
mod tests {
    use super::*;

    /// A safetensors file: its header as JSON, then `data_bytes` bytes of data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn open_bytes(bytes: &[u8]) -> Result<WeightFiles, InputError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        WeightFiles::open(folder.path())
    }

    /// The place and cause of an error, without the folder, which is random.
    fn shown(error: &InputError) -> String {
        format!("{}{}: {}", error.path.file_name().unwrap().display(), error.place, error.cause)
    }

    fn check_refused(bytes: &[u8], expect: &str) {
        assert_eq!(shown(&open_bytes(bytes).unwrap_err()), format!("model.safetensors{expect}"));
    }

    const PAIR: &str = r#"{"__metadata__":{"format":"pt"},
        "model.a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},
        "model.b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;

    #[test]
    fn the_three_float_types_become_f32() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]},
            "c":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}}"#;
        let mut data = floats(&[1.5, -2.0]);
        data.extend([f16::from_f32(0.25), f16::from_f32(-3.0)].iter().flat_map(|half| half.to_le_bytes()));
        data.extend(bf16::from_f32(-0.5).to_le_bytes());
        let mut files = open_bytes(&file(header, &data)).unwrap();
        assert_eq!(files.take("a", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(files.take("b", &[1, 2]).unwrap(), [0.25, -3.0]);
        assert_eq!(files.take("c", &[1]).unwrap(), [-0.5]);
        files.finish().unwrap();
    }

    #[test]
    fn what_is_missing_or_misshapen_is_explained() {
        let mut files = open_bytes(&file(PAIR, &floats(&[1.0, 2.0, 3.0]))).unwrap();
        let missing = files.take("a", &[1]).unwrap_err();
        assert_eq!(shown(&missing), "model.safetensors, `a`: there is no tensor of this name");
        assert_eq!(missing.hint, None);
        let close = files.take("module.a", &[1]).unwrap_err();
        assert_eq!(close.hint.unwrap(), "the nearest name in the file is `model.a`");
        let misshapen = files.take("model.a", &[1, 2]).unwrap_err();
        assert_eq!(
            shown(&misshapen),
            "model.safetensors, `model.a`: has shape `[2, 1]`, but the configuration asks for `[1, 2]`"
        );
    }

    #[test]
    fn types_and_values_that_are_no_weights_are_refused() {
        let header = r#"{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#;
        let error = open_bytes(&file(header, &[0; 4])).unwrap().take("a", &[1]).unwrap_err();
        assert_eq!(error.cause, "has type `I32`; only F32, F16 and BF16 are read");
        let mut files = open_bytes(&file(PAIR, &floats(&[1.0, f32::NAN, 3.0]))).unwrap();
        assert_eq!(files.take("model.a", &[2, 1]).unwrap_err().cause, "value 1 is `NaN`, not a finite number");
    }

    #[test]
    fn unused_tensors_are_an_error_unless_harmless() {
        let header = r#"{"lm_head.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "model.layers.0.self_attn.rotary_emb.inv_freq":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let bytes = file(header, &[0; 8]);
        let error = open_bytes(&bytes).unwrap().finish().unwrap_err();
        assert_eq!(shown(&error), "model.safetensors: the model has no use for `lm_head.weight`");
        let mut files = open_bytes(&bytes).unwrap();
        files.ignore("lm_head.weight");
        files.finish().unwrap();
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(listed(&names), "`0`, `1`, `2`, `3`, `4`, `5`, `6`, `7` and 2 more");
    }

    #[test]
    fn lying_headers_are_refused() {
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        check_refused(b"", ": has 0 bytes, too few for a safetensors file");
        check_refused(
            &u64::MAX.to_le_bytes(),
            ": is no safetensors file: its header would have 18446744073709551615 bytes",
        );
        check_refused(&900_u64.to_le_bytes(), ": its header has 900 bytes, but only 0 follow");
        check_refused(
            &file("[1]", &[]),
            ": its header is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
        );
        check_refused(
            &file(&"[".repeat(100_000), &[]),
            ": its header is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
        );
        check_refused(
            &file(&entry("F99", "[1]", "[0,4]"), &[0; 4]),
            ", `x`: its entry in the header is wrong: unknown variant `F99`, expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64`",
        );
        check_refused(
            &file(&entry("F32", "[1]", "[4,0]"), &[0; 4]),
            ", `x`: ends at byte 0, before its start at byte 4",
        );
        check_refused(
            &file(&entry("F32", "[1]", "[0,18446744073709551615]"), &[0; 4]),
            ", `x`: ends at byte 18446744073709551615, but the file holds 4 bytes of tensors",
        );
        check_refused(
            &file(&entry("F32", "[4294967296,4294967296]", "[0,4]"), &[0; 4]),
            ", `x`: has 4 bytes, which is not what type `F32` and shape `[4294967296, 4294967296]` need",
        );
        check_refused(&file(&entry("F32", "[1]", "[4,8]"), &[0; 8]), ", `x`: leaves a gap before it");
        check_refused(&file(&entry("F32", "[1]", "[0,4]"), &[0; 5]), ": 1 bytes follow the last tensor");
        check_refused(&file(&PAIR.replace("[8,12]", "[4,8]"), &[0; 12]), ", `model.b`: overlaps the tensor before it");
        // A download cut off anywhere is noticed.
        let whole = file(PAIR, &floats(&[1.0, 2.0, 3.0]));
        for cut in 0..whole.len() {
            assert!(open_bytes(&whole[..cut]).is_err(), "cut at {cut} of {}", whole.len());
        }
        assert!(open_bytes(&whole).is_ok());
        // Damage anywhere is at least never a panic.
        for at in 0..whole.len() {
            for damage in [b'9', b'"', 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = damage;
                if let Ok(mut files) = open_bytes(&bytes) {
                    drop(files.take("model.a", &[2, 1]));
                }
            }
        }
    }

    #[test]
    fn shards_are_joined_and_compared_with_their_index() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        let index = |map: &str| write("model.safetensors.index.json", format!(r#"{{"weight_map":{map}}}"#).as_bytes());
        let one = |name: &str| {
            file(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#), &floats(&[7.0]))
        };
        let refused = |expect: &str| assert_eq!(shown(&WeightFiles::open(folder.path()).unwrap_err()), expect);
        write("1.safetensors", &one("a"));
        write("2.safetensors", &one("b"));

        index(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
        let mut files = WeightFiles::open(folder.path()).unwrap();
        assert_eq!((files.take("a", &[1]).unwrap(), files.take("b", &[1]).unwrap()), (vec![7.0], vec![7.0]));
        files.finish().unwrap();

        let at = "model.safetensors.index.json";
        index(r#"{"a":"1.safetensors","b":"3.safetensors"}"#);
        refused(&format!("{at}: names the shard `3.safetensors`, which is missing"));
        index(r#"{"a":"../x.safetensors"}"#);
        refused(&format!("{at}, `a`: is in `../x.safetensors`, not a safetensors file of this folder"));
        index(r#"{"a":"/etc/passwd"}"#);
        refused(&format!("{at}, `a`: is in `/etc/passwd`, not a safetensors file of this folder"));
        index(r#"{"a":7}"#);
        refused(&format!("{at}, `a`: is in `7`, not a file name"));
        index(r#"{"a":"1.safetensors","c":"2.safetensors"}"#);
        refused(&format!("{at}, `c`: is said to be in \"2.safetensors\", and is not"));
        index(r#"{"a":"1.safetensors","c":"1.safetensors"}"#);
        refused(&format!("{at}, `c`: is said to be in \"1.safetensors\", and is not"));
        write("2.safetensors", &one("a"));
        index(r#"{"a":"1.safetensors","b":"2.safetensors"}"#);
        let twice = WeightFiles::open(folder.path()).unwrap_err();
        assert!(twice.cause.starts_with("is also in `") && twice.cause.ends_with("1.safetensors`"), "{twice}");
        write("1.safetensors", &file(PAIR, &floats(&[1.0, 2.0, 3.0])));
        index(r#"{"model.a":"1.safetensors"}"#);
        refused(&format!("{at}, `model.b`: is in a shard, but not in the index"));
        write(at, b"{}");
        refused(&format!("{at}, `weight_map`: is missing or not an object"));
    }

    #[test]
    fn a_folder_without_weights_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pytorch_model.bin"), "pickle").unwrap();
        let error = WeightFiles::open(folder.path()).unwrap_err();
        assert_eq!(error.cause, "holds neither `model.safetensors` nor `model.safetensors.index.json`");
        fs::create_dir(folder.path().join("model.safetensors")).unwrap();
        assert_eq!(WeightFiles::open(folder.path()).unwrap_err().cause, "is not a regular file");
    }
}
