//! What serde reports when a value does not fit, as data.

use std::fmt::{self, Display};
use std::ops::Range;

use serde::de::{Error, Expected, Unexpected};

/// A value that does not fit.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    /// Where the innermost entry around the fault begins: the byte of its key, which names the entry in a document.
    pub(super) entry: Option<usize>,
    /// The key of that entry.
    pub(super) key: Option<String>,
    /// The bytes of the value, if the value is at fault.
    pub(super) value: Option<Range<usize>>,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum Cause {
    /// A key that does not exist, and those that do.
    UnknownKey(String, &'static [&'static str]),
    /// A word that does not exist, and those that do.
    UnknownValue(String, &'static [&'static str]),
    /// What the value must be.
    Expected(String),
    /// Anything else, in words.
    Other(String),
}

impl Fault {
    pub(super) fn new(cause: Cause) -> Self {
        Self { cause, entry: None, key: None, value: None }
    }

    /// The same fault, inside an entry; an entry further inside stays.
    pub(super) fn inside(mut self, entry: usize, key: &str) -> Self {
        if self.entry.is_none() {
            (self.entry, self.key) = (Some(entry), Some(key.to_owned()));
        }
        self
    }

    /// The same fault, of a value; a value further inside stays.
    pub(super) fn of_value(mut self, span: Option<Range<usize>>) -> Self {
        self.value = self.value.or(span);
        self
    }

    /// The byte that is pointed at: the value, or else the key.
    pub(super) fn place(&self) -> usize {
        self.value.as_ref().map(|span| span.start).or(self.entry).unwrap_or_default()
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.cause)
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(Cause::Other(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Cause::Expected(expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Cause::Expected(expected.to_string()))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(Cause::UnknownValue(variant.to_owned(), known))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Cause::UnknownKey(field.to_owned(), known))
    }
}
