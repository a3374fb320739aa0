//! Reads the header of a safetensors file and checks it against the file. No other module reads such headers.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde_json::{Map, Value};
use undertone_files::{FileKind, InputError, Place};

use undertone_files::open_regular;

/// The largest header that is read, in bytes: the limit of the `safetensors` library.
const MAX_HEADER_BYTES: u64 = 100_000_000;

const INCOMPLETE: &str = "the download may be incomplete; fetch the file again";

/// A header that fits its file.
#[derive(Debug, Clone)]
pub struct SafetensorsHeader {
    /// The entries of `__metadata__` that are text, by key.
    pub metadata: BTreeMap<String, String>,
    /// The tensors in the order of their bytes.
    pub tensors: Vec<TensorEntry>,
}

/// One tensor, as the header describes it.
#[derive(Debug, Clone)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Byte range in the whole file; inside the file, with the length that dtype and shape require.
    pub range: Range<usize>,
}

impl SafetensorsHeader {
    /// Parses the header of a whole file.
    ///
    /// The format is an eight-byte length, a JSON object of that length, and the tensors, which must
    /// follow one another without gap or overlap up to the end of the file.
    ///
    /// # Errors
    /// The file is truncated, or its header is not a JSON object or gives wrong lengths, types or offsets.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, InputError> {
        let parsed = header_length(path, bytes, bytes.len())
            .and_then(|length| Self::checked(path, &bytes[8..8 + length], bytes.len()));
        parsed.map_err(FileKind::explain)
    }

    /// Reads the header of a file and none of its tensors.
    ///
    /// # Errors
    /// As for [`Self::parse`]; or the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let unreadable = |error: std::io::Error| InputError::io(path, "read", &error);
        let mut file = open_regular(path)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len() as usize;
        let mut read = |bytes: usize| {
            let mut buffer = Vec::new();
            (&mut file).take(bytes as u64).read_to_end(&mut buffer).map_err(unreadable)?;
            Ok::<_, InputError>(buffer)
        };
        let parsed = header_length(path, &read(8)?, file_bytes)
            .and_then(|length| Self::checked(path, &read(length)?, file_bytes));
        parsed.map_err(FileKind::explain)
    }

    fn checked(path: &Path, header: &[u8], file_bytes: usize) -> Result<Self, InputError> {
        let data_start = 8 + header.len();
        let mut header: Map<String, Value> = serde_json::from_slice(header)
            .map_err(|error| InputError::new(path, format!("its header is not a JSON object: {error}")))?;
        let metadata = header.remove("__metadata__").and_then(|metadata| match metadata {
            Value::Object(entries) => Some(entries),
            _ => None,
        });
        let texts = metadata.into_iter().flatten().filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        });
        let metadata = texts.collect();
        let mut tensors = Vec::with_capacity(header.len());
        for (name, value) in header {
            tensors.push(checked_entry(path, name, value, data_start, file_bytes)?);
        }
        tensors.sort_by(|a, b| (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name)));
        let mut expected = data_start;
        for TensorEntry { name, range, .. } in &tensors {
            if range.start != expected {
                let how =
                    if range.start < expected { "overlaps the tensor before it" } else { "leaves a gap before it" };
                return Err(InputError::new(path, how).at(Place::Named(name.clone())));
            }
            expected = range.end;
        }
        if expected != file_bytes {
            return Err(InputError::new(path, format!("{} bytes follow the last tensor", file_bytes - expected)));
        }
        Ok(Self { metadata, tensors })
    }
}

/// The length of the header, which lies inside the file.
fn header_length(path: &Path, start: &[u8], file_bytes: usize) -> Result<usize, InputError> {
    let Some((length, _)) = start.split_first_chunk::<8>() else {
        let cause = format!("has {file_bytes} bytes, too few for a safetensors file");
        return Err(InputError::new(path, cause).hint(INCOMPLETE));
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MAX_HEADER_BYTES {
        let cause = format!("is not a safetensors file: its header would have {header_bytes} bytes");
        return Err(InputError::new(path, cause));
    }
    let rest = file_bytes.saturating_sub(8);
    if header_bytes as usize > rest {
        let cause = format!("its header has {header_bytes} bytes, but only {rest} follow");
        return Err(InputError::new(path, cause).hint(INCOMPLETE));
    }
    Ok(header_bytes as usize)
}

/// One entry, checked against the file's length.
fn checked_entry(
    path: &Path,
    name: String,
    value: Value,
    data_start: usize,
    file_bytes: usize,
) -> Result<TensorEntry, InputError> {
    let error = |cause: String| InputError::new(path, cause).at(Place::Named(name.clone()));
    let info: TensorInfo =
        serde_json::from_value(value).map_err(|cause| error(format!("its entry in the header is wrong: {cause}")))?;
    let TensorInfo { dtype, shape, data_offsets: (start, end) } = info;
    let data_bytes = file_bytes - data_start;
    if start > end {
        return Err(error(format!("ends at byte {end}, before its start at byte {start}")));
    }
    if end > data_bytes {
        let cause = format!("ends at byte {end}, but the file holds {data_bytes} bytes of tensors");
        return Err(error(cause).hint(INCOMPLETE));
    }
    let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &axis| bits.checked_mul(axis));
    if bits != Some((end - start) * 8) {
        let cause = format!("has {} bytes, which is not what type `{dtype:?}` and shape `{shape:?}` need", end - start);
        return Err(error(cause));
    }
    Ok(TensorEntry { name, dtype, shape, range: data_start + start..data_start + end })
}
