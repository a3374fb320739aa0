//! Writes a file that does not fit into memory, whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::InputError;
use crate::disk::{Disk, RealDisk};
use crate::staging::WriteError;
use crate::temporary::TemporaryFile;
use crate::write::{folder_of, refuse_file_as_folder};

/// As [`write_whole`](crate::write_whole), with what `fill` writes. What `fill` returns is returned.
///
/// # Errors
/// The error of `fill`, or the folder cannot be created or written; the file is then not there.
pub fn write_streamed<T>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<T, WriteError>,
) -> Result<T, InputError> {
    refuse_file_as_folder(path)?;
    let (disk, folder) = (RealDisk, folder_of(path));
    let write = || {
        disk.create_folders(folder)?;
        let mut temporary = TemporaryFile::create(folder)?;
        let mut file = BufWriter::new(temporary.file());
        let filled = fill(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
        disk.sync(temporary.file())?;
        temporary.publish(|from| disk.rename(from, path))?;
        disk.sync_folder(folder)?;
        Ok(filled)
    };
    write().map_err(|error| match error {
        WriteError::Input(error) => error,
        WriteError::Io(error) => InputError::io(path, "write", &error),
    })
}
