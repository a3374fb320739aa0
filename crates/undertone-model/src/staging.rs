//! A folder that appears whole or not at all: how imports and exports write.
//!
//! Files are written, and read back, inside a hidden sibling of the destination. The folder takes
//! the destination's name when everything has been verified; an error or a panic before that removes it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;
use tempfile::TempDir;
use undertone_data::{InputError, refuse_existing};

/// A tensor to be written in F32; its values are requested once, when it is written.
pub struct Weight<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Box<dyn Fn() -> Result<Vec<f32>, InputError> + 'a>,
}

/// A folder being written.
#[derive(Debug)]
pub struct StagedFolder {
    /// The hidden sibling, which holds `folder` and is removed with its contents.
    hidden: TempDir,
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
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(InputError::new(destination, "is not the name of a new folder")
                .hint("name a folder that does not exist yet"));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let uncreatable = |error: io::Error| InputError::io(destination, "create this folder", &error);
        fs::create_dir_all(parent).map_err(uncreatable)?;
        let hidden = tempfile::Builder::new()
            .prefix(&format!(".{}.writing-", name.display()))
            .tempdir_in(parent)
            .map_err(uncreatable)?;
        // A temporary folder is for its owner alone; the folder inside gets the usual permissions.
        let folder = hidden.path().join(name);
        fs::create_dir(&folder).map_err(uncreatable)?;
        Ok(Self { hidden, folder, destination: destination.to_owned(), files: Vec::new() })
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

    /// Writes a safetensors file in the order given, one tensor in memory at a time.
    ///
    /// The library's own `serialize_to_file` would leave a file that only its owner can read.
    ///
    /// # Errors
    /// Some values cannot be read, or the file cannot be written.
    pub fn write_weights(&mut self, name: &str, weights: &[Weight<'_>]) -> Result<(), InputError> {
        let mut end = 0;
        let infos = weights.iter().map(|weight| {
            let start = end;
            end += 4 * weight.shape.iter().product::<usize>();
            let shape = weight.shape.clone();
            (weight.name.clone(), TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) })
        });
        // transformers refuses files that do not say which framework wrote them.
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let metadata = Metadata::new(Some(format), infos.collect()).expect("offsets follow one another");
        let mut header = serde_json::to_string(&metadata).expect("names and numbers are JSON");
        // Tensors begin at a multiple of 8 bytes; the format pads with spaces.
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        self.write(name, |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            for weight in weights {
                let values = (weight.values)().map_err(WriteError::Input)?;
                let expected: usize = weight.shape.iter().product();
                assert_eq!(values.len(), expected, "`{}` has shape {:?}", weight.name, weight.shape);
                for value in values {
                    file.write_all(&value.to_le_bytes())?;
                }
            }
            Ok(())
        })
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
        fs::rename(&self.folder, &self.destination)
            .map_err(|error| InputError::io(&self.destination, "move the finished folder here", &error))?;
        // Only an empty hidden folder is left; if it cannot be removed, that is not worth an error.
        let _ = self.hidden.close();
        Ok(self.files)
    }

    fn write(
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
enum WriteError {
    Input(InputError),
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
