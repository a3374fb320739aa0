//! Reads files from outside so that neither a pipe nor a huge file can block or exhaust the program.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::InputError;
use memmap2::Mmap;

/// Reads a whole regular file.
///
/// # Errors
/// There is no such file, it is not a regular file, or it cannot be read.
pub fn read_regular(path: &Path) -> Result<Vec<u8>, InputError> {
    read_bounded(path, u64::MAX - 1)
}

/// Reads a whole regular file of at most `max_bytes`.
///
/// # Errors
/// There is no such file, it is longer or not a regular file, or it cannot be read.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(max_bytes + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > max_bytes {
        return Err(InputError::new(path, format!("is longer than {max_bytes} bytes, the most that is read")));
    }
    Ok(bytes)
}

/// Maps a regular file for reading.
///
/// # Errors
/// There is no such file, it is not a regular file, or it cannot be mapped.
#[allow(unsafe_code)]
pub fn map_file(path: &Path) -> Result<Mmap, InputError> {
    let file = open_regular(path)?;
    // SAFETY: the map is read-only and private to this process. As with every memory map, another
    // process that shortens the file meanwhile ends this one with a signal; weights are read once,
    // from files that are not edited in place, and copying them first would double the memory.
    unsafe { Mmap::map(&file) }.map_err(|error| unreadable(path, &error))
}

/// Opens a regular file only: opening a pipe would wait for its writer.
///
/// # Errors
/// There is no such file, it is not a regular file, or it cannot be opened.
pub fn open_regular(path: &Path) -> Result<File, InputError> {
    if !fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_file() {
        return Err(InputError::new(path, "is not a regular file"));
    }
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> InputError {
    InputError::io(path, "read", error)
}
