//! Seeds that depend on a purpose and its parts, never on earlier draws.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Purposes whose parts are joined by NUL bytes. Published results depend on their draws, so this encoding stays.
const JOINED_BY_NUL: [&str; 5] = ["shuffle", "trajectory", "distractors", "synthetic", "thought dropout"];

/// A 256-bit seed: SHA-256 of the purpose and its parts.
///
/// Each part is preceded by its length, so that no two lists of parts have the same encoding; a few
/// purposes join their parts by NUL bytes instead.
pub fn derived_seed(purpose: &str, parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let all = || [purpose].into_iter().chain(parts.iter().copied());
    if JOINED_BY_NUL.contains(&purpose) {
        hash.update(all().collect::<Vec<_>>().join("\0"));
    } else {
        for part in all() {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

/// The first eight bytes of [`derived_seed`] as a number.
pub fn derived_number(purpose: &str, parts: &[&str]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = derived_seed(purpose, parts);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A random number generator for one purpose.
pub fn generator(purpose: &str, parts: &[&str]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(derived_seed(purpose, parts))
}

/// The first `count` items in the order of a hash of seed and item; all items if there are fewer.
pub fn sample_by_hash(items: &BTreeSet<String>, count: usize, seed: u64) -> BTreeSet<String> {
    let hashed = |item: &String| (derived_seed("sample", &[&seed.to_string(), item]), item.clone());
    let mut hashed: Vec<([u8; 32], String)> = items.iter().map(hashed).collect();
    hashed.sort();
    hashed.into_iter().take(count).map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python:
    ///
    /// ```python
    /// from hashlib import sha256
    /// parts = [b"order", b"7", b"0"]
    /// print(sha256(b"".join(len(p).to_bytes(8, "little") + p for p in parts)).hexdigest()[:16])
    /// print(sha256(b"\0".join([b"shuffle", b"7", b"c", b"1", b"0"])).hexdigest()[:16])
    /// ```
    #[test]
    fn both_encodings_are_pinned() {
        let start = |seed: [u8; 32]| hex::encode(&seed[..8]);
        assert_eq!(start(derived_seed("order", &["7", "0"])), ORDER);
        assert_eq!(start(derived_seed("shuffle", &["7", "c", "1", "0"])), SHUFFLE);
        assert_eq!(derived_number("order", &["7", "0"]).to_le_bytes(), derived_seed("order", &["7", "0"])[..8]);
    }

    const ORDER: &str = "b7a56fd62e1b94d5";
    const SHUFFLE: &str = "a40aded799f92d5d";

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(derived_seed("order", &["12", "3"]), derived_seed("order", &["1", "23"]));
    }

    #[test]
    fn a_sample_depends_on_the_items_and_the_seed_alone_and_grows_with_its_size() {
        let items: BTreeSet<String> = (0..50).map(|index| format!("item{index}")).collect();
        let sample = |count, seed| sample_by_hash(&items, count, seed);
        assert_eq!(sample(10, 1), sample(10, 1));
        assert_ne!(sample(10, 1), sample(10, 2));
        assert!(sample(10, 1).is_subset(&sample(20, 1)));
        assert_eq!(sample(80, 1), items);
        assert!(sample(0, 1).is_empty());
    }
}
