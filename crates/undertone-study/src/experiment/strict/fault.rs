//! Errors of serde as data: what is wrong, and where.

use std::fmt::{self, Display};
use std::ops::Range;

use serde::de::{Error, Expected, Unexpected};

/// An error with its place.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    /// The innermost entry around the fault, identified by the byte at which its key begins.
    pub(super) entry: Option<usize>,
    /// The key of that entry.
    pub(super) key: Option<String>,
    /// The bytes of the value, if the value is at fault.
    pub(super) value: Option<Range<usize>>,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum Cause {
    /// An unknown key, and the known keys.
    UnknownKey(String, &'static [&'static str]),
    /// An unknown word, and the known words.
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

    /// Notes the entry around the fault, unless an inner one is noted.
    pub(super) fn inside(mut self, entry: usize, key: &str) -> Self {
        if self.entry.is_none() {
            (self.entry, self.key) = (Some(entry), Some(key.to_owned()));
        }
        self
    }

    /// Notes the value at fault, unless it is an inner one, or that of an inner entry.
    pub(super) fn of_value(mut self, span: Option<Range<usize>>) -> Self {
        if self.entry.is_none() {
            self.value = self.value.or(span);
        }
        self
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
