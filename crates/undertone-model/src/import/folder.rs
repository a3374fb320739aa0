//! A folder that appears whole or not at all.
//!
//! Files are written into a hidden sibling of the destination, which takes the destination's name
//! when everything is on disk and is removed if anything fails before.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;
use undertone_data::{InputError, Place};

/// A folder being written.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    destination: PathBuf,
}

impl Staging {
    /// Refuses a destination that exists, and makes the sibling.
    pub(super) fn create(destination: &Path) -> Result<Self, InputError> {
        refuse_existing(destination)?;
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(InputError::new(destination, "is not the name of a new folder"));
        };
        fs::create_dir_all(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            .map_err(|error| InputError::io(parent, "create this folder", &error))?;
        let hidden = format!(".{}.importing-{}", name.display(), std::process::id());
        let folder = parent.join(hidden);
        fs::create_dir(&folder).map_err(|error| InputError::io(destination, "create this folder", &error))?;
        Ok(Self { folder, destination: destination.to_owned() })
    }

    /// Writes a JSON file, indented.
    pub(super) fn write_json(&self, name: &str, value: &Value) -> Result<(), InputError> {
        self.write(name, |file| {
            serde_json::to_writer_pretty(&mut *file, value)?;
            file.write_all(b"\n").map_err(InputOrIo::Io)
        })
    }

    /// Writes `model.safetensors` in F32, one tensor at a time: `read` gives the values of the
    /// tensor of an index.
    pub(super) fn write_weights(
        &self,
        tensors: &[(&str, &[usize])],
        mut read: impl FnMut(usize) -> Result<Vec<f32>, InputError>,
    ) -> Result<(), InputError> {
        let mut end = 0;
        let infos = tensors.iter().map(|&(name, shape)| {
            let start = end;
            end += 4 * shape.iter().product::<usize>();
            (name.to_owned(), TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets: (start, end) })
        });
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let metadata = Metadata::new(Some(format), infos.collect()).expect("offsets follow one another");
        let mut header = serde_json::to_string(&metadata).expect("names and numbers are JSON");
        // Tensors begin at a multiple of 8 bytes; the format pads with spaces.
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        self.write("model.safetensors", |file| {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            for (index, (name, shape)) in tensors.iter().enumerate() {
                let values = read(index).map_err(InputOrIo::Input)?;
                assert_eq!(values.len(), shape.iter().product::<usize>(), "{name} has shape {shape:?}");
                for value in values {
                    file.write_all(&value.to_le_bytes())?;
                }
            }
            Ok(())
        })
    }

    /// Gives the folder its name.
    pub(super) fn publish(self) -> Result<(), InputError> {
        refuse_existing(&self.destination)?;
        fs::rename(&self.folder, &self.destination)
            .map_err(|error| InputError::io(&self.destination, "move the finished folder here", &error))
    }

    fn write(
        &self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), InputOrIo>,
    ) -> Result<(), InputError> {
        let path = self.folder.join(name);
        let written = (|| {
            let mut file = BufWriter::new(File::create_new(&path)?);
            fill(&mut file)?;
            file.flush()?;
            Ok(file.get_ref().sync_all()?)
        })();
        written.map_err(|error| match error {
            InputOrIo::Input(error) => error,
            InputOrIo::Io(error) => {
                InputError::io(&self.destination, "write", &error).at(Place::Named(name.to_owned()))
            }
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After `publish` there is nothing under this name. Otherwise an error is already on its
        // way, and a folder that cannot be removed is no reason to hide it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What can go wrong while a file is filled.
enum InputOrIo {
    Input(InputError),
    Io(std::io::Error),
}

impl From<std::io::Error> for InputOrIo {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<serde_json::Error> for InputOrIo {
    fn from(error: serde_json::Error) -> Self {
        Self::Io(error.into())
    }
}

fn refuse_existing(destination: &Path) -> Result<(), InputError> {
    match fs::symlink_metadata(destination) {
        Ok(_) => Err(InputError::new(destination, "already exists; an import does not overwrite")
            .hint("choose another destination, or delete this one first")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(InputError::io(destination, "look at the destination", &error)),
    }
}
