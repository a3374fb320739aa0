//! Records as JSON Lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use undertone_files::{InputError, Place};

use super::check::{Checker, check_records};
use super::item::ItemRecord;

/// The longest line a file of records may have, in bytes; real lines have at most a few kilobytes.
pub(super) const MAX_LINE_BYTES: usize = 1 << 20;

/// Writes records as JSON Lines, in the order given.
///
/// # Errors
///
/// Errors of `out`; and [`io::ErrorKind::InvalidData`] around a [`RecordFault`](super::RecordFault), before anything
/// is written: JSON has no `NaN`, so the file could not be read back.
pub fn write_records(mut out: impl Write, records: &[ItemRecord]) -> io::Result<()> {
    check_records(records).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads records written by [`write_records`], in file order; blank lines are skipped.
///
/// # Errors
///
/// The file cannot be read; or a line is too long, is not a record, or fails [`check_records`].
pub fn read_records(path: impl AsRef<Path>) -> Result<Vec<ItemRecord>, InputError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| InputError::io(path, "open", &error))?;
    let mut reader = BufReader::new(file);
    let mut checker = Checker::default();
    let mut records = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = (&mut reader)
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| InputError::io(path, "read", &error))?;
        if length == 0 {
            break;
        }
        let at_line = |cause: String| InputError::new(path, cause).at(Place::Line(number));
        if length > MAX_LINE_BYTES {
            return Err(at_line(format!("longer than {MAX_LINE_BYTES} bytes, so it is not an item record")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record: ItemRecord = serde_json::from_slice(&line)
            .map_err(|error| at_line(format!("not an item record: {}", without_line(&error))))?;
        checker.check(&record).map_err(|problem| at_line(format!("item `{}`: {problem}", record.item)))?;
        records.push(record);
    }
    Ok(records)
}

/// A JSON error without its line number, which is always 1 because each line is parsed alone.
fn without_line(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    match text.strip_suffix(&format!(" at line {line} column {column}")) {
        Some(cause) => format!("{cause} at column {column}"),
        None => text,
    }
}
