//! Whose a folder is, and what was changed in its study after there were results.
//!
//! A folder belongs to one study: its data, base model, windows and training. What is compared and measured may change, and what
//! is finished is not done again; but a rule that was changed by somebody who had seen results is no rule fixed beforehand, so
//! the report names every such change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_data::{InputError, Place, write_whole};

use crate::base::Base;
use crate::keys::PROGRAM;
use crate::study::Study;

/// Keys of an experiment that may change in a study that has begun, and what is in them.
const AMENDABLE: [&str; 4] = ["evaluation.", "arm.", "comparison.", "seeds"];

/// Says whom to ask, and bears on nothing that is decided.
const UNTOLD: &str = "evaluation.judge.";

/// A key of the experiment that changed after there were results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amendment {
    key: String,
    /// None where it was added.
    before: Option<String>,
    /// None where it was taken away.
    after: Option<String>,
}

impl std::fmt::Display for Amendment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, before, after } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "`{key}` from {before} to {after}"),
            (None, Some(after)) => write!(f, "`{key}` added ({after})"),
            (Some(before), None) => write!(f, "`{key}` taken away ({before})"),
            (None, None) => write!(f, "`{key}`"),
        }
    }
}

/// Makes the folder that of this study, or goes on with it; returns all that was amended since there were results.
///
/// # Errors
/// The folder holds another study: says what differs.
pub(crate) fn claim(study: &Study, base: &Base) -> Result<Vec<Amendment>, InputError> {
    let folder = study.experiment.folder();
    let (kept, changes) = (folder.join("experiment.toml"), folder.join("amendments.json"));
    let header = [
        ("program", PROGRAM.to_owned()),
        ("data", format!("sha256 {}", study.data_sha256)),
        ("base model", format!("sha256 {}", base.sha256)),
    ];
    let header: String = header.iter().map(|(what, is)| format!("# {what}: {is}\n")).collect();
    let ours = format!("{header}\n{}", study.experiment.resolved());
    if !kept.exists() {
        write_whole(&kept, ours.as_bytes())?;
        return Ok(Vec::new());
    }
    let theirs = std::fs::read_to_string(&kept).map_err(|error| InputError::io(&kept, "read", &error))?;
    let other = |cause: String| {
        InputError::new(&folder, cause).hint(
            "choose another name with `--set name=…`, or remove the folder; arms, comparisons, `seeds` and `[evaluation]` may change",
        )
    };
    for (line, earlier) in header.lines().zip(theirs.lines().map(Some).chain(std::iter::repeat(None))) {
        if Some(line) != earlier {
            let what = line.trim_start_matches("# ").split(':').next().unwrap_or_default();
            return Err(other(format!("already holds another study: its {what} differs")));
        }
    }
    let changed = amended(&keys(&kept, &theirs)?, &keys(&kept, &ours)?);
    let may = |one: &&Amendment| AMENDABLE.iter().any(|key| one.key.starts_with(key));
    if let Some(fixed) = changed.iter().find(|one| !may(one)) {
        return Err(other(format!("already holds another study: {fixed}")));
    }
    eprintln!("going on with the study in `{}`", folder.display());
    let mut all: Vec<Amendment> = read_amendments(&changes)?;
    if folder.join("results.json").exists() {
        let told: Vec<Amendment> = changed.iter().filter(|one| !one.key.starts_with(UNTOLD)).cloned().collect();
        if !told.is_empty() {
            all.extend(told);
            write_whole(&changes, &serde_json::to_vec_pretty(&all).expect("amendments are plain data"))?;
        }
    }
    if !changed.is_empty() {
        write_whole(&kept, ours.as_bytes())?;
    }
    Ok(all)
}

fn read_amendments(path: &Path) -> Result<Vec<Amendment>, InputError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(path).map_err(|error| InputError::io(path, "read", &error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        InputError::new(path, format!("is no list of amendments: {error}")).at(Place::Line(error.line()))
    })
}

/// An experiment as keys and values; arms and comparisons go by their names.
fn keys(path: &Path, text: &str) -> Result<BTreeMap<String, String>, InputError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        InputError::new(path, error.message().to_owned())
            .hint("it was written by `undertone ablate`; remove the folder")
    })?;
    let mut keys = BTreeMap::new();
    flatten(String::new(), &toml::Value::Table(table), &mut keys);
    Ok(keys)
}

fn flatten(prefix: String, value: &toml::Value, keys: &mut BTreeMap<String, String>) {
    let text =
        |table: &toml::Table, key: &str| table.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let prefix = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(prefix, value, keys);
            }
        }
        toml::Value::Array(entries) if ["arm", "comparison"].contains(&prefix.as_str()) => {
            for table in entries.iter().filter_map(toml::Value::as_table) {
                let (name, own) = match prefix.as_str() {
                    "arm" => (text(table, "name"), ["name", ""]),
                    _ => (format!("{} − {}", text(table, "b"), text(table, "a")), ["a", "b"]),
                };
                let rest = table.iter().filter(|(key, _)| !own.contains(&key.as_str()));
                let rest: Vec<String> = rest.map(|(key, value)| format!("{key} = {value}")).collect();
                keys.insert(format!("{prefix}.{name}"), rest.join(", "));
            }
        }
        value => {
            keys.insert(prefix, value.to_string());
        }
    }
}

fn amended(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Amendment> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of =
        |key: &String| Amendment { key: key.clone(), before: before.get(key).cloned(), after: after.get(key).cloned() };
    all.into_iter().map(of).filter(|one| one.before != one.after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &str, after: &str) -> Vec<String> {
        let keys = |text: &str| keys(Path::new("x.toml"), text).unwrap();
        amended(&keys(before), &keys(after)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_changed_is_named_by_key_arm_and_comparison() {
        let arm = |name: &str, view: &str| format!("[[arm]]\nname = \"{name}\"\nview = \"{view}\"\n");
        let before = format!("seeds = 1\n[evaluation]\nmargin = 0.01\n{}{}", arm("none", "none"), arm("past", "past"));
        let after = format!("seeds = 3\n[evaluation]\ndraws = 5\n{}{}", arm("past", "reasons"), arm("last", "past"))
            + "[[comparison]]\na = \"past\"\nb = \"last\"\nprimary = true\n";
        assert_eq!(
            told(&before, &after),
            [
                "`arm.last` added (view = \"past\")",
                "`arm.none` taken away (view = \"none\")",
                "`arm.past` from view = \"past\" to view = \"reasons\"",
                "`comparison.last − past` added (primary = true)",
                "`evaluation.draws` added (5)",
                "`evaluation.margin` taken away (0.01)",
                "`seeds` from 1 to 3",
            ]
        );
        assert_eq!(told(&before, &before), [""; 0]);
    }
}
