//! Documents that hold a checksum of their own content.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{InputError, Place, read_regular, write_whole};

/// The checksum of some bytes: BLAKE3, as 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    digest_parts([bytes])
}

/// The checksum of some parts as of their bytes in a row.
pub fn digest_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// A JSON file `{"checksum": …, "content": …}`. The checksum is [`digest`] of the content, written without spaces.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed<T> {
    checksum: String,
    content: T,
}

impl<T: Serialize + DeserializeOwned> Sealed<T> {
    /// Writes `content` with its checksum.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(path: &Path, content: T) -> Result<(), InputError> {
        let compact = serde_json::to_vec(&content).expect("content is plain data");
        let sealed = Self { checksum: digest(&compact), content };
        write_whole(path, &serde_json::to_vec_pretty(&sealed).expect("content is plain data"))
    }

    /// Reads the content.
    ///
    /// # Errors
    /// The file cannot be read, was changed after it was written, or holds something else.
    pub fn read(path: &Path) -> Result<T, InputError> {
        let bytes = read_regular(path)?;
        let damaged = |error: &serde_json::Error| {
            InputError::new(path, format!("is not what this program wrote: {error}")).at(Place::Line(error.line()))
        };
        let sealed: Sealed<Value> = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
        let compact = serde_json::to_vec(&sealed.content).expect("content is plain data");
        if digest(&compact) != sealed.checksum {
            return Err(InputError::changed(path));
        }
        serde_json::from_value(sealed.content).map_err(|error| damaged(&error))
    }
}

/// The start of the first line of a sealed text; the checksum of the other lines follows.
const FIRST_LINE: &str = "# checksum: ";

/// Writes a text under a first line with its checksum, which is a comment in TOML.
///
/// # Errors
/// The file cannot be written.
pub fn write_sealed_text(path: &Path, text: &str) -> Result<(), InputError> {
    write_whole(path, format!("{FIRST_LINE}{}\n{text}", digest(text.as_bytes())).as_bytes())
}

/// Reads a text that [`write_sealed_text`] wrote.
///
/// # Errors
/// The file cannot be read, or was changed after it was written.
pub fn read_sealed_text(path: &Path) -> Result<String, InputError> {
    let changed = || InputError::changed(path);
    let bytes = String::from_utf8(read_regular(path)?).map_err(|_| changed())?;
    let (first, text) = bytes.split_once('\n').ok_or_else(changed)?;
    let checksum = first.strip_prefix(FIRST_LINE).ok_or_else(changed)?;
    if digest(text.as_bytes()) == checksum { Ok(text.to_owned()) } else { Err(changed()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let content: BTreeMap<String, (f64, f32, u64)> =
            [("one".to_owned(), (0.1 + 0.2, 0.1, u64::MAX)), ("two\n".to_owned(), (1e300, 1e-7, 0))].into();
        Sealed::write(&path, content.clone()).unwrap();
        assert_eq!(Sealed::<BTreeMap<String, (f64, f32, u64)>>::read(&path).unwrap(), content);
        let good = std::fs::read(&path).unwrap();
        let (mut tried, mut refused) = (0, 0);
        for (place, bit) in (0..good.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut flipped = good.clone();
            flipped[place] ^= 1 << bit;
            std::fs::write(&path, &flipped).unwrap();
            tried += 1;
            match Sealed::<BTreeMap<String, (f64, f32, u64)>>::read(&path) {
                Err(_) => refused += 1,
                // A few flips change nothing that is said: `e` to `E`, or the last digit of more than a number needs.
                Ok(read) => assert_eq!(read, content, "bit {bit} of byte {place}"),
            }
        }
        assert!(refused * 100 > tried * 99, "{refused} of {tried}");
    }
    #[test]
    fn a_changed_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        write_sealed_text(&path, "# program\n\nname = \"a\"\n").unwrap();
        assert_eq!(read_sealed_text(&path).unwrap(), "# program\n\nname = \"a\"\n");
        let good = std::fs::read(&path).unwrap();
        for place in 0..good.len() {
            let mut flipped = good.clone();
            flipped[place] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(read_sealed_text(&path).unwrap_err(), InputError::changed(&path), "byte {place}");
        }
    }
}
