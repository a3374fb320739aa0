//! SHA-256 of what is written to it, as other programs give it. Our own files hold BLAKE3 checksums; see [`crate::digest`].

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// Takes bytes, from [`io::copy`] for example, and counts and hashes them.
#[derive(Debug, Clone, Default)]
pub struct Sha256Writer {
    hash: Sha256,
    bytes: u64,
}

impl Sha256Writer {
    /// How many bytes there were, and their SHA-256 in hexadecimal digits.
    pub fn finish(self) -> (u64, String) {
        (self.bytes, hex::encode(self.hash.finalize()))
    }
}

impl Write for Sha256Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
