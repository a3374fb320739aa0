//! Walks the header of a GGUF file once and trusts none of its claims.
//!
//! candle reads the values, unpacks the tensors and bounds most claims of a header. This walk comes first and refuses
//! the rest: an alignment of zero (candle divides by it), names that occur twice (candle keeps the last), text that is
//! not UTF-8 (candle replaces it), arrays whose values would take many times their bytes, tensors that overlap, and
//! block types without a name. The layout is <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use undertone_files::{InputError, Place};

/// The most metadata entries, and the most tensors, that are accepted.
const MAX_ENTRIES: u64 = 1 << 16;
/// The most array elements in all metadata together; in memory each takes 32 bytes. A vocabulary of
/// 260,000 tokens with its merges has about a million.
const MAX_ELEMENTS: u64 = 4 << 20;
/// The longest single string, in bytes.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// The alignment of tensor data unless `general.alignment` says otherwise, in bytes.
const DEFAULT_ALIGNMENT: usize = 32;

/// Metadata value types, by their number in the file.
const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A block type that can be unpacked: name, number in the file, values and bytes per block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockType {
    pub(super) name: &'static str,
    number: u32,
    values: u64,
    bytes: u64,
}

const SUPPORTED: [BlockType; 13] = [
    BlockType { name: "F32", number: 0, values: 1, bytes: 4 },
    BlockType { name: "F16", number: 1, values: 1, bytes: 2 },
    BlockType { name: "BF16", number: 30, values: 1, bytes: 2 },
    BlockType { name: "Q4_0", number: 2, values: 32, bytes: 18 },
    BlockType { name: "Q4_1", number: 3, values: 32, bytes: 20 },
    BlockType { name: "Q5_0", number: 6, values: 32, bytes: 22 },
    BlockType { name: "Q5_1", number: 7, values: 32, bytes: 24 },
    BlockType { name: "Q8_0", number: 8, values: 32, bytes: 34 },
    BlockType { name: "Q2_K", number: 10, values: 256, bytes: 84 },
    BlockType { name: "Q3_K", number: 11, values: 256, bytes: 110 },
    BlockType { name: "Q4_K", number: 12, values: 256, bytes: 144 },
    BlockType { name: "Q5_K", number: 13, values: 256, bytes: 176 },
    BlockType { name: "Q6_K", number: 14, values: 256, bytes: 210 },
];

/// Names of the block types that are not supported, for errors.
const UNSUPPORTED: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// One tensor, as the header describes it.
#[derive(Debug)]
pub(super) struct TensorEntry {
    pub(super) name: String,
    /// Row-major: the file's order, reversed.
    pub(super) shape: Vec<usize>,
    pub(super) block: BlockType,
    /// Byte range in the file; inside the file, and shared with no other tensor.
    range: Range<usize>,
}

/// Walks the header and checks it against the file.
///
/// # Errors
///
/// The file is not GGUF of version 2 or 3, is truncated, repeats a name, or makes one of the claims listed at the top
/// of this file.
pub(super) fn walk(path: &Path, bytes: &[u8]) -> Result<Vec<TensorEntry>, InputError> {
    let mut cursor = Cursor { path, bytes, at: 0, reading: "the header".into() };
    if cursor.bytes(4).ok() != Some(b"GGUF") {
        return Err(InputError::new(path, "is not a GGUF file: it does not begin with `GGUF`"));
    }
    let version = cursor.u32()?;
    if !matches!(version, 2 | 3) {
        let cause = match version.swap_bytes() {
            1..=3 => format!(
                "is a big-endian GGUF file of version `{}`; only little-endian ones are read",
                version.swap_bytes()
            ),
            _ => format!("has GGUF version `{version}`; only 2 and 3 are read"),
        };
        return Err(InputError::new(path, cause));
    }
    let tensors = cursor.count("tensors")?;
    let entries = cursor.count("metadata entries")?;

    let mut alignment = DEFAULT_ALIGNMENT;
    let mut elements_left = MAX_ELEMENTS;
    let mut seen = HashSet::new();
    for _ in 0..entries {
        cursor.reading = "the metadata".into();
        let key = cursor.text()?.to_owned();
        cursor.reading = key.clone();
        if !seen.insert(key.clone()) {
            return Err(cursor.error("occurs twice in the metadata"));
        }
        let kind = cursor.u32()?;
        if key == "general.alignment" {
            let claimed = if kind == UINT32 { cursor.peek_u32()? } else { 0 };
            alignment = claimed as usize;
            if alignment == 0 || !alignment.is_multiple_of(8) {
                return Err(cursor.error(format!("is `{claimed}` (value type {kind}), not a 32-bit multiple of 8")));
            }
        }
        cursor.skip_value(kind, &mut elements_left)?;
    }

    let mut found = Vec::new();
    seen.clear();
    for _ in 0..tensors {
        cursor.reading = "the list of tensors".into();
        let name = cursor.text()?.to_owned();
        cursor.reading = name.clone();
        if !seen.insert(name.clone()) {
            return Err(cursor.error("occurs twice in the list of tensors"));
        }
        found.push(cursor.tensor(name)?);
    }
    let data_start = cursor.at.next_multiple_of(alignment);
    place(path, bytes.len(), data_start, alignment, &mut found)?;
    Ok(found)
}

/// Turns offsets into ranges of the file and checks that they fit and do not overlap.
fn place(
    path: &Path,
    file_bytes: usize,
    data_start: usize,
    alignment: usize,
    tensors: &mut [TensorEntry],
) -> Result<(), InputError> {
    let error = |name: &str, cause: String| InputError::new(path, cause).at(Place::Named(name.to_owned()));
    for tensor in tensors.iter_mut() {
        let Range { start: offset, end } = tensor.range;
        if !offset.is_multiple_of(alignment) {
            return Err(error(
                &tensor.name,
                format!("begins at offset {offset}, not a multiple of the alignment, {alignment}"),
            ));
        }
        match (data_start.checked_add(offset), data_start.checked_add(end)) {
            (Some(start), Some(end)) if end <= file_bytes => tensor.range = start..end,
            _ => {
                let cause = format!(
                    "ends {end} bytes into the tensor data, but the file holds {}",
                    file_bytes.saturating_sub(data_start)
                );
                return Err(error(&tensor.name, cause).hint("the download may be incomplete; fetch the file again"));
            }
        }
    }
    let mut order: Vec<&TensorEntry> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.range.start);
    for pair in order.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            return Err(error(&pair[1].name, format!("overlaps `{}`", pair[0].name)));
        }
    }
    Ok(())
}

/// A position in the file, and what is being read there.
struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    reading: String,
}

impl<'a> Cursor<'a> {
    fn error(&self, cause: impl Into<String>) -> InputError {
        InputError::new(self.path, cause).at(Place::Named(self.reading.clone()))
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], InputError> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(self
                .error(format!("needs {length} bytes, but the file ends after {}", rest.len()))
                .hint("the download may be incomplete; fetch the file again")),
        }
    }

    fn u32(&mut self) -> Result<u32, InputError> {
        let bytes = self.bytes(4)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn u64(&mut self) -> Result<u64, InputError> {
        let bytes = self.bytes(8)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn peek_u32(&mut self) -> Result<u32, InputError> {
        let number = self.u32()?;
        self.at -= 4;
        Ok(number)
    }

    fn count(&mut self, of: &str) -> Result<u64, InputError> {
        let count = self.u64()?;
        match count <= MAX_ENTRIES {
            true => Ok(count),
            false => Err(self.error(format!("claims {count} {of}, more than the limit of {MAX_ENTRIES}"))),
        }
    }

    fn text(&mut self) -> Result<&'a str, InputError> {
        let length = self.u64()?;
        if length > MAX_TEXT_BYTES {
            return Err(self.error(format!("claims a text of {length} bytes, more than the limit of {MAX_TEXT_BYTES}")));
        }
        std::str::from_utf8(self.bytes(length)?).map_err(|error| self.error(format!("is not UTF-8: {error}")))
    }

    fn skip_value(&mut self, kind: u32, elements_left: &mut u64) -> Result<(), InputError> {
        if kind != ARRAY {
            return self.skip_scalars(kind, 1);
        }
        let kind = self.u32()?;
        let length = self.u64()?;
        *elements_left = elements_left.checked_sub(length).ok_or_else(|| {
            self.error(format!("claims {length} elements; all arrays together may have {MAX_ELEMENTS}"))
        })?;
        self.skip_scalars(kind, length)
    }

    /// Skips `count` values of a type that is not an array; the caller bounds `count`.
    fn skip_scalars(&mut self, kind: u32, count: u64) -> Result<(), InputError> {
        let width = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            STRING => {
                for _ in 0..count {
                    self.text()?;
                }
                return Ok(());
            }
            ARRAY => return Err(self.error("is an array of arrays, which no Llama file has")),
            unknown => return Err(self.error(format!("has the unknown value type {unknown}"))),
        };
        self.bytes(width * count).map(drop)
    }

    /// The rest of a tensor's entry. Its range is still relative to the tensor data.
    fn tensor(&mut self, name: String) -> Result<TensorEntry, InputError> {
        let axes = self.u32()?;
        if !(1..=4).contains(&axes) {
            return Err(self.error(format!("has {axes} axes, not 1 to 4")));
        }
        let mut shape = (0..axes).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let block = self.block_type()?;
        let offset = self.u64()?;

        let row = shape[0];
        if !row.is_multiple_of(block.values) {
            return Err(self.error(format!(
                "has rows of {row} values, not a multiple of {}, the block of {}",
                block.values, block.name
            )));
        }
        shape.reverse();
        let bytes = shape
            .iter()
            .try_fold(1_u64, |values, axis| values.checked_mul(*axis))
            .and_then(|values| (values / block.values).checked_mul(block.bytes));
        let range = bytes
            .and_then(|bytes| offset.checked_add(bytes))
            .and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?))
            .ok_or_else(|| self.error(format!("has shape `{shape:?}` at offset {offset}, larger than any file")))?;
        let shape = shape.into_iter().map(|axis| axis as usize).collect();
        Ok(TensorEntry { name, shape, block, range })
    }

    fn block_type(&mut self) -> Result<BlockType, InputError> {
        let number = self.u32()?;
        if let Some(block) = SUPPORTED.iter().find(|block| block.number == number) {
            return Ok(*block);
        }
        let cause = match UNSUPPORTED.iter().find(|(known, _)| *known == number) {
            Some((_, name)) => format!("has type {name}, which is not supported"),
            None => format!("has the unknown type {number}"),
        };
        let names: Vec<&str> = SUPPORTED.iter().map(|block| block.name).collect();
        Err(self
            .error(cause)
            .hint(format!("use a file of the types {}; `Q8_0` loses least for its size", names.join(", "))))
    }
}
