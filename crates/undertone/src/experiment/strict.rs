//! Reading TOML strictly: all problems at once, each with its line and the nearest key that exists.
//!
//! What cannot be read is noted, blanked out in the text, and the rest is read again, so that one wrong
//! key does not hide the next.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, Table};
use undertone_data::{InputError, Place};

use super::Experiment;

/// The most bytes of an experiment file that are read.
const MAX_BYTES: u64 = 1 << 20;

/// The text of an experiment file, which may be anything at all.
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

/// Reads TOML as an [`Experiment`] as far as it can be; what cannot is noted and left out.
///
/// Nothing at all if the text is not TOML.
pub(super) fn strict(path: &Path, text: &str, problems: &mut Vec<InputError>) -> Option<toml::Table> {
    let line_at = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
    let mut rest = text.to_owned();
    loop {
        let error = match toml::from_str::<Experiment>(&rest) {
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let Ok(document) = Document::parse(rest.as_str()) else {
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            problems.push(
                InputError::new(path, message)
                    .at(Place::Line(line_at(span.start)))
                    .hint("experiment files are TOML: https://toml.io"),
            );
            return None;
        };
        let whole = entry_at(document.as_table(), &span).map(|entry| with_section(&rest, entry));
        problems
            .push(explained(path, &rest, error.message(), &span, whole.as_ref()).at(Place::Line(line_at(span.start))));
        let whole = whole?;
        let blank: String = rest[whole.clone()]
            .chars()
            .map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) })
            .collect();
        rest.replace_range(whole, &blank);
    }
    toml::from_str(&rest).ok()
}

/// The bytes of an entry and, where it is written as `section.key = value`, of the section before it.
fn with_section(text: &str, entry: Range<usize>) -> Range<usize> {
    let line = text[..entry.start].rfind('\n').map_or(0, |newline| newline + 1);
    let is_section = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ' | '\t');
    let start = if text[line..entry.start].chars().all(is_section) { line } else { entry.start };
    start..entry.end
}

/// The problem in our words: which key, and the nearest one that exists.
fn explained(path: &Path, text: &str, message: &str, span: &Range<usize>, whole: Option<&Range<usize>>) -> InputError {
    let message = message.lines().next().unwrap_or(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let key = whole.and_then(|whole| text[whole.clone()].split('=').next()).map_or("", str::trim);
    if let Some((&unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown ")) {
        let what = if message.starts_with("unknown field") { "key" } else { "value" };
        let cause = if what == "key" {
            format!("unknown key `{unknown}`")
        } else {
            format!("`{key}` has the unknown value `{unknown}`")
        };
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
        let hint = match nearest.filter(|name| strsim::jaro_winkler(unknown, name) > 0.75) {
            Some(nearest) => format!("did you mean `{nearest}`? The {what}s here are: {}", known.join(", ")),
            None => format!("the {what}s here are: {}", known.join(", ")),
        };
        return InputError::new(path, cause).hint(hint);
    }
    let found = text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("");
    let cause = if message.starts_with("data did not match any variant of untagged enum Folds") {
        format!("`{key}` is `{found}`, it must be a number of folds or \"users\"")
    } else if message.starts_with("data did not match any variant of untagged enum Paths") {
        format!("`{key}` is `{found}`, it must be a path or a list of paths")
    } else {
        format!("`{key}`: {}", without_rust_types(message))
    };
    InputError::new(path, cause)
}

/// A message of serde with the type that is expected in words.
fn without_rust_types(message: &str) -> String {
    [
        ("usize", "a whole number of at least 0"),
        ("u64", "a whole number of at least 0"),
        ("f64", "a number"),
        ("f32", "a number"),
    ]
    .iter()
    .find_map(|(rust, words)| {
        Some(format!("{}expected {words}", message.strip_suffix(rust)?.strip_suffix("expected ")?))
    })
    .unwrap_or_else(|| message.to_owned())
}

/// The bytes of the key and value, or of the table, that an error points into.
fn entry_at(table: &Table, span: &Range<usize>) -> Option<Range<usize>> {
    let inside = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    for (name, item) in table.iter() {
        let key = table.key(name).and_then(toml_edit::Key::span);
        let found = match item {
            Item::Table(inner) => entry_at(inner, span),
            Item::ArrayOfTables(tables) => tables.iter().find_map(|inner| entry_at(inner, span)),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        let (Some(key), Some(value)) = (key, item.span()) else { continue };
        let both = key.start.min(value.start)..key.end.max(value.end);
        if inside(&key) || inside(&value) || inside(&both) {
            // A whole table is blanked with its content, which ends where its last entry ends.
            let last = match item {
                Item::Table(inner) => inner.iter().filter_map(|(_, item)| item.span()).map(|span| span.end).max(),
                _ => None,
            };
            let start = if matches!(item, Item::Table(_) | Item::ArrayOfTables(_)) { value.start } else { both.start };
            return Some(start..both.end.max(last.unwrap_or(0)));
        }
    }
    None
}

/// The line of a dotted key such as `training.epochs` or `arm[1].name`; of its table if it is absent.
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
    found.map(|span| 1 + text[..span.start].matches('\n').count())
}

/// Puts every override where it belongs, checked like a file.
pub(super) fn apply(table: &mut toml::Table, overrides: &[String], problems: &mut Vec<InputError>) {
    for setting in overrides {
        match override_text(setting) {
            Ok((keys, text)) => {
                let mut of_setting = Vec::new();
                let value = strict(Path::new("--set"), &text, &mut of_setting);
                problems.extend(of_setting.into_iter().map(|problem| problem.at(Place::Named(setting.clone()))));
                set(table, &keys, value.unwrap_or_default());
            }
            Err(problem) => problems.push(problem),
        }
    }
}

/// `section.key=value` as TOML text; a value that is not TOML is taken as a string.
fn override_text(setting: &str) -> Result<(Vec<String>, String), InputError> {
    let malformed = || {
        InputError::new("--set", "is not of the form `section.key=value`")
            .at(Place::Named(setting.into()))
            .hint("for example `--set training.epochs=1` or `--set data.path=a.jsonl`")
    };
    let (name, value) = setting.split_once('=').ok_or_else(malformed)?;
    let keys: Vec<String> = name.trim().split('.').map(str::to_owned).collect();
    let plain = |key: &String| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !keys.iter().all(plain) {
        return Err(malformed());
    }
    let value = value.trim();
    let is_toml = format!("value = {value}").parse::<toml::Table>().is_ok_and(|table| table.len() == 1);
    let value = if is_toml { value.to_owned() } else { toml::Value::String(value.into()).to_string() };
    Ok((keys.clone(), format!("{} = {value}", keys.join("."))))
}

/// Puts the one value of `value` where `keys` lead.
fn set(table: &mut toml::Table, keys: &[String], mut value: toml::Table) {
    let Some((key, rest)) = keys.split_first() else { return };
    let Some(inner) = value.remove(key) else { return };
    match inner {
        toml::Value::Table(inner) => {
            let entry = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(existing) = entry {
                match rest.is_empty() {
                    // A whole section at once changes the keys it names and leaves the others.
                    true => existing.extend(inner),
                    false => set(existing, rest, inner),
                }
            }
        }
        inner => {
            table.insert(key.clone(), inner);
        }
    }
}
