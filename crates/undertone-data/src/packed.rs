//! Opens files of text, plain or packed by gzip or Zstandard, which their first bytes tell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use undertone_files::{FileKind, InputError};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 16;

/// The text of a file, unpacked as it is read.
pub(crate) type Text = Box<dyn BufRead + Send>;

/// The text of a file.
///
/// # Errors
/// The file cannot be read, or is of another kind; see [`FileKind`].
pub(crate) fn unpacked(path: &Path, file: File) -> Result<Text, InputError> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    let failed = |error: io::Error| unreadable(path, &error);
    match FileKind::of(file.fill_buf().map_err(failed)?) {
        None => Ok(Box::new(file)),
        Some(FileKind::Gzip) => Ok(buffered(MultiGzDecoder::new(file))),
        Some(FileKind::Zstd) => Ok(buffered(zstd::Decoder::with_buffer(file).map_err(failed)?)),
        Some(other) => Err(other.refused(path)),
    }
}

/// The error for a text that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> InputError {
    let unreadable = InputError::io(path, "read", error);
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            unreadable.hint("the file is cut off or damaged; get it again")
        }
        _ => unreadable,
    }
}

fn buffered(text: impl Read + Send + 'static) -> Text {
    Box::new(BufReader::with_capacity(BUFFER, text))
}
