//! Kinds of files that their first bytes tell, and that are often given where another kind is expected.

use std::io::Read;
use std::path::Path;

use crate::{InputError, open_regular};

/// Bytes that tell the kind.
const LONGEST_MARK: u64 = 64;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// Packed by gzip (RFC 1952).
    Gzip,
    /// Packed by Zstandard (RFC 8878).
    Zstd,
    /// A ZIP archive, such as PyTorch's `.bin` files.
    Zip,
    /// A table in Apache Parquet's format.
    Parquet,
    /// Text in UTF-16, with its byte order mark.
    Utf16,
    /// The few lines that Git LFS puts in place of a large file.
    LfsPointer,
}

impl FileKind {
    /// The kind that the first bytes of a file tell, if it is one of these.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let marks: [(&[u8], Self); 7] = [
            (&[0x1F, 0x8B], Self::Gzip),
            (&[0x28, 0xB5, 0x2F, 0xFD], Self::Zstd),
            (b"PK\x03\x04", Self::Zip),
            (b"PAR1", Self::Parquet),
            (&[0xFF, 0xFE], Self::Utf16),
            (&[0xFE, 0xFF], Self::Utf16),
            (b"version https://git-lfs.github.com/spec/", Self::LfsPointer),
        ];
        marks.into_iter().find(|(mark, _)| bytes.starts_with(mark)).map(|(_, kind)| kind)
    }

    /// The error of a reader, or a better one: that its file is of one of these kinds.
    pub fn explain(error: InputError) -> InputError {
        let mut start = Vec::new();
        let read = open_regular(&error.path).map(|file| file.take(LONGEST_MARK).read_to_end(&mut start));
        match read.ok().and_then(|_| Self::of(&start)) {
            Some(kind) => kind.refused(&error.path),
            None => error,
        }
    }

    /// The error for such a file where this kind is not read.
    pub fn refused(self, path: &Path) -> InputError {
        let (cause, hint) = match self {
            Self::Gzip => ("is packed by gzip", "unpack it with `gunzip`"),
            Self::Zstd => ("is packed by Zstandard", "unpack it with `unzstd`"),
            Self::Zip => ("is a ZIP archive", "unpack it, and name a file in it"),
            Self::Parquet => ("is a Parquet file", "`undertone data convert` reads conversations from Parquet"),
            Self::Utf16 => ("is text in UTF-16", "save it as UTF-8"),
            Self::LfsPointer => (
                "is a Git LFS pointer, and not the file itself",
                "run `git lfs pull` in its repository, or download the file",
            ),
        };
        InputError::new(path, cause).hint(hint)
    }
}
