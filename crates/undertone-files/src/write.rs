//! Writes a file whole or not at all.

use std::io::ErrorKind;
use std::path::Path;

use crate::InputError;
use crate::disk::{Disk, RealDisk};
use crate::temporary::TemporaryFile;

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
pub(crate) fn refuse_file_as_folder(path: &Path) -> Result<(), InputError> {
    match path.ancestors().skip(1).find(|ancestor| ancestor.is_file()) {
        Some(file) => Err(InputError::new(path, format!("cannot write: `{}` is not a folder", file.display()))),
        None => Ok(()),
    }
}

/// The folder that a path names an entry of.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes `bytes` to a temporary file beside `path`, waits until they are on the disk, renames the file, and waits until
/// its name is on the disk; creates folders as needed. A reader of `path` finds the old file or the new one, never a
/// part, also after a power failure.
///
/// # Errors
/// The folder cannot be created or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), InputError> {
    write_whole_on(&RealDisk, path, bytes)
}

fn write_whole_on(disk: &impl Disk, path: &Path, bytes: &[u8]) -> Result<(), InputError> {
    refuse_file_as_folder(path)?;
    let folder = folder_of(path);
    let write = || {
        disk.create_folders(folder)?;
        let mut temporary = TemporaryFile::create(folder)?;
        disk.write(temporary.file(), bytes)?;
        disk.sync(temporary.file())?;
        temporary.publish(|from| disk.rename(from, path))?;
        disk.sync_folder(folder)
    };
    write().map_err(|error| InputError::io(path, "write", &error))
}

/// Gives the file `from` a second name, `to`, which goes on when `from` is replaced; copies it where the disk has no hard
/// links. A file that stands at `to` is replaced.
///
/// # Errors
/// The file cannot be read, or the folder cannot be written.
pub fn keep_as(from: &Path, to: &Path) -> Result<(), InputError> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(InputError::io(to, "replace", &error)),
        _ => {}
    }
    if std::fs::hard_link(from, to).is_ok() {
        return RealDisk.sync_folder(folder_of(to)).map_err(|error| InputError::io(to, "write", &error));
    }
    write_whole(to, &std::fs::read(from).map_err(|error| InputError::io(from, "read", &error))?)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs::{self, File};
    use std::io;

    use super::*;

    /// A disk that does `fails_at` operations and fails in the next one, half of its bytes written.
    struct FailingDisk {
        fails_at: usize,
        done: RefCell<Vec<&'static str>>,
    }

    impl FailingDisk {
        fn count(&self, name: &'static str) -> io::Result<()> {
            if self.done.borrow().len() == self.fails_at {
                return Err(io::Error::from(ErrorKind::StorageFull));
            }
            self.done.borrow_mut().push(name);
            Ok(())
        }
    }

    impl Disk for FailingDisk {
        fn create_folders(&self, folder: &Path) -> io::Result<()> {
            self.count("create folders").and_then(|()| RealDisk.create_folders(folder))
        }

        fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            let may = self.count("write");
            RealDisk.write(file, if may.is_ok() { bytes } else { &bytes[..bytes.len() / 2] })?;
            may
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            self.count("sync").and_then(|()| RealDisk.sync(file))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.count("rename").and_then(|()| RealDisk.rename(from, to))
        }

        fn sync_folder(&self, folder: &Path) -> io::Result<()> {
            self.count("sync the folder").and_then(|()| RealDisk.sync_folder(folder))
        }
    }

    #[test]
    fn bytes_are_on_the_disk_before_their_name_and_a_failure_leaves_the_old_file() {
        let order = ["create folders", "write", "sync", "rename", "sync the folder"];
        for fails_at in 0..=order.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("result");
            fs::write(&path, "old").unwrap();
            let disk = FailingDisk { fails_at, done: RefCell::default() };
            let written = write_whole_on(&disk, &path, b"new content");
            assert_eq!(disk.done.take(), order[..fails_at]);
            assert_eq!(written.is_ok(), fails_at == order.len());
            if let Err(error) = written {
                assert_eq!(error.to_string(), format!("`{}`: cannot write: no storage space", path.display()));
            }
            // After the rename the file is the new one, whole; only a power failure could bring the old one back.
            let expected = if fails_at <= 3 { "old" } else { "new content" };
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "failed at operation {fails_at}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        }
    }
}
