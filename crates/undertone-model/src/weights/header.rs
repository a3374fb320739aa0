//! The header of a safetensors file, checked against the file before it is believed.

use std::ops::Range;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};
use undertone_data::{InputError, Place};

/// The longest header that is believed, in bytes. A model of 400 billion parameters has about
/// 150,000.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// Checks the header against the file; returns each tensor with its byte range in the file.
///
/// The format is an eight-byte length, a JSON object of that length, and the tensors, which must
/// follow one another without gap or overlap up to the end of the file.
pub(super) fn read_header(path: &Path, bytes: &[u8]) -> Result<Vec<(String, TensorInfo, Range<usize>)>, InputError> {
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
