//! Result files that are reused if they were made from the same inputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use undertone_data::{InputError, write_whole};

/// The file with the fingerprints of a folder's files.
const KEYS: &str = "keys.json";

/// A result file with the fingerprint of its inputs. The folder's `keys.json` holds the fingerprint.
#[derive(Debug, Clone)]
pub(crate) struct CachedFile {
    pub(crate) path: PathBuf,
    fingerprint: String,
}

impl CachedFile {
    pub(crate) fn new(path: PathBuf, fingerprint: String) -> Self {
        Self { path, fingerprint }
    }

    /// Whether the file exists and was made from the same inputs.
    pub(crate) fn is_current(&self) -> bool {
        self.path.exists() && self.keys().get(&self.name()) == Some(&self.fingerprint)
    }

    /// The path, if the file can be reused: [`Self::is_current`].
    pub(crate) fn reuse(&self) -> Option<&Path> {
        self.is_current().then(|| {
            tracing::debug!("reusing `{}`", self.path.display());
            self.path.as_path()
        })
    }

    /// The folder of the file, from which a stopped program resumes.
    pub(crate) fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Writes the file and its fingerprint.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), InputError> {
        let (path, mut keys) = (self.path.with_file_name(KEYS), self.keys());
        let save = |keys: &BTreeMap<String, String>| {
            write_whole(&path, &serde_json::to_vec_pretty(keys).expect("keys are plain data"))
        };
        // A program that is killed here leaves a file without a fingerprint, never a file with a wrong one.
        if keys.remove(&self.name()).is_some() {
            save(&keys)?;
        }
        write_whole(&self.path, bytes)?;
        keys.insert(self.name(), self.fingerprint.clone());
        save(&keys)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The fingerprints of the folder; empty if they cannot be read.
    fn keys(&self) -> BTreeMap<String, String> {
        let bytes = std::fs::read(self.path.with_file_name(KEYS)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_made_from_other_inputs_is_not_current() {
        let folder = tempfile::tempdir().unwrap();
        let cached = |name: &str, key: &str| CachedFile::new(folder.path().join(name), key.to_owned());
        let (one, other) = (cached("records.jsonl", "one"), cached("records.jsonl", "other"));
        assert!(!one.is_current());
        one.write(b"1").unwrap();
        cached("written.jsonl", "third").write(b"3").unwrap();
        assert!(one.is_current() && !other.is_current() && cached("written.jsonl", "third").is_current());
        other.write(b"2").unwrap();
        assert!(!one.is_current() && other.is_current() && cached("written.jsonl", "third").is_current());
        // A file without its fingerprint is not current, and neither is a missing file.
        std::fs::write(folder.path().join(KEYS), "nonsense").unwrap();
        assert!(!other.is_current());
        other.write(b"2").unwrap();
        std::fs::remove_file(&other.path).unwrap();
        assert!(!other.is_current());
    }
}
