//! The operations of a file system that change what is on the disk. Tests replace them with operations that fail.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Every operation of [`write_whole`](crate::write_whole), in the order of its calls.
pub(crate) trait Disk {
    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// Waits until the bytes of the file are on the disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Gives a file another name; replaces the file that has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Waits until the names in the folder are on the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Only Unix opens a folder as a file.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

/// The disk itself.
pub(crate) struct RealDisk;

impl Disk for RealDisk {}
