//! Random streams that depend on what they are for, never on what was drawn before.

use sha2::{Digest, Sha256};

/// A 256-bit seed from named parts. Parts are length-prefixed, so no two lists collide.
pub fn derived_seed(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}
