//! Writes a file whole or not at all.

use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::InputError;

/// The name prefix of files that are not complete yet.
const PREFIX: &str = ".undertone-";

/// Refuses a destination that exists: it may be the only copy of something.
///
/// # Errors
/// The destination exists, or its existence cannot be checked.
pub fn refuse_existing(destination: &Path) -> Result<(), InputError> {
    refuse_file_as_folder(destination)?;
    match std::fs::symlink_metadata(destination) {
        Ok(_) => Err(InputError::new(destination, "already exists").hint("choose another name, or remove it first")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(InputError::io(destination, "check the destination", &error)),
    }
}

/// Refuses a path with a file where a folder must be.
fn refuse_file_as_folder(path: &Path) -> Result<(), InputError> {
    match path.ancestors().skip(1).find(|ancestor| ancestor.is_file()) {
        Some(file) => Err(InputError::new(path, format!("cannot write: `{}` is not a folder", file.display()))),
        None => Ok(()),
    }
}

/// Removes the incomplete files of a killed program from `folder`; no other program may be writing there.
pub fn remove_leftovers(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // A file that cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes `bytes` to a temporary file beside `path`, syncs it to disk and renames it; creates folders as needed.
/// A reader of `path` finds the old file or the new one, never a part.
///
/// # Errors
/// The folder cannot be created or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), InputError> {
    let failed = |error: &std::io::Error| InputError::io(path, "write", error);
    refuse_file_as_folder(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; results get the permissions that the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(PREFIX).tempfile_in(folder).map_err(|error| failed(&error))?;
    // Through the plain file: `NamedTempFile` would add its own path to the error.
    file.as_file_mut().write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
