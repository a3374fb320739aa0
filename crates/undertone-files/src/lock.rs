//! One writer per folder.
//!
//! The lock is the operating system's (`flock`), on the file `.lock` in the folder. It ends with its holder, however that
//! ends, so no lock is ever left behind; the file stays and names the last holder. Over NFS the lock holds between
//! machines if the server keeps locks (NFS 4, or `lockd`). Readers need no lock.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::InputError;
use crate::write::refuse_file_as_folder;

/// The name of the locked file in its folder.
const LOCK: &str = ".lock";

/// Attempts to read who holds a lock; the pause before each grows by a millisecond.
const ATTEMPTS: u64 = 20;

const HINT: &str = "wait until it ends, or choose another `name`; the lock ends with its process";

/// A lock on a folder, until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    is_exclusive: bool,
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // The name of a holder that has ended helps nobody; if it cannot be removed, it does no harm.
        if self.is_exclusive {
            let _ = self.file.set_len(0);
        }
    }
}

/// Who holds a lock.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    host: String,
    pid: u32,
    since: String,
}

impl Holder {
    fn this_process() -> Self {
        Self {
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            pid: std::process::id(),
            since: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        }
    }

    /// Reads the holder that the file names.
    fn read(mut file: &File) -> Option<Self> {
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(holder: Option<&Self>, mut file: &File) -> std::io::Result<()> {
        let text = holder.map(|holder| serde_json::to_string(holder).expect("plain data"));
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.unwrap_or_default().as_bytes())
    }
}

impl FolderLock {
    /// Locks a folder for this process alone. Creates the folder as needed.
    ///
    /// # Errors
    /// Another process holds a lock on it; the error says which. Or the folder cannot be written.
    pub fn exclusive(folder: &Path) -> Result<Self, InputError> {
        let file = open(folder)?;
        granted(folder, &file, patiently(|| file.try_lock()))?;
        Holder::write(Some(&Holder::this_process()), &file).map_err(|error| InputError::io(folder, "lock", &error))?;
        Ok(Self { file, is_exclusive: true })
    }

    /// Locks a folder against [`Self::exclusive`]; any number of processes may do so at a time. Each then locks the
    /// folder inside in which it works for itself alone. Creates the folder as needed.
    ///
    /// # Errors
    /// As [`Self::exclusive`].
    pub fn shared(folder: &Path) -> Result<Self, InputError> {
        let file = open(folder)?;
        granted(folder, &file, file.try_lock_shared())?;
        // The holders are named by their locks inside.
        Holder::write(None, &file).map_err(|error| InputError::io(folder, "lock", &error))?;
        Ok(Self { file, is_exclusive: false })
    }

    /// Whether a process holds [`Self::exclusive`] on the folder. Writes nothing.
    pub fn is_held(folder: &Path) -> bool {
        let file = File::open(folder.join(LOCK));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

fn open(folder: &Path) -> Result<File, InputError> {
    let failed = |error: std::io::Error| InputError::io(folder, "write", &error);
    refuse_file_as_folder(&folder.join(LOCK)).map_err(|error| InputError { path: folder.to_owned(), ..error })?;
    fs::create_dir_all(folder).map_err(failed)?;
    File::options().read(true).write(true).create(true).truncate(false).open(folder.join(LOCK)).map_err(failed)
}

/// Tries a few times: whoever asks [`FolderLock::is_held`] holds a shared lock for a moment.
fn patiently(lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 0..ATTEMPTS {
        match lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
    lock()
}

fn granted(folder: &Path, file: &File, attempt: Result<(), TryLockError>) -> Result<(), InputError> {
    match attempt {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            // A holder names itself right after it has locked.
            let named = || Holder::read(file).or_else(|| holder_inside(folder));
            let holder = (0..ATTEMPTS).find_map(|attempt| {
                std::thread::sleep(Duration::from_millis(attempt));
                named()
            });
            let cause = match holder {
                Some(Holder { host, pid, since }) => {
                    format!("another run works in this folder: process {pid} on `{host}`, since {since}")
                }
                None => "another run works in this folder".to_owned(),
            };
            Err(InputError::new(folder, cause).hint(HINT))
        }
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            tracing::warn!(
                "note: `{}` is on a file system without locks: make sure that only one run works there",
                folder.display()
            );
            Ok(())
        }
        Err(TryLockError::Error(error)) => Err(InputError::io(folder, "lock", &error)),
    }
}

/// The holder of a lock in a folder inside, at most two levels down.
fn holder_inside(folder: &Path) -> Option<Holder> {
    let inside = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = inside(folder).flat_map(|child| inside(&child).chain([child.clone()]).collect::<Vec<_>>());
    folders.filter_map(|folder| File::open(folder.join(LOCK)).ok()).find_map(|file| match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Holder::read(&file),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Locks belong to open files, so two attempts in one process exclude each other as those of two processes do.
    #[test]
    fn the_second_writer_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::exclusive(folder.path()).unwrap();
        for second in [FolderLock::exclusive(folder.path()), FolderLock::shared(folder.path())] {
            let cause = second.unwrap_err().cause;
            assert!(cause.contains(&format!("process {} on `", std::process::id())), "{cause}");
        }
        drop(first);
        FolderLock::exclusive(folder.path()).unwrap();
    }

    #[test]
    fn parts_of_a_folder_have_a_writer_each() {
        let folder = tempfile::tempdir().unwrap();
        let part = |name: &str| FolderLock::exclusive(&folder.path().join(name).join("fold0"));
        let one = (FolderLock::shared(folder.path()).unwrap(), part("one").unwrap());
        let other = (FolderLock::shared(folder.path()).unwrap(), part("other").unwrap());
        assert!(part("one").is_err());
        let cause = FolderLock::exclusive(folder.path()).unwrap_err().cause;
        assert!(cause.contains(&format!("process {} on `", std::process::id())), "{cause}");
        drop((one, other));
        FolderLock::exclusive(folder.path()).unwrap();
    }
}
