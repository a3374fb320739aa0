//! Writing a file whole or not at all.

use std::io::Write;
use std::path::Path;

use crate::InputError;

/// Writes `bytes` beside `path`, forces them to disk and moves them there; folders are made as needed.
/// Whoever reads `path` finds the old file or the new one, never a part.
///
/// # Errors
/// The folder cannot be made or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), InputError> {
    let failed = |error: &std::io::Error| InputError::io(path, "write", error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; results are for everyone whom the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".undertone-").tempfile_in(folder).map_err(|error| failed(&error))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
