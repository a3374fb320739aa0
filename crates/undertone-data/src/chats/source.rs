//! The chats of a file, one at a time: a JSON array, one JSON object a line, or a Parquet table.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;
use std::rc::Rc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use undertone_files::{FileKind, InputError, Place, WriteError, open_regular};

use crate::guarded::guarded;
use crate::packed::{Text, unpacked, unreadable};

/// The longest chat that is read, in bytes. As values, a chat of numbers takes up to 35 times as much memory.
pub(super) const MAX_CHAT_BYTES: usize = 16 << 20;

/// Takes the chats of a file: a value, or why there is none at this place.
pub(super) trait Sink {
    /// Takes one; an error ends reading.
    fn take(&mut self, chat: Result<Value, String>, place: Place) -> Result<(), WriteError>;
}

/// How a file ended.
pub(super) enum Ending {
    /// After its last chat.
    Whole,
    /// Before its end: it is cut off or damaged.
    Broken {
        /// What it should be.
        expected: &'static str,
        /// Why it is not.
        cause: String,
    },
}

/// Hands out every chat of a file.
pub(super) fn each(path: &Path, sink: &mut impl Sink) -> Result<Ending, WriteError> {
    let failed = |error: io::Error| WriteError::Input(unreadable(path, &error));
    let mut file = open_regular(path).map_err(WriteError::Input)?;
    let mut start = [0; 4];
    let read = io::Read::read(&mut file, &mut start).map_err(failed)?;
    io::Seek::rewind(&mut file).map_err(failed)?;
    if FileKind::of(&start[..read]) == Some(FileKind::Parquet) {
        return rows(file, sink);
    }
    let mut text = unpacked(path, file).map_err(WriteError::Input)?;
    match starts_an_array(&mut text) {
        Ok(true) => array(text, sink),
        Ok(false) => lines(path, text, sink),
        Err(error) => Err(failed(error)),
    }
}

/// Whether the first character that is no space begins an array; what stands before it is passed over.
fn starts_an_array(text: &mut Text) -> io::Result<bool> {
    loop {
        let buffer = text.fill_buf()?;
        let Some(&first) = buffer.first() else { return Ok(false) };
        let is_mark = buffer.starts_with("\u{feff}".as_bytes());
        match first {
            _ if is_mark => text.consume(3),
            b' ' | b'\t' | b'\r' | b'\n' => text.consume(1),
            other => return Ok(other == b'['),
        }
    }
}

/// One object a line.
fn lines(path: &Path, mut text: Text, sink: &mut impl Sink) -> Result<Ending, WriteError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let bounded = &mut io::Read::take(&mut text, MAX_CHAT_BYTES as u64 + 1);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Ok(Ending::Broken { expected: "a whole file", cause: error.to_string() }),
        }
        if line.len() > MAX_CHAT_BYTES {
            let cause = format!("is longer than {MAX_CHAT_BYTES} bytes, the most that is read");
            return Err(WriteError::Input(InputError::new(path, cause).at(Place::Line(number))));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let chat = serde_json::from_slice(line.trim_ascii()).map_err(|error| {
            // The library counts lines in what it is given: one.
            let error = error.to_string();
            format!("is not JSON: {}", error.split(" at line ").next().unwrap_or_default())
        });
        sink.take(chat, Place::Line(number))?;
    }
    Ok(Ending::Whole)
}

/// One array. An error in its text ends it.
fn array(text: Text, sink: &mut impl Sink) -> Result<Ending, WriteError> {
    let mut failed = None;
    let read = Rc::new(Cell::new(0));
    let mut reader = serde_json::Deserializer::from_reader(Bounded { text, read: Rc::clone(&read) });
    let each = Elements { sink, failed: &mut failed, read };
    let read = each.deserialize(&mut reader).and_then(|()| reader.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Ok(Ending::Broken { expected: "a whole JSON array", cause: error.to_string() }),
        (None, Ok(())) => Ok(Ending::Whole),
    }
}

/// Visits the elements of an array.
struct Elements<'a, S> {
    sink: &'a mut S,
    failed: &'a mut Option<WriteError>,
    /// Bytes of the chat that is being read.
    read: Rc<Cell<usize>>,
}

/// Ends with an error in a chat that is too long.
struct Bounded {
    text: Text,
    read: Rc<Cell<usize>>,
}

impl io::Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        self.read.set(self.read.get() + count);
        match self.read.get() {
            ..=MAX_CHAT_BYTES => Ok(count),
            _ => Err(io::Error::other(format!("a chat is longer than {MAX_CHAT_BYTES} bytes, the most that is read"))),
        }
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for Elements<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Elements<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut chats: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(chat) = chats.next_element::<Value>()? {
            self.read.set(0);
            if let Err(error) = self.sink.take(Ok(chat), Place::Named(format!("[{number}]"))) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("stopped"));
            }
            number += 1;
        }
        Ok(())
    }
}

/// The rows of a Parquet table. The library may panic on a damaged file.
fn rows(file: File, sink: &mut impl Sink) -> Result<Ending, WriteError> {
    let broken = |cause: String| Ok(Ending::Broken { expected: "a whole Parquet file", cause });
    let reader = match guarded(|| SerializedFileReader::new(file)) {
        Ok(Ok(reader)) => reader,
        Ok(Err(error)) => return broken(error.to_string()),
        Err(panic) => return broken(panic),
    };
    let mut rows = match guarded(|| reader.get_row_iter(None)) {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => return broken(error.to_string()),
        Err(panic) => return broken(panic),
    };
    for number in 1.. {
        match guarded(|| rows.next()) {
            Ok(None) => break,
            Ok(Some(Ok(row))) => sink.take(Ok(object(&row)), Place::Named(format!("row {number}")))?,
            Ok(Some(Err(error))) => return broken(error.to_string()),
            Err(panic) => return broken(panic),
        }
    }
    Ok(Ending::Whole)
}

/// A row as JSON, without empty fields.
fn object(row: &Row) -> Value {
    let fields = row.get_column_iter().map(|(name, field)| (name.clone(), value(field)));
    Value::Object(fields.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}

fn value(field: &Field) -> Value {
    match field {
        Field::Bool(is) => json!(is),
        Field::Byte(number) => json!(number),
        Field::Short(number) => json!(number),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => json!(number),
        Field::Long(number) | Field::TimeMicros(number) => json!(number),
        Field::UByte(number) => json!(number),
        Field::UShort(number) => json!(number),
        Field::UInt(number) => json!(number),
        Field::ULong(number) => json!(number),
        Field::Float(number) => json!(number),
        Field::Double(number) => json!(number),
        Field::Str(text) => json!(text),
        Field::Bytes(bytes) => bytes.as_utf8().map_or(Value::Null, |text| json!(text)),
        Field::TimestampMillis(time) => timestamp(jiff::Timestamp::from_millisecond(*time)),
        Field::TimestampMicros(time) => timestamp(jiff::Timestamp::from_microsecond(*time)),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, field)| (key.to_string(), value(field)));
            Value::Object(entries.collect())
        }
        Field::Null | Field::Float16(_) | Field::Decimal(_) => Value::Null,
    }
}

/// As text of RFC 3339.
fn timestamp(time: Result<jiff::Timestamp, jiff::Error>) -> Value {
    time.map_or(Value::Null, |time| json!(time.to_string()))
}
