//! Whose a folder is, and what was changed in its study after there were results.
//!
//! A folder belongs to one study: its data, base model and trainings. What is compared and measured may change, and what is
//! finished and not touched by it is not done again. But a rule that was changed by somebody who had seen results is no rule
//! fixed beforehand: the report names every such change, and a comparison that became primary so is corrected like the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_data::{InputError, Place, write_whole};
use undertone_train::Description;

use crate::base::Base;
use crate::experiment::Experiment;
use crate::keys::PROGRAM;
use crate::report::primary_pair;
use crate::study::Study;

/// Beginnings of keys that may change in a study that has begun.
const AMENDABLE: [&str; 4] = ["evaluation.", "arm", "comparison", "seeds"];

/// Where the judge is, whoever it is.
const UNTOLD: [&str; 2] = ["evaluation.judge.url", "evaluation.judge.api_key_variable"];

/// What an amendment of the primary comparison goes by, whether a file declares it or not.
const PRIMARY: &str = "comparison, the primary one";

/// What each text in a folder is called.
const KEPT: &str = "experiment.toml";
const AMENDED: &str = "amendments.json";

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

impl Amendment {
    /// Whether it made another comparison the primary one.
    pub(crate) fn is_of_primary(&self) -> bool {
        self.key == PRIMARY
    }
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

/// A folder that this study may go on in.
pub(crate) struct Claim {
    /// The experiment, with whatever else a study is.
    text: String,
    /// Whether the folder holds it already.
    is_kept: bool,
    has_begun: bool,
    /// All that was amended since there were scores.
    pub(crate) amendments: Vec<Amendment>,
}

/// Looks whether the folder is free or this study's; changes nothing.
///
/// # Errors
/// The folder holds another study: says what differs; an arm in it was trained otherwise.
pub(crate) fn look(study: &Study, base: &Base) -> Result<Claim, InputError> {
    let folder = study.experiment.folder();
    let kept = folder.join(KEPT);
    let header = [
        ("program", PROGRAM.to_owned()),
        ("data", format!("sha256 {}", study.data_sha256)),
        ("base model", format!("sha256 {}", base.sha256)),
    ];
    let header: String = header.iter().map(|(what, is)| format!("# {what}: {is}\n")).collect();
    let text = format!("{header}\n{}", study.experiment.resolved());
    let other = |cause: String| {
        InputError::new(&folder, cause).hint(
            "choose another name with `--set name=…`, or remove the folder; comparisons, `seeds`, `[evaluation]` and further arms may change",
        )
    };
    let has_scores = has_scores(&folder);
    if !kept.exists() {
        return match has_scores {
            true => Err(other(format!("holds scores without the `{KEPT}` that says whose they are"))),
            false => Ok(Claim { text, is_kept: false, has_begun: false, amendments: Vec::new() }),
        };
    }
    let theirs = std::fs::read_to_string(&kept).map_err(|error| InputError::io(&kept, "read", &error))?;
    for (line, earlier) in header.lines().zip(theirs.lines().map(Some).chain(std::iter::repeat(None))) {
        if Some(line) != earlier {
            let what = line.trim_start_matches("# ").split(':').next().unwrap_or_default();
            return Err(other(format!("already holds another study: its {what} differs")));
        }
    }
    let mut changed = amended(&keys(&kept, &theirs)?, &keys(&kept, &text)?);
    let may = |one: &&Amendment| AMENDABLE.iter().any(|key| one.key.starts_with(key));
    if let Some(fixed) = changed.iter().find(|one| !may(one)) {
        return Err(other(format!("already holds another study: {fixed}")));
    }
    if let Some(trained) = trained_otherwise(study, base) {
        return Err(other(format!("already holds another study: {trained} was trained on something else")));
    }
    let [before, after] = [&Experiment::from_resolved(&kept, &theirs)?, &study.experiment].map(primary);
    if before != after {
        changed.push(Amendment { key: PRIMARY.into(), before: Some(before), after: Some(after) });
    }
    changed.retain(|one| has_scores && !UNTOLD.contains(&one.key.as_str()));
    let mut amendments = read_amendments(&folder.join(AMENDED))?;
    amendments.extend(changed);
    Ok(Claim { is_kept: text == theirs, text, has_begun: true, amendments })
}

impl Claim {
    /// Makes the folder that of this study, or goes on with it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn take(self, folder: &Path) -> Result<Vec<Amendment>, InputError> {
        if self.has_begun {
            eprintln!("going on with the study in `{}`", folder.display());
        }
        if !self.is_kept {
            // What is told is told before it can be forgotten.
            if !self.amendments.is_empty() {
                let amendments = serde_json::to_vec_pretty(&self.amendments).expect("amendments are plain data");
                write_whole(&folder.join(AMENDED), &amendments)?;
            }
            write_whole(&folder.join(KEPT), self.text.as_bytes())?;
        }
        Ok(self.amendments)
    }
}

/// Whether somebody may have seen how an arm of the study in a folder scored.
fn has_scores(folder: &Path) -> bool {
    let inside = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_arm = |arm: &Path| inside(arm).any(|training| training.join("records.jsonl").exists());
    folder.join("results.json").exists() || inside(folder).any(|arm| of_arm(&arm))
}

/// The first training in the folder that is not the one that this study asks for.
fn trained_otherwise(study: &Study, base: &Base) -> Option<String> {
    let experiment = &study.experiment;
    let own = experiment.arms.iter().filter(|arm| experiment.trained(arm).name == arm.name);
    let of_arm = |arm| study.trainings().into_iter().map(move |training| (arm, training));
    let trainings = own.flat_map(of_arm).map(|(arm, training)| {
        let key = study.training_key(arm, training, base);
        (format!("the arm `{}`", arm.name), study.folder(&arm.name, training), key)
    });
    let writers = study.writer_runs(base).into_iter();
    let writers = writers.map(|(folder, key)| ("a writer of thoughts".to_owned(), folder, key));
    let is_other = |(_, folder, key): &(String, std::path::PathBuf, String)| {
        Description::peek(&folder.join("last.safetensors")).is_some_and(|last| last.training_key != *key)
    };
    trainings.chain(writers).find(is_other).map(|(what, ..)| what)
}

/// The comparison that an experiment is made for, in words.
fn primary(experiment: &Experiment) -> String {
    let [a, b] = primary_pair(experiment).map(|arm| arm.map_or("nothing", |arm| &arm.name));
    format!("{b} − {a}")
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

/// An experiment as keys and values; arms and comparisons go by their names, and their order is a value too.
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
            let mut names = Vec::new();
            for table in entries.iter().filter_map(toml::Value::as_table) {
                let (name, own) = match prefix.as_str() {
                    "arm" => (text(table, "name"), ["name", ""]),
                    _ => (format!("{} − {}", text(table, "b"), text(table, "a")), ["a", "b"]),
                };
                let rest = table.iter().filter(|(key, _)| !own.contains(&key.as_str()));
                let rest: Vec<String> = rest.map(|(key, value)| format!("{key} = {value}")).collect();
                keys.insert(format!("{prefix}.{name}"), rest.join(", "));
                names.push(name);
            }
            keys.insert(prefix, names.join(", "));
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
                "`arm` from none, past to past, last",
                "`arm.last` added (view = \"past\")",
                "`arm.none` taken away (view = \"none\")",
                "`arm.past` from view = \"past\" to view = \"reasons\"",
                "`comparison` added (last − past)",
                "`comparison.last − past` added (primary = true)",
                "`evaluation.draws` added (5)",
                "`evaluation.margin` taken away (0.01)",
                "`seeds` from 1 to 3",
            ]
        );
        assert_eq!(told(&before, &before), [""; 0]);
        // Without comparisons, the order of arms says which are compared.
        let [one, other] = [("none", "past"), ("past", "none")].map(|(a, b)| arm(a, "none") + &arm(b, "none"));
        assert_eq!(told(&one, &other), ["`arm` from none, past to past, none"]);
    }
}
