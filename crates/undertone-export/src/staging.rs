//! A folder that appears whole or not at all.
//!
//! Files are written, and read back, inside a hidden sibling of the destination. The folder takes
//! the destination's name when everything has been verified; whatever happens before, an error or a
//! panic, removes it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;
use tempfile::TempDir;
use undertone_data::InputError;

/// A tensor to be written in F32; its values are asked for once, when their turn comes.
pub(crate) struct Weight<'a> {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Row-major.
    pub(crate) values: Box<dyn Fn() -> Vec<f32> + 'a>,
}

/// A folder being written.
pub(crate) struct Staging {
    /// Holds the folder, and is removed with all it holds.
    hidden: TempDir,
    folder: PathBuf,
    destination: PathBuf,
    files: Vec<String>,
}

impl Staging {
    /// Refuses a destination that exists, and makes the sibling.
    pub(crate) fn create(destination: &Path) -> Result<Self, InputError> {
        refuse_existing(destination)?;
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(InputError::new(destination, "is not the name of a new folder")
                .hint("name a folder that does not exist yet"));
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let uncreatable = |error: io::Error| InputError::io(destination, "create this folder", &error);
        fs::create_dir_all(parent).map_err(uncreatable)?;
        let hidden = tempfile::Builder::new()
            .prefix(&format!(".{}.exporting-", name.display()))
            .tempdir_in(parent)
            .map_err(uncreatable)?;
        // A temporary folder is for its owner alone; the folder inside gets the usual permissions.
        let folder = hidden.path().join(name);
        fs::create_dir(&folder).map_err(uncreatable)?;
        Ok(Self { hidden, folder, destination: destination.to_owned(), files: Vec::new() })
    }

    /// Where the files lie until they are published.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// An error about a file in the hidden folder, told of the destination, which is what the user
    /// knows.
    pub(crate) fn published(&self, mut error: InputError) -> InputError {
        if let Ok(inside) = error.path.strip_prefix(&self.folder) {
            error.path = self.destination.join(inside);
        }
        error
    }

    /// Writes a JSON file, indented.
    pub(crate) fn write_json(&mut self, name: &str, value: &Value) -> Result<(), InputError> {
        self.write(name, |file| {
            serde_json::to_writer_pretty(&mut *file, value)?;
            file.write_all(b"\n")
        })
    }

    /// Writes a text file.
    pub(crate) fn write_text(&mut self, name: &str, text: &str) -> Result<(), InputError> {
        self.write(name, |file| file.write_all(text.as_bytes()))
    }

    /// Writes a safetensors file in the order given, one tensor in memory at a time.
    ///
    /// The library's own `serialize_to_file` would leave a file that only its owner can read.
    pub(crate) fn write_weights(&mut self, name: &str, weights: &[Weight<'_>]) -> Result<(), InputError> {
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
                let values = (weight.values)();
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
    pub(crate) fn copy(&mut self, from: &Path, name: &str) -> Result<(), InputError> {
        let source = from.join(name);
        let unreadable = |error: io::Error| InputError::io(&source, "read", &error);
        if !fs::metadata(&source).map_err(unreadable)?.is_file() {
            return Err(InputError::new(source, "is not a regular file"));
        }
        let mut source = BufReader::new(File::open(&source).map_err(unreadable)?);
        self.write(name, |file| io::copy(&mut source, file).map(drop))
    }

    /// Copies a file that not every folder has.
    pub(crate) fn copy_if_present(&mut self, from: &Path, name: &str) -> Result<(), InputError> {
        if from.join(name).exists() { self.copy(from, name) } else { Ok(()) }
    }

    /// Gives the folder its name; returns the names of its files.
    pub(crate) fn publish(self) -> Result<Vec<String>, InputError> {
        refuse_existing(&self.destination)?;
        fs::rename(&self.folder, &self.destination)
            .map_err(|error| InputError::io(&self.destination, "move the finished folder here", &error))?;
        // What is left is an empty hidden folder: not worth an error if it resists.
        let _ = self.hidden.close();
        Ok(self.files)
    }

    fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), InputError> {
        let written = (|| {
            let mut file = BufWriter::new(File::create_new(self.folder.join(name))?);
            fill(&mut file)?;
            file.flush()?;
            file.get_ref().sync_all()
        })();
        self.files.push(name.to_owned());
        written.map_err(|error| InputError::io(self.destination.join(name), "write", &error))
    }
}

/// Exports do not overwrite: what exists may be the only copy of something.
pub(crate) fn refuse_existing(destination: &Path) -> Result<(), InputError> {
    match fs::symlink_metadata(destination) {
        Ok(_) => Err(InputError::new(destination, "already exists; an export does not overwrite")
            .hint("choose another destination, or delete this one first")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(InputError::io(destination, "look at the destination", &error)),
    }
}
