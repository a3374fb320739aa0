//! SHA-256 in hex: of bytes, of files, and of values as canonical JSON.

use std::io;
use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};
use undertone_files::{InputError, Sha256Writer};

/// The digest of bytes.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest of a value as JSON with sorted keys.
pub(crate) fn sha256_of_json(value: &impl Serialize) -> String {
    let mut value = serde_json::to_value(value).expect("plain data");
    value.sort_all_objects();
    sha256_hex(value.to_string().as_bytes())
}

/// The digest of several files, concatenated in the given order.
pub(crate) fn sha256_of_files(paths: &[PathBuf]) -> Result<String, InputError> {
    let mut hash = Sha256Writer::default();
    for path in paths {
        if !path.is_file() {
            return Err(InputError::new(path, "is not a regular file")
                .hint("the input is read more than once; save it to a regular file"));
        }
        let failed = |error: io::Error| InputError::io(path, "read", &error);
        let mut file = std::fs::File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut hash).map_err(failed)?;
    }
    Ok(hash.finish().1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_does_not_count_and_values_do() {
        let one = json!({ "b": [1, { "d": 1.5, "c": null }], "a": "x" });
        let same = json!({ "a": "x", "b": [1, { "c": null, "d": 1.5 }] });
        let other = json!({ "a": "x", "b": [{ "c": null, "d": 1.5 }, 1] });
        assert_eq!(sha256_of_json(&one), sha256_of_json(&same));
        assert_ne!(sha256_of_json(&one), sha256_of_json(&other));
        // Made with Python: sha256(b'{"a":"x","b":[1,{"c":null,"d":1.5}]}').hexdigest()
        assert_eq!(sha256_of_json(&one), PINNED);
    }

    const PINNED: &str = "ff5b3da00cbd04c46e7c0e6aab0406dfbe5b56e6ee35b92aaca436cffdd28da2";
}
