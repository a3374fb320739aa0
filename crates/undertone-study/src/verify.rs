//! Checks every file of a study that holds a checksum.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use undertone_files::{InputError, MANIFEST, Manifest, Sealed, read_sealed_text};
use undertone_train::Checkpoint;

use crate::amendments::{AMENDED, CLAIMED};
use crate::begun::FIXED;
use crate::jobs::attribute::ATTRIBUTED;
use crate::judge::{ANSWERS, read_answers};
use crate::names::{RECORDS, RESULTS, WRITTEN};
use crate::registration::REGISTERED;

/// Files beside which there is always a manifest. One that is not listed in it was being written when a program was killed.
const LISTED: [&str; 7] = [RESULTS, RECORDS, WRITTEN, ATTRIBUTED, "report.md", "report.html", "records.parquet"];

/// What is in a folder, file by file.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Checkpoints that were checked, damaged ones included.
    pub checkpoints: usize,
    /// Other files that were checked, damaged ones included.
    pub files: usize,
    /// Files without a checksum, such as logs.
    pub unchecked: Vec<PathBuf>,
    /// What is wrong.
    #[serde(skip)]
    pub faults: Vec<InputError>,
}

/// Checks the files in a folder and in all folders below. Changes nothing.
///
/// # Errors
/// A folder cannot be read, or no file in it has a checksum. A damaged file is no error, but is among the faults.
pub fn verify(folder: &Path) -> Result<Verified, InputError> {
    let mut verified = Verified::default();
    verified.add_folder(folder)?;
    if verified.checkpoints + verified.files == 0 {
        return Err(InputError::new(folder, "holds no file with a checksum")
            .hint("name the folder of a study, such as `checkpoints/demo`, or of one training in it"));
    }
    Ok(verified)
}

impl Verified {
    fn add_folder(&mut self, folder: &Path) -> Result<(), InputError> {
        let failed = |error: std::io::Error| InputError::io(folder, "read", &error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        let listed = self.add_listed(folder);
        for path in paths {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') {
                // A lock, or a file that is not complete.
            } else if path.is_symlink() {
                self.unchecked.push(path);
            } else if path.is_dir() {
                self.add_folder(&path)?;
            } else if name != MANIFEST && !listed.contains(&path) {
                self.add_file(&path, name);
            }
        }
        Ok(())
    }

    /// Checks the files that the manifest of a folder lists, and returns their paths.
    fn add_listed(&mut self, folder: &Path) -> Vec<PathBuf> {
        if !folder.join(MANIFEST).exists() {
            if LISTED.iter().any(|name| folder.join(name).exists()) {
                self.files += 1;
                let lost = InputError::new(
                    folder.join(MANIFEST),
                    "is missing, so that the results beside it have no checksum",
                );
                self.faults.push(lost.hint("restore it from a copy, or run the same command again"));
            }
            return Vec::new();
        }
        self.files += 1;
        match Manifest::read(folder) {
            Err(error) => {
                self.faults.push(error);
                Vec::new()
            }
            Ok(manifest) => {
                let paths: Vec<PathBuf> = manifest.paths().collect();
                self.files += paths.len();
                self.faults.extend(manifest.check_all());
                paths
            }
        }
    }

    fn add_file(&mut self, path: &Path, name: &str) {
        let checked = match name {
            CLAIMED => read_sealed_text(path).map(drop),
            FIXED | REGISTERED | AMENDED => Sealed::<Value>::read(path).map(drop),
            ANSWERS => read_answers(path).map(drop),
            // Models and adapters have no checksum of ours, whatever their files are called.
            name if name.ends_with(".safetensors")
                && !["config.json", "adapter_config.json"].iter().any(|one| path.with_file_name(one).exists()) =>
            {
                self.checkpoints += 1;
                self.faults.extend(Checkpoint::read(path).err());
                return;
            }
            _ => return self.unchecked.push(path.to_owned()),
        };
        self.files += 1;
        self.faults.extend(checked.err());
    }
}
