//! Opens files of text, plain or packed by gzip or Zstandard, which their first bytes tell.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use undertone_files::{FileKind, InputError, open_regular};

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

/// The whole text of a file, unpacked.
///
/// # Errors
/// The file cannot be read, is of another kind (see [`FileKind`]), or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, InputError> {
    let mut text = String::new();
    let read = unpacked(path, open_regular(path)?)?.read_to_string(&mut text);
    read.map_err(|error| unreadable(path, &error))?;
    Ok(text)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_whole_text_of_a_packed_file_is_read_or_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all("né\n".as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        for bytes in [&gzip, &zstd::encode_all("né\n".as_bytes(), 3).unwrap(), &"né\n".as_bytes().to_vec()] {
            std::fs::write(file.path(), bytes).unwrap();
            assert_eq!(read_text(file.path()).unwrap(), "né\n");
        }
        for (bytes, cause) in
            [(&gzip[..9], "cannot read: "), (b"n\xE9\n", "cannot read: stream did not contain valid UTF-8")]
        {
            std::fs::write(file.path(), bytes).unwrap();
            let error = read_text(file.path()).unwrap_err();
            assert!(error.cause.starts_with(cause) && error.hint.is_some(), "{error}");
        }
    }
}
