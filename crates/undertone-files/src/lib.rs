//! Reading, writing and locking files, and the error that names what is wrong with one.
//!
//! Everything that the program keeps goes through here:
//!
//! - [`write_whole`] and [`StagedFolder`] write a file or a folder whole or not at all;
//! - [`Sealed`], [`read_sealed_text`] and [`Manifest`] find changed bytes when a file is read again;
//! - [`FolderLock`] keeps a second writer out of a folder, and dies with its holder;
//! - [`remove_leftovers_below`] and [`remove_own_temporaries`] remove what an ended program left, or this one would leave.
//!
//! The crate knows nothing about the content of the files.

#![warn(clippy::unwrap_used)]

mod disk;
mod error;
mod kind;
mod lock;
mod manifest;
mod read;
mod sealed;
mod sha256;
mod staging;
mod streaming;
mod temporary;
mod write;

pub use error::{InputError, Place};
pub use kind::FileKind;
pub use lock::FolderLock;
pub use manifest::{MANIFEST, Manifest};
pub use read::{map_file, open_regular, read_bounded, read_regular};
pub use sealed::{Sealed, digest, digest_parts, read_sealed_text, write_sealed_text};
pub use sha256::Sha256Writer;
pub use staging::{StagedFolder, WriteError};
pub use streaming::write_streamed;
pub use temporary::{TemporaryFolder, remove_leftovers_below, remove_own_temporaries};
pub use write::{keep_as, refuse_existing, write_whole};
