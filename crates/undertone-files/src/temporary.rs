//! Files and folders that are not complete yet.
//!
//! Their names begin with a prefix that nothing else has, and their owner locks them while it lives. So whoever gets
//! the lock of one knows that its owner is dead. The operating system ends the lock with its owner, however that ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

const PREFIX: &str = ".undertone-";

/// Attempts to create a temporary that no other program removes before it is locked.
const ATTEMPTS: usize = 100;

/// The temporaries of this process.
static OWN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn own() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A set of paths is whole even if a thread has panicked beside it.
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entry of a temporary in [`OWN`], until it is published or removed.
#[derive(Debug)]
struct Owned {
    path: PathBuf,
    /// Holds the lock.
    _handle: File,
}

impl Owned {
    /// Locks a new temporary; `None` if another program has taken it for a leftover.
    fn lock(path: &Path, handle: File) -> Option<Self> {
        if matches!(handle.try_lock(), Err(fs::TryLockError::WouldBlock)) || fs::symlink_metadata(path).is_err() {
            return None;
        }
        own().insert(path.to_owned());
        Some(Self { path: path.to_owned(), _handle: handle })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        own().remove(&self.path);
    }
}

/// A file without its final name. It is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    // Dropped in this order: the file is removed, then forgotten.
    file: NamedTempFile,
    _owned: Owned,
}

impl TemporaryFile {
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        // Temporary files are private by default; results get the permissions that the umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        retry(|| {
            let file = builder.prefix(PREFIX).tempfile_in(folder)?;
            let owned = Owned::lock(file.path(), file.as_file().try_clone()?);
            Ok(owned.map(|owned| Self { file, _owned: owned }))
        })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives the file its final name with `rename`.
    pub(crate) fn publish(self, rename: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        rename(self.file.path())?;
        // Its name is gone, so there is nothing to remove.
        let (_, path) = self.file.into_parts();
        path.keep().map_err(|error| error.error)?;
        Ok(())
    }
}

/// A hidden folder. It is removed with its content when it is dropped, or when a later run finds that its owner is dead.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: TempDir,
    _owned: Owned,
}

impl TemporaryFolder {
    /// Creates it in an existing folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(parent: &Path) -> io::Result<Self> {
        retry(|| {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            let handle = match File::open(folder.path()) {
                Ok(handle) => handle,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let owned = Owned::lock(folder.path(), handle);
            Ok(owned.map(|owned| Self { folder, _owned: owned }))
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn retry<T>(mut create: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    for _ in 0..ATTEMPTS {
        if let Some(created) = create()? {
            return Ok(created);
        }
    }
    Err(io::Error::other("another program removes temporary files as soon as they exist"))
}

/// Removes from `folder` the incomplete files and folders whose owner is dead.
pub(crate) fn remove_leftovers(folder: &Path) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Nothing that cannot be opened, locked or removed does any harm.
        // Opening a pipe would wait for its writer.
        let is_ours = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file() || found.is_dir());
        if name.starts_with(PREFIX)
            && is_ours(&path)
            && File::open(&path).is_ok_and(|handle| remove_if_dead(&path, &handle))
        {
            tracing::debug!("removed `{}`, which an ended program left", path.display());
        }
    }
}

/// Removes from `folder`, and from all folders inside, the incomplete files and folders whose owner is dead.
pub fn remove_leftovers_below(folder: &Path) {
    remove_leftovers(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A link is not a folder, so there is no circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_leftovers_below(&entry.path());
        }
    }
}

fn remove_if_dead(path: &Path, handle: &File) -> bool {
    handle.try_lock().is_ok() && remove(path).is_ok()
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Removes the incomplete files and folders of this process, whose other threads may still write. Only for a program
/// that ends at once: whoever creates or publishes a temporary afterwards waits forever.
pub fn remove_own_temporaries() {
    let own = own();
    for path in own.iter() {
        // Another thread may put a new file into a folder that is being emptied.
        let _ = (0..ATTEMPTS).try_for_each(|_| match remove(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            _ => Err(()),
        });
    }
    std::mem::forget(own);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn only_leftovers_of_dead_owners_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".undertone-dead"), "half").unwrap();
        fs::create_dir(folder.path().join(".undertone-gone")).unwrap();
        fs::write(folder.path().join(".undertone-gone/half"), "half").unwrap();
        fs::create_dir(folder.path().join("inside")).unwrap();
        fs::write(folder.path().join("inside/.undertone-dead"), "half").unwrap();
        fs::write(folder.path().join("result"), "whole").unwrap();
        let file = TemporaryFile::create(folder.path()).unwrap();
        let hidden = TemporaryFolder::create(folder.path()).unwrap();
        remove_leftovers_below(folder.path());
        fs::remove_dir(folder.path().join("inside")).unwrap();
        let mut left = names(folder.path());
        left.sort();
        let mut expected = vec![file.file.path().to_owned(), hidden.path().to_owned(), folder.path().join("result")];
        expected.sort();
        assert_eq!(left, expected);
        drop((file, hidden));
        assert_eq!(names(folder.path()), [folder.path().join("result")]);
    }
}
