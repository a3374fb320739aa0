//! Result files that are reused if they were made from the same inputs.

use std::path::{Path, PathBuf};

use undertone_files::{InputError, Manifest};

/// A result file with the fingerprint of its inputs. The folder's manifest holds the fingerprint and a checksum.
#[derive(Debug, Clone)]
pub(crate) struct CachedFile {
    pub(crate) path: PathBuf,
    fingerprint: String,
}

impl CachedFile {
    pub(crate) fn new(path: PathBuf, fingerprint: String) -> Self {
        Self { path, fingerprint }
    }

    /// Whether the file exists and was made from the same inputs. An unreadable manifest says nothing about it.
    pub(crate) fn is_current(&self) -> bool {
        Manifest::read(&self.folder()).is_ok_and(|manifest| manifest.is_made_from(&self.name(), &self.fingerprint))
    }

    /// The path, if the file was made from the same inputs.
    ///
    /// # Errors
    /// The file or the manifest was changed after it was written, or cannot be read.
    pub(crate) fn reuse(&self) -> Result<Option<&Path>, InputError> {
        let manifest = Manifest::read(&self.folder())?;
        if !manifest.is_made_from(&self.name(), &self.fingerprint) {
            return Ok(None);
        }
        manifest.check(&self.name())?;
        tracing::debug!("reusing `{}`", self.path.display());
        Ok(Some(&self.path))
    }

    /// The folder of the file, from which a stopped program resumes.
    pub(crate) fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Writes the file, its fingerprint and its checksum.
    ///
    /// # Errors
    /// The folder cannot be written, or its manifest cannot be read.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), InputError> {
        Manifest::read(&self.folder())?.write(&self.name(), bytes, &self.fingerprint)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}
