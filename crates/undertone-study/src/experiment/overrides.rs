//! `--set section.key=value`: changes to an experiment, checked like a file.

use std::path::Path;

use serde::de::DeserializeOwned;
use undertone_files::{InputError, Place};

use super::strict::strict;

/// Applies every override to `table`; `T` defines which keys exist.
pub(super) fn apply<T: DeserializeOwned>(
    table: &mut toml::Table,
    overrides: &[String],
    problems: &mut Vec<InputError>,
) {
    for setting in overrides {
        match override_text(setting) {
            Ok((keys, text)) => {
                let mut found = Vec::new();
                let value = strict::<T>(Path::new("--set"), &text, &mut found);
                problems.extend(found.into_iter().map(|problem| problem.at(Place::Named(setting.clone()))));
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

/// Puts the single value in `value` at the path `keys`.
fn set(table: &mut toml::Table, keys: &[String], mut value: toml::Table) {
    let Some((key, rest)) = keys.split_first() else { return };
    let Some(inner) = value.remove(key) else { return };
    match inner {
        toml::Value::Table(inner) => {
            let entry = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(existing) = entry {
                match rest.is_empty() {
                    // An override of a whole section changes only the keys that it names.
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
