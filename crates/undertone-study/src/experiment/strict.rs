//! Reads TOML strictly: reports all problems at once, each with its line and the nearest known name.
//!
//! [`Reader`] deserializes a parsed document. Its error type holds the reports of serde as data (the unknown key, the
//! known values, the expected type) with their place in the text. A faulty entry is noted and skipped, and the rest is
//! read again, so that one wrong key does not hide the next.

mod fault;
mod reader;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml_edit::{Document, Item};
use undertone_files::{InputError, Place};

use self::fault::{Cause, Fault};
use self::reader::Reader;

/// The largest experiment file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The most problems of one text that are reported.
const MAX_PROBLEMS: usize = 20;

/// A known name is suggested if its similarity to an unknown one (Jaro–Winkler, from 0 to 1) is above this.
const SIMILAR: f64 = 0.75;

/// Reads the text of an experiment file, which may hold anything.
pub(super) fn read_text(path: &Path) -> Result<String, InputError> {
    let failed = |error: std::io::Error| InputError::io(path, "read the experiment", &error);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(InputError::new(path, format!("is longer than {MAX_BYTES} bytes, the most that is read")));
    }
    Ok(text)
}

/// The entries of a text that are valid in a `T`; the others are added to `problems`.
///
/// `None` if the text is not TOML, or has too many problems.
pub(super) fn strict<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    problems: &mut Vec<InputError>,
) -> Option<toml::Table> {
    let line = |offset: usize| Place::Line(line_at(text, offset));
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            let place = line(error.span().unwrap_or_default().start);
            let problem = InputError::new(path, message).at(place);
            problems.push(problem.hint("experiment files are TOML: https://toml.io"));
            return None;
        }
    };
    let mut faulty = BTreeSet::new();
    while let Err(fault) = read::<T>(&document, &faulty) {
        // The line of the key, under which a missing value would be reported, too.
        problems.push(explained(path, text, &fault).at(line(fault.entry.unwrap_or_default())));
        faulty.insert(fault.entry?);
        if faulty.len() == MAX_PROBLEMS {
            problems.push(InputError::new(path, format!("has more problems; these are the first {MAX_PROBLEMS}")));
            return None;
        }
    }
    read(&document, &faulty).ok()
}

fn read<T: DeserializeOwned>(document: &Document<&str>, faulty: &BTreeSet<usize>) -> Result<T, Fault> {
    T::deserialize(Reader::new(document.as_item(), faulty))
}

/// The line of a byte, counted from 1.
fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..offset.min(text.len())].matches('\n').count()
}

/// Turns a fault into a problem of the file, with the nearest known name in its hint.
fn explained(path: &Path, text: &str, fault: &Fault) -> InputError {
    let key = fault.key.as_deref().unwrap_or_default();
    let (what, unknown, known, cause) = match &fault.cause {
        Cause::UnknownKey(unknown, known) => ("keys", unknown, known, format!("unknown key `{unknown}`")),
        Cause::UnknownValue(unknown, known) => {
            ("values", unknown, known, format!("`{key}` has the unknown value `{unknown}`"))
        }
        Cause::Expected(expected) => {
            let found = fault.value.clone().and_then(|span| text.get(span)).unwrap_or_default();
            let found = found.lines().next().unwrap_or_default();
            return InputError::new(path, format!("`{key}` is `{found}`; it must be {expected}"));
        }
        Cause::Other(message) => return InputError::new(path, format!("`{key}`: {message}")),
    };
    let similarity = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let all = known.join(", ");
    InputError::new(path, cause).hint(match nearest.filter(|name| similarity(name) > SIMILAR) {
        Some(nearest) => format!("did you mean `{nearest}`? The {what} here are: {all}"),
        None => format!("the {what} here are: {all}"),
    })
}

/// The line of a dotted key such as `training.epochs` or `arm[1].name`, or of its table if the key is absent.
pub(super) fn line_of(document: &Document<&str>, text: &str, key: &str) -> Option<usize> {
    let mut table = document.as_table();
    let mut found = None;
    for part in key.split('.') {
        let (name, index) = match part.trim_end_matches(']').split_once('[') {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some(item) = table.get(name) else { break };
        found = table.key(name).and_then(toml_edit::Key::span).or(found);
        match (item, index) {
            (Item::Table(inner), _) => table = inner,
            (Item::ArrayOfTables(tables), Some(index)) => {
                let inner = tables.get(index)?;
                found = inner.span().or(found);
                table = inner;
            }
            _ => break,
        }
    }
    found.map(|span| line_at(text, span.start))
}
