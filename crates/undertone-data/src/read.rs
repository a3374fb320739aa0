//! Reads conversation files, one [`Record`] at a time; a [`ReadReport`] counts what was read.
//!
//! The path of a line: `lines` reads it from the file, `published` parses either published form,
//! `convert` checks and types it, `clean` applies the policies.
//! One line is in memory at a time, so a file may have any size; only the map of ids, which finds duplicates, grows.
//!
//! Deliberately not read: `task_expectation`, and the survey's `occupation`, `purposes` and `feedback`, which nothing
//! downstream uses. The task's summary is kept only as hashes, in [`PostHoc`], for counting near-duplicates.

mod clean;
mod convert;
mod lines;
mod published;
mod quote;
mod report;
#[cfg(test)]
mod tests;

pub use clean::{AssistantFirst, CleanOptions, Consecutive, EmptyMessages};
pub(crate) use convert::{MAX_TEXT_BYTES, time_of_text};
pub use report::{MAX_UNKNOWN_FIELDS, ReadReport, SKIPPED_REASONS};

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;
use crate::packed::{unpacked, unreadable};
use crate::stats::PostHoc;
use lines::{Line, Lines};
use published::PublishedConversation;
use quote::{quoted, shortened};
use undertone_files::{InputError, Place};

/// The longest line that is read unless the options say otherwise, in bytes: 64 MiB.
///
/// The longest conversation of the published examples takes 0.05 MiB.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// The longest message of the JSON parser that an error message repeats, in characters.
const CAUSE_CHARACTERS: usize = 300;

/// Policy for lines that are not valid conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// Reading ends with an error that names the file, the line and the cause.
    #[default]
    Error,
    /// The line is left out and counted; the first few reasons are kept in the report.
    ///
    /// A file that cannot be read, or has no valid line at all, is still an error.
    Skip,
}

/// How conversation files are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Policy for lines that are not valid conversations.
    pub on_invalid: OnInvalid,
    /// Policies for messages that are valid but unusual.
    pub clean: CleanOptions,
    /// A line longer than this many bytes is invalid; memory use is a small multiple of this limit.
    pub max_line_bytes: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { on_invalid: OnInvalid::default(), clean: CleanOptions::default(), max_line_bytes: MAX_LINE_BYTES }
    }
}

/// One conversation and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The conversation, typed and clean.
    pub conversation: Conversation,
    /// Hashes of its task text, which can be compared but not read.
    pub task_text: PostHoc,
    /// The file that holds it.
    pub path: Arc<Path>,
    /// The line that holds it, counted from 1.
    pub line: usize,
}

/// Reads the conversations of one or several JSONL files in order; a file may be packed by gzip or Zstandard.
///
/// An iterator of `Result<Record, InputError>` that ends after the first error. The report is
/// complete once the iterator has ended.
///
/// ```
/// # use std::io::Write;
/// # use undertone_data::{ReadOptions, Reader};
/// # let mut file = tempfile::NamedTempFile::new()?;
/// # let line = r#"{"id":"user6_task2_conversation1","messages":[{"type":"user","content":"hi"}]}"#;
/// # writeln!(file, "{line}")?;
/// # let path = file.path();
/// let mut reader = Reader::open(&[path], ReadOptions::default())?;
/// for record in &mut reader {
///     assert_eq!(record?.conversation.user, "user6");
/// }
/// assert_eq!(reader.report().conversations, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    options: ReadOptions,
    paths: Vec<Arc<Path>>,
    /// Index in `paths` of the file that is open, or is opened next.
    current: usize,
    open: Option<OpenFile>,
    /// Where each conversation id was first seen: index in `paths`, line.
    seen: HashMap<String, (usize, usize)>,
    report: ReadReport,
    ended: bool,
}

/// The file being read, and what was found in it so far.
#[derive(Debug)]
struct OpenFile {
    lines: Lines,
    valid_lines: usize,
    skipped_lines: usize,
    first_skipped: Option<String>,
}

impl Reader {
    /// Checks that every file exists and is not a folder; reads nothing yet.
    ///
    /// # Errors
    ///
    /// If no path is given, or one of them cannot be opened or is a folder.
    pub fn open<P: AsRef<Path>>(paths: &[P], options: ReadOptions) -> Result<Self, InputError> {
        if paths.is_empty() {
            return Err(InputError::new("(no file)", "no conversation file was given"));
        }
        for path in paths {
            check_file(path.as_ref())?;
        }
        Ok(Self {
            options,
            paths: paths.iter().map(|path| Arc::from(path.as_ref())).collect(),
            current: 0,
            open: None,
            seen: HashMap::new(),
            report: ReadReport::default(),
            ended: false,
        })
    }

    /// What was read, trimmed, dropped and skipped so far.
    pub fn report(&self) -> &ReadReport {
        &self.report
    }

    /// Reads everything into memory.
    ///
    /// # Errors
    ///
    /// The first error of the iterator.
    pub fn read_all(mut self) -> Result<(Vec<Record>, ReadReport), InputError> {
        let records = self.by_ref().collect::<Result<Vec<_>, _>>()?;
        Ok((records, self.report))
    }

    /// The next valid record; `None` once every file has been read.
    fn advance(&mut self) -> Result<Option<Record>, InputError> {
        loop {
            let Some(path) = self.paths.get(self.current).cloned() else {
                return Ok(None);
            };
            let file = match &mut self.open {
                Some(file) => file,
                closed @ None => closed.insert(OpenFile {
                    lines: Lines::new(unpacked(&path, open_file(&path)?)?, self.options.max_line_bytes),
                    valid_lines: 0,
                    skipped_lines: 0,
                    first_skipped: None,
                }),
            };
            let line = file.lines.number() + 1;
            let parsed = match file.lines.advance() {
                Err(error) => {
                    return Err(unreadable(&path, &error).at(Place::Line(line)));
                }
                Ok(None) => {
                    file.check_end(&path)?;
                    self.report.files += 1;
                    self.report.byte_order_marks += usize::from(file.lines.had_byte_order_mark());
                    self.open = None;
                    self.current += 1;
                    continue;
                }
                Ok(Some(Line::Blank)) => {
                    self.report.lines += 1;
                    self.report.blank_lines += 1;
                    continue;
                }
                Ok(Some(Line::TooLong)) => Err(too_long(&path, line, &self.options)),
                Ok(Some(Line::Text(bytes))) => parse_line(bytes, &path, line, &self.options),
            };
            self.report.lines += 1;
            match parsed.and_then(|parsed| self.check_duplicate(parsed, line)) {
                Ok((record, line_report)) => {
                    self.report.merge(&line_report);
                    if let Some(file) = &mut self.open {
                        file.valid_lines += 1;
                    }
                    return Ok(Some(record));
                }
                Err(error) if self.options.on_invalid == OnInvalid::Skip => {
                    self.report.skip(&error);
                    if let Some(file) = &mut self.open {
                        file.skipped_lines += 1;
                        file.first_skipped.get_or_insert_with(|| format!("line {line}: {}", error.cause));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses a conversation id that was seen before, in this file or an earlier one.
    fn check_duplicate(
        &mut self,
        parsed: (Record, ReadReport),
        line: usize,
    ) -> Result<(Record, ReadReport), InputError> {
        let record = &parsed.0;
        match self.seen.entry(record.conversation.id.clone()) {
            Entry::Vacant(new) => {
                new.insert((self.current, line));
                Ok(parsed)
            }
            Entry::Occupied(first) => {
                let (first_file, first_line) = *first.get();
                Err(InputError::new(
                    record.path.as_ref(),
                    format!(
                        "conversation id {} is already at `{}` line {first_line}",
                        quoted(&record.conversation.id),
                        self.paths[first_file].display(),
                    ),
                )
                .at(Place::JsonPath(line, "id".into()))
                .hint("was a file given twice, or do two files overlap?"))
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl OpenFile {
    /// Refuses a file that held no valid line.
    fn check_end(&self, path: &Path) -> Result<(), InputError> {
        if self.valid_lines > 0 {
            return Ok(());
        }
        let cause = match (&self.first_skipped, self.lines.number()) {
            (Some(first), _) => format!("none of its {} lines is a valid conversation; {first}", self.skipped_lines),
            (None, 0) => "the file is empty".into(),
            (None, lines) => format!("the file has only blank lines ({lines})"),
        };
        Err(InputError::new(path, cause)
            .hint("a conversation file has one JSON object per line; each object is one conversation"))
    }
}

/// Refuses a path that cannot be opened. A pipe is not opened here: a second opening would find it cut off.
fn check_file(path: &Path) -> Result<(), InputError> {
    let metadata = std::fs::metadata(path).map_err(|error| InputError::io(path, "open", &error))?;
    if metadata.is_dir() {
        return Err(InputError::new(path, "is a folder, not a file").hint("name the conversation files inside it"));
    }
    // A pipe can be read once; a device such as `/dev/zero` may never end.
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_char_device(&metadata.file_type()) {
        return Err(InputError::new(path, "is a device, not a file").hint("name a conversation file, or a pipe"));
    }
    if metadata.is_file() {
        open_file(path)?;
    }
    Ok(())
}

fn open_file(path: &Path) -> Result<File, InputError> {
    File::open(path).map_err(|error| InputError::io(path, "open", &error))
}

/// Parses one line of JSON into one record, with the line's counts.
pub(crate) fn parse_line(
    bytes: &[u8],
    path: &Arc<Path>,
    line: usize,
    options: &ReadOptions,
) -> Result<(Record, ReadReport), InputError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let place = error.valid_up_to() + 1;
        InputError::new(path.as_ref(), format!("invalid UTF-8 at byte {place} of the line"))
            .at(Place::Line(line))
            .hint("save the file as UTF-8")
    })?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let published: PublishedConversation = serde_path_to_error::deserialize(&mut parser)
        .map_err(|error| invalid_json(text, path, line, &error.path().to_string(), error.inner()))
        .and_then(|published| match parser.end() {
            Ok(()) => Ok(published),
            Err(error) => Err(invalid_json(text, path, line, ".", &error)),
        })?;
    let mut report = ReadReport::default();
    let (conversation, task_text) =
        convert::convert(published, path, line, &options.clean, &mut report).map_err(|problem| {
            let error = InputError::new(path.as_ref(), problem.cause).at(if problem.json_path.is_empty() {
                Place::Line(line)
            } else {
                Place::JsonPath(line, problem.json_path)
            });
            match problem.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })?;
    let record = Record { conversation, task_text, path: Arc::clone(path), line };
    Ok((record, report))
}

fn too_long(path: &Path, line: usize, options: &ReadOptions) -> InputError {
    InputError::new(path, format!("the line is longer than {} bytes", options.max_line_bytes))
        .at(Place::Line(line))
        .hint("a line holds one conversation; if this line is correct, raise `max_line_bytes`")
}

/// The JSON parser's message without its line number, which is relative to this line.
fn invalid_json(text: &str, path: &Path, line: usize, json_path: &str, error: &serde_json::Error) -> InputError {
    let message = error.to_string();
    let message = match message.rfind(" at line ") {
        Some(end) if error.line() > 0 => &message[..end],
        _ => &message,
    };
    let column = error.column();
    let message = shortened(message, CAUSE_CHARACTERS);
    let (cause, hint) = if text.trim_start().starts_with('[') {
        (
            "the line is a JSON list, not a conversation".into(),
            Some("`undertone data convert` writes one JSON object per line, from a list of conversations or of chats"),
        )
    } else if error.is_eof() {
        (
            format!("the line ends in the middle of its JSON: {message} (column {column})"),
            Some("was the file cut off, or is one object spread over several lines?"),
        )
    } else if error.is_syntax() {
        (format!("not valid JSON: {message} (column {column})"), None)
    } else {
        (format!("{message} (column {column})"), None)
    };
    // The path ends with `?` if the error is in a key, and is `.` for the line as a whole.
    let json_path = json_path.trim_end_matches('?').trim_end_matches('.');
    let place = match json_path {
        "" => Place::Line(line),
        json_path => Place::JsonPath(line, shortened(json_path, CAUSE_CHARACTERS)),
    };
    let invalid = InputError::new(path, cause).at(place);
    match hint {
        Some(hint) => invalid.hint(hint),
        None => invalid,
    }
}
