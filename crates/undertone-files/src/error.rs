//! The one error for external input: which file, where in it, what is wrong, what to do.
//!
//! Every crate of the workspace returns [`InputError`] for external input (files, configuration, command lines).
//! Programmer errors panic with the values instead.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where in a file a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line, counted from 1.
    Line(usize),
    /// A line, counted from 1, and the JSON path inside it, such as `messages[3].timestamp`.
    JsonPath(usize, String),
    /// A named part: a tensor, a header field, a configuration key.
    Named(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, " line {line}"),
            Self::JsonPath(line, path) => write!(f, " line {line}, `{path}`"),
            Self::Named(name) => write!(f, ", `{name}`"),
        }
    }
}

/// External input is wrong. The program ends with exit code 2.
///
/// Displayed as `` `PATH` PLACE: CAUSE ``; the hint is data, which the caller prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}`{place}: {cause}", path.display())]
pub struct InputError {
    /// The file or folder.
    pub path: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong, one sentence without a full stop, values in backticks.
    pub cause: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl InputError {
    /// A problem of a whole file.
    pub fn new(path: impl Into<PathBuf>, cause: impl Into<String>) -> Self {
        Self { path: path.into(), place: Place::File, cause: cause.into(), hint: None }
    }

    /// The same problem, at a place inside the file.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The same problem, with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A file that this program wrote has other content now.
    pub fn changed(path: impl Into<PathBuf>) -> Self {
        Self::new(path, "was changed after it was written: its checksum differs")
            .hint("restore it from a copy, or remove it and run the same command again; the disk may be faulty")
    }

    /// An operating system error; `tried` is the operation that failed, such as `read`.
    pub fn io(path: impl AsRef<Path>, tried: &str, error: &std::io::Error) -> Self {
        // `tempfile` adds the path of its temporary file, which the user does not know.
        let cause = error.to_string();
        let cause = cause.split(" at path \"").next().unwrap_or_default();
        let failed = Self::new(path.as_ref(), format!("cannot {tried}: {cause}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => failed.hint("check the path; it is taken relative to the current folder"),
            std::io::ErrorKind::PermissionDenied => failed.hint("check the permissions of the file and its folder"),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                failed.hint("make room on this disk, and run the same command again")
            }
            std::io::ErrorKind::ReadOnlyFilesystem => failed.hint("choose a folder on a disk that can be written"),
            _ => failed,
        }
    }
}
