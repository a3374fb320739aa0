//! A folder that appears whole or not at all: how imports and exports write.
//!
//! Files are written, and read back, inside a hidden sibling of the destination. The folder takes
//! the destination's name when everything has been verified; an error or a panic before that removes it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::disk::{Disk, RealDisk};
use crate::temporary::{TemporaryFolder, remove_leftovers};
use crate::write::folder_of;
use crate::{InputError, refuse_existing};

/// A folder being written.
#[derive(Debug)]
pub struct StagedFolder {
    /// The hidden sibling, which holds `folder`; dropping it removes it with its contents.
    _hidden: TemporaryFolder,
    folder: PathBuf,
    destination: PathBuf,
    files: Vec<String>,
}

impl StagedFolder {
    /// Refuses a destination that exists, and creates the hidden sibling.
    ///
    /// # Errors
    /// The destination exists or is not the name of a folder, or its parent cannot be written.
    pub fn create(destination: &Path) -> Result<Self, InputError> {
        refuse_existing(destination)?;
        let Some(name) = destination.file_name() else {
            return Err(InputError::new(destination, "is not the name of a new folder")
                .hint("name a folder that does not exist yet"));
        };
        let parent = folder_of(destination);
        let uncreatable = |error: io::Error| InputError::io(destination, "create this folder", &error);
        fs::create_dir_all(parent).map_err(uncreatable)?;
        remove_leftovers(parent);
        let hidden = TemporaryFolder::create(parent).map_err(uncreatable)?;
        // A temporary folder is for its owner alone; the folder inside gets the usual permissions.
        let folder = hidden.path().join(name);
        fs::create_dir(&folder).map_err(uncreatable)?;
        Ok(Self { _hidden: hidden, folder, destination: destination.to_owned(), files: Vec::new() })
    }

    /// Where the files are until they are published.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes an error about a file in the hidden folder name the destination, which the user knows.
    pub fn published(&self, mut error: InputError) -> InputError {
        if let Ok(inside) = error.path.strip_prefix(&self.folder) {
            error.path = self.destination.join(inside);
        }
        error
    }

    /// Writes a JSON file, indented.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&mut self, name: &str, value: &Value) -> Result<(), InputError> {
        self.write(name, |file| {
            serde_json::to_writer_pretty(&mut *file, value).map_err(io::Error::from)?;
            Ok(file.write_all(b"\n")?)
        })
    }

    /// Writes a text file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_text(&mut self, name: &str, text: &str) -> Result<(), InputError> {
        self.write(name, |file| Ok(file.write_all(text.as_bytes())?))
    }

    /// Copies a file byte for byte.
    ///
    /// # Errors
    /// The source cannot be read, or the file cannot be written.
    pub fn copy(&mut self, from: &Path, name: &str) -> Result<(), InputError> {
        let source = from.join(name);
        let unreadable = |error: io::Error| InputError::io(&source, "read", &error);
        if !fs::metadata(&source).map_err(unreadable)?.is_file() {
            return Err(InputError::new(source, "is not a regular file"));
        }
        let mut source = BufReader::new(File::open(&source).map_err(unreadable)?);
        self.write(name, |file| Ok(io::copy(&mut source, file).map(drop)?))
    }

    /// Copies a file if the folder `from` has it.
    ///
    /// # Errors
    /// As for [`Self::copy`].
    pub fn copy_if_present(&mut self, from: &Path, name: &str) -> Result<(), InputError> {
        if from.join(name).exists() { self.copy(from, name) } else { Ok(()) }
    }

    /// Moves the folder to the destination; returns the names of its files.
    ///
    /// # Errors
    /// The destination exists by now, or the folder cannot be moved.
    pub fn publish(self) -> Result<Vec<String>, InputError> {
        refuse_existing(&self.destination)?;
        let disk = RealDisk;
        disk.sync_folder(&self.folder)
            .and_then(|()| disk.rename(&self.folder, &self.destination))
            .and_then(|()| disk.sync_folder(folder_of(&self.destination)))
            .map_err(|error| InputError::io(&self.destination, "move the finished folder here", &error))?;
        Ok(self.files)
    }

    /// Writes a file with `fill`.
    ///
    /// # Errors
    /// The error of `fill`, or the file cannot be written.
    pub fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), WriteError>,
    ) -> Result<(), InputError> {
        let written = (|| {
            let mut file = BufWriter::new(File::create_new(self.folder.join(name))?);
            fill(&mut file)?;
            file.flush()?;
            Ok(file.get_ref().sync_all()?)
        })();
        self.files.push(name.to_owned());
        written.map_err(|error| match error {
            WriteError::Input(error) => error,
            WriteError::Io(error) => InputError::io(self.destination.join(name), "write", &error),
        })
    }
}

/// Why a file could not be written: its content could not be read, or the disk failed.
#[derive(Debug)]
pub enum WriteError {
    /// The content could not be read.
    Input(InputError),
    /// The disk failed.
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
