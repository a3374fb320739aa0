//! The list of a folder's files with their checksums, and with what they were made from.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{InputError, Sealed, digest, read_regular, write_whole};

/// The name of the list in its folder.
pub const MANIFEST: &str = "manifest.json";

/// The listed files of a folder. One process at a time may write them.
#[derive(Debug, Clone)]
pub struct Manifest {
    folder: PathBuf,
    files: BTreeMap<String, Entry>,
}

/// A listed file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    blake3: String,
    /// The fingerprint of its inputs: the file is reused while they stay the same.
    made_from: String,
}

impl Manifest {
    /// Reads the list of a folder; it is empty if the folder has none.
    ///
    /// # Errors
    /// The list cannot be read, or was changed after it was written.
    pub fn read(folder: &Path) -> Result<Self, InputError> {
        let path = folder.join(MANIFEST);
        let files: BTreeMap<String, Entry> = if path.exists() { Sealed::read(&path)? } else { BTreeMap::new() };
        // Listed files may be removed, so a list from a stranger must not name those of other folders.
        let is_inside = |name: &str| {
            !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
        };
        if let Some(name) = files.keys().find(|name| !is_inside(name)) {
            return Err(InputError::new(path, format!("lists `{name}`, which is not in its folder")));
        }
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// Whether a file exists that was made from these inputs.
    pub fn is_made_from(&self, name: &str, fingerprint: &str) -> bool {
        let entry = self.files.get(name);
        entry.is_some_and(|entry| entry.made_from == fingerprint) && self.folder.join(name).exists()
    }

    /// Writes a file and its entry. `made_from` is the fingerprint of its inputs.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8], made_from: &str) -> Result<(), InputError> {
        // A program that is killed here leaves a file without an entry, never a file with a wrong one or without a list.
        if self.files.remove(name).is_some() || !self.folder.join(MANIFEST).exists() {
            self.save()?;
        }
        self.write_unlisted(name, bytes, made_from)?;
        self.save()
    }

    /// Writes files that belong together, and removes the other listed files, except those to `keep`. `made_from` is the
    /// fingerprint of their inputs.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write_all(
        &mut self,
        files: &BTreeMap<String, Vec<u8>>,
        made_from: &str,
        keep: impl Fn(&str) -> bool,
    ) -> Result<(), InputError> {
        let (kept, before): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.files).into_iter().partition(|(name, _)| !files.contains_key(name) && keep(name));
        self.files = kept;
        self.save()?;
        for name in before.keys().filter(|name| !files.contains_key(*name)) {
            let path = self.folder.join(name);
            if path.exists() {
                std::fs::remove_file(&path).map_err(|error| InputError::io(&path, "remove", &error))?;
            }
        }
        for (name, bytes) in files {
            self.write_unlisted(name, bytes, made_from)?;
        }
        self.save()
    }

    fn write_unlisted(&mut self, name: &str, bytes: &[u8], made_from: &str) -> Result<(), InputError> {
        write_whole(&self.folder.join(name), bytes)?;
        self.files.insert(name.to_owned(), Entry { blake3: digest(bytes), made_from: made_from.to_owned() });
        Ok(())
    }

    /// The paths of the listed files.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.keys().map(|name| self.folder.join(name))
    }

    /// Checks every listed file, and returns what is wrong with them.
    pub fn check_all(&self) -> Vec<InputError> {
        self.files.keys().filter_map(|name| self.check(name).err()).collect()
    }

    /// The bytes of a listed file.
    ///
    /// # Errors
    /// The file is not listed, cannot be read, or was changed after it was written.
    pub fn read_file(&self, name: &str) -> Result<Vec<u8>, InputError> {
        let path = self.folder.join(name);
        let bytes = read_regular(&path)?;
        match self.files.get(name) {
            Some(entry) if entry.blake3 == digest(&bytes) => Ok(bytes),
            Some(_) => Err(InputError::changed(&path)),
            None => Err(InputError::new(&path, format!("is not listed in `{MANIFEST}`"))),
        }
    }

    /// Checks that a listed file has the bytes that were written.
    ///
    /// # Errors
    /// As [`Self::read_file`].
    pub fn check(&self, name: &str) -> Result<(), InputError> {
        self.read_file(name).map(drop)
    }

    fn save(&self) -> Result<(), InputError> {
        Sealed::write(&self.folder.join(MANIFEST), self.files.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_made_from_other_inputs_is_not_reused() {
        let folder = tempfile::tempdir().unwrap();
        let current =
            |name: &str, fingerprint: &str| Manifest::read(folder.path()).unwrap().is_made_from(name, fingerprint);
        let write = |name: &str, bytes: &[u8], fingerprint: &str| {
            Manifest::read(folder.path()).unwrap().write(name, bytes, fingerprint).unwrap();
        };
        assert!(!current("records.jsonl", "one"));
        write("records.jsonl", b"1", "one");
        write("written.jsonl", b"3", "third");
        assert!(current("records.jsonl", "one") && !current("records.jsonl", "other"));
        write("records.jsonl", b"2", "other");
        assert!(!current("records.jsonl", "one") && current("records.jsonl", "other"));
        assert!(current("written.jsonl", "third"));
        std::fs::remove_file(folder.path().join("records.jsonl")).unwrap();
        assert!(!current("records.jsonl", "other"));
    }

    #[test]
    fn a_list_that_names_files_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["/etc/passwd", "../other", "plots/../../other", ""] {
            let entry = Entry { blake3: digest(b""), made_from: String::new() };
            Sealed::write(&folder.path().join(MANIFEST), BTreeMap::from([(name.to_owned(), entry)])).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err();
            assert_eq!(error.cause, format!("lists `{name}`, which is not in its folder"));
        }
    }

    #[test]
    fn a_changed_file_and_a_changed_list_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(folder.path()).unwrap();
        manifest.write("records.jsonl", b"{}", "one").unwrap();
        assert_eq!(manifest.read_file("records.jsonl").unwrap(), b"{}");
        let path = folder.path().join("records.jsonl");
        std::fs::write(&path, "[]").unwrap();
        assert_eq!(manifest.read_file("records.jsonl").unwrap_err().path, path);
        let list = folder.path().join(MANIFEST);
        std::fs::write(&list, std::fs::read_to_string(&list).unwrap().replace("one", "two")).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap_err().path, list);
    }

    #[test]
    fn files_that_are_not_written_again_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = |names: &[&str]| names.iter().map(|name| (name.to_string(), name.as_bytes().to_vec())).collect();
        let mut manifest = Manifest::read(folder.path()).unwrap();
        manifest.write_all(&files(&["report", "plots/a", "plots/b", "records/past"]), "one", |_| false).unwrap();
        std::fs::write(folder.path().join("plots/mine"), "").unwrap();
        manifest.write_all(&files(&["report", "plots/a"]), "two", |name| name == "records/past").unwrap();
        let exists = |name: &str| folder.path().join(name).exists();
        assert!(exists("report") && exists("plots/a") && exists("records/past") && !exists("plots/b"));
        assert!(exists("plots/mine"), "a file that this program did not write");
        let read = Manifest::read(folder.path()).unwrap();
        assert!(read.is_made_from("report", "two") && read.is_made_from("records/past", "one"));
        assert!(!read.is_made_from("plots/b", "one"));
        assert_eq!(read.check_all(), []);
        std::fs::write(folder.path().join("report"), "other").unwrap();
        std::fs::remove_file(folder.path().join("plots/a")).unwrap();
        let paths: Vec<PathBuf> = read.check_all().into_iter().map(|error| error.path).collect();
        assert_eq!(paths, ["plots/a", "report"].map(|name| folder.path().join(name)));
    }
}
