//! SHA-256 in hex, of bytes and of files.

use std::io::{self, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use undertone_data::InputError;

/// The digest of bytes.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest of several files, concatenated in the given order.
pub(crate) fn sha256_of_files(paths: &[PathBuf]) -> Result<String, InputError> {
    let mut hash = HashWriter(Sha256::new());
    for path in paths {
        if !path.is_file() {
            return Err(InputError::new(path, "is not a regular file")
                .hint("the input is read more than once; save it to a regular file"));
        }
        let failed = |error: io::Error| InputError::io(path, "read", &error);
        let mut file = std::fs::File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut hash).map_err(failed)?;
    }
    Ok(hex::encode(hash.0.finalize()))
}

/// Lets [`io::copy`] feed a hash.
struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
