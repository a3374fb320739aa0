//! Which study a folder belongs to, and what changed in the study after there were results.
//!
//! A folder belongs to one study: its data, base model and trainings. Comparisons and measurements may change, and
//! finished work that does not depend on the change is kept. But a rule that changes after there are results is not
//! fixed beforehand: the report names every such change, and a comparison that becomes primary this way is corrected
//! like the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use undertone_files::{InputError, Sealed, read_sealed_text, write_sealed_text};
use undertone_stats::counted;
use undertone_train::{Description, LAST};

use crate::begun::Begun;
use crate::context::Context;
use crate::experiment::{Arm, Experiment};
use crate::fingerprint::{self, PROGRAM};
use crate::jobs::predict_thoughts::writer_runs;
use crate::names::{RECORDS, RESULTS, STAGES};

/// Prefixes of the keys that may change in a study that has begun.
const AMENDABLE: [&str; 9] = [
    "evaluation.",
    "arm",
    "comparison",
    "seeds",
    "split.repeats",
    "data.assistant_tokens",
    "training.keep_",
    "training.save_every_steps",
    "training.max_skipped_steps",
];

/// Keys whose changes the report does not name: how to reach the judge, and which checkpoints are kept.
const UNMENTIONED: [&str; 6] = [
    "evaluation.judge.url",
    "evaluation.judge.api_key_variable",
    "training.save_every_steps",
    "training.keep_last",
    "training.keep_best",
    "training.keep_every_steps",
];

/// The key of an amendment that changes the primary comparison, declared or not.
const PRIMARY: &str = "primary comparison";

/// The key of the margin of a tie.
const MARGIN: &str = "evaluation.margin";

/// The file with the experiment of a folder.
pub(crate) const CLAIMED: &str = "experiment.toml";
/// The file with the amendments of a folder.
pub(crate) const AMENDED: &str = "amendments.json";

/// A key of the experiment that changed after there were results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amendment {
    key: String,
    /// `None` if the key was added.
    before: Option<String>,
    /// `None` if the key was removed.
    after: Option<String>,
}

impl Amendment {
    /// Whether it changed the primary comparison, its items, or the number of trainings that decide it.
    pub(crate) fn is_of_primary(&self) -> bool {
        [PRIMARY, "seeds", "split.repeats"].contains(&self.key.as_str())
    }

    /// Whether it changed the margin of a tie.
    pub(crate) fn is_of_margin(&self) -> bool {
        self.key == MARGIN
    }
}

impl std::fmt::Display for Amendment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, before, after } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "`{key}` from {before} to {after}"),
            (None, Some(after)) => write!(f, "`{key}` added ({after})"),
            (Some(before), None) => write!(f, "`{key}` removed ({before})"),
            (None, None) => write!(f, "`{key}`"),
        }
    }
}

/// A folder that is free or belongs to this study.
pub(crate) struct OwnFolder {
    /// The text of the experiment file: a header that identifies the study, and the experiment.
    text: String,
    /// Whether the folder holds this text already.
    is_written: bool,
    has_begun: bool,
    /// What the study fixes, if the folder does not say so already.
    fixed: Option<Begun>,
    /// All amendments after the first scores.
    amendments: Vec<Amendment>,
}

/// Checks that a study's folder is free or belongs to it; changes nothing.
///
/// # Errors
/// The folder holds another study, or an arm in it was trained differently; the error says what differs.
pub(crate) fn check_folder(context: &Context<'_>) -> Result<OwnFolder, InputError> {
    let Context { study, base, .. } = context;
    let folder = study.experiment.folder();
    let path = folder.join(CLAIMED);
    let header = [
        ("program", PROGRAM.to_owned()),
        ("data", format!("sha256 {}", study.data_sha256)),
        ("base model", format!("sha256 {}", base.sha256)),
    ];
    let header: String = header.iter().map(|(what, is)| format!("# {what}: {is}\n")).collect();
    let text = format!("{header}\n{}", study.experiment.resolved());
    let other = |cause: String| {
        InputError::new(&folder, cause).hint(
            "choose another name with `--set name=…`, or remove the folder; a study that has begun may change its comparisons, `seeds`, `split.repeats`, `[evaluation]` and arms",
        )
    };
    let has_scores = has_scores(&folder);
    let fixed = study.fixed();
    if !path.exists() {
        return match has_scores {
            true => Err(other(format!("holds scores without the `{CLAIMED}` that says which study they belong to"))),
            false => {
                Ok(OwnFolder { text, is_written: false, has_begun: false, fixed: Some(fixed), amendments: Vec::new() })
            }
        };
    }
    let before = read_sealed_text(&path)?;
    for (line, earlier) in header.lines().zip(before.lines().map(Some).chain(std::iter::repeat(None))) {
        if Some(line) != earlier {
            let (what, now) = line.trim_start_matches("# ").split_once(": ").unwrap_or_default();
            return Err(other(match (what, earlier.and_then(|line| line.split_once(": "))) {
                ("program", Some((_, earlier))) => {
                    format!("holds a study of program version `{earlier}`; this version, `{now}`, cannot resume it")
                }
                _ => format!("already holds another study: its {what} differs"),
            }));
        }
    }
    let mut changed = amended(&keys(&path, &before)?, &keys(&path, &text)?);
    let may = |one: &&Amendment| AMENDABLE.iter().any(|key| one.key.starts_with(key));
    if let Some(fixed) = changed.iter().find(|one| !may(one)) {
        return Err(other(format!("already holds another study; changed: {fixed}")));
    }
    if let Some(trained) = trained_otherwise(context) {
        return Err(other(format!("already holds another study: {trained} was trained with other data or settings")));
    }
    let [earlier, now] = [&Experiment::from_resolved(&path, &before)?, &study.experiment].map(primary);
    if earlier != now {
        changed.push(Amendment { key: PRIMARY.into(), before: Some(earlier), after: Some(now) });
    }
    let before_fixed = Begun::read(&study.experiment, &study.data_sha256)?;
    if let Some(before) = before_fixed.as_ref().filter(|before| before.primary != fixed.primary) {
        let in_words = |begun: &Begun| counted(begun.primary.len(), "primary item");
        let (before, after) = (Some(in_words(before)), Some(in_words(&fixed)));
        changed.push(Amendment { key: PRIMARY.into(), before, after });
    }
    changed.retain(|one| has_scores && !UNMENTIONED.contains(&one.key.as_str()));
    let amended_before = folder.join(AMENDED);
    let mut amendments: Vec<Amendment> =
        if amended_before.exists() { Sealed::read(&amended_before)? } else { Vec::new() };
    amendments.extend(changed);
    let fixed = (before_fixed.as_ref() != Some(&fixed)).then_some(fixed);
    Ok(OwnFolder { is_written: text == before, text, has_begun: true, fixed, amendments })
}

impl OwnFolder {
    /// Claims the folder for this study, or continues the study in it; returns all amendments.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn claim(self, experiment: &Experiment) -> Result<Vec<Amendment>, InputError> {
        let folder = &experiment.folder();
        if self.has_begun {
            tracing::info!("resuming the study in `{}`", folder.display());
        }
        if !self.is_written {
            // Amendments are written first, so that a kill between the two writes does not lose them.
            if !self.amendments.is_empty() {
                Sealed::write(&folder.join(AMENDED), self.amendments.clone())?;
            }
            write_sealed_text(&folder.join(CLAIMED), &self.text)?;
        }
        if let Some(fixed) = &self.fixed {
            fixed.write(experiment)?;
        }
        Ok(self.amendments)
    }
}

/// The entries of a folder; none if it cannot be read.
fn inside(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether a training of some arm in the folder has this file.
fn some_training_has(folder: &Path, file: &str) -> bool {
    inside(folder).any(|arm| inside(&arm).any(|training| training.join(file).exists()))
}

/// Whether the folder has trained models, which somebody may have scored.
pub(crate) fn has_trainings(folder: &Path) -> bool {
    some_training_has(folder, LAST) || some_training_has(&folder.join(STAGES), LAST)
}

/// Whether the folder has scores that somebody may have seen.
pub(crate) fn has_scores(folder: &Path) -> bool {
    folder.join(RESULTS).exists() || some_training_has(folder, RECORDS)
}

/// Names the first training in the folder that differs from the training of this study.
fn trained_otherwise(context: &Context<'_>) -> Option<String> {
    let Context { study, base, .. } = context;
    let trained = study.experiment.trained_arms();
    let pairs = trained.flat_map(|arm| study.trainings().into_iter().map(move |training| (arm, training)));
    let trainings = pairs.map(|(arm, training)| {
        let fingerprint = fingerprint::of_training(study, base, arm, training);
        (format!("the arm `{}`", arm.name), study.training_folder(&arm.name, training), fingerprint)
    });
    let writers = writer_runs(context).into_iter();
    let writers =
        writers.map(|(folder, fingerprint)| ("a model that predicts thoughts".to_owned(), folder, fingerprint));
    let stages = study.stages().map(|stage| {
        let (arm, _) = stage.training();
        (format!("the stage `{}`", arm.name), stage.folder(), stage.key.clone())
    });
    let is_other = |(_, folder, fingerprint): &(String, PathBuf, String)| {
        // An unreadable checkpoint is reported by the training that needs it.
        Description::read(&folder.join(LAST)).is_ok_and(|last| last.training_key != *fingerprint)
    };
    stages.chain(trainings).chain(writers).find(is_other).map(|(what, ..)| what)
}

/// An arm with everything that decides its scores, unless the arm is trained itself: then its training is checked.
fn arm_in_words(experiment: &Experiment, arm: &Arm) -> String {
    let model = experiment.trained(arm).name;
    match model == arm.name {
        true => arm.name.clone(),
        false => format!("{} (the model of {model}, shown {}, {:?})", arm.name, arm.shown().0, arm.source),
    }
}

/// The primary comparison of an experiment, in words.
fn primary(experiment: &Experiment) -> String {
    let [a, b] = experiment
        .primary_pair()
        .map(|arm| arm.map_or_else(|| "nothing".to_owned(), |arm| arm_in_words(experiment, arm)));
    format!("{b} − {a}")
}

/// An experiment as keys and values. Stages, arms and comparisons are keyed by name, and their order is a value too.
fn keys(path: &Path, text: &str) -> Result<BTreeMap<String, String>, InputError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        InputError::new(path, error.message().to_owned())
            .hint("`undertone ablate` wrote this file, and it has been changed since; restore it, or remove the folder")
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
        toml::Value::Array(entries) if ["stage", "arm", "comparison"].contains(&prefix.as_str()) => {
            let mut names = Vec::new();
            for table in entries.iter().filter_map(toml::Value::as_table) {
                let (name, own) = match prefix.as_str() {
                    "stage" | "arm" => (text(table, "name"), ["name", ""]),
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
    let change =
        |key: &String| Amendment { key: key.clone(), before: before.get(key).cloned(), after: after.get(key).cloned() };
    all.into_iter().map(change).filter(|one| one.before != one.after).collect()
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
                "`arm.none` removed (view = \"none\")",
                "`arm.past` from view = \"past\" to view = \"reasons\"",
                "`comparison` added (last − past)",
                "`comparison.last − past` added (primary = true)",
                "`evaluation.draws` added (5)",
                "`evaluation.margin` removed (0.01)",
                "`seeds` from 1 to 3",
            ]
        );
        assert_eq!(told(&before, &before), [""; 0]);
        // Without declared comparisons, the order of the arms decides which are compared.
        let [one, other] = [("none", "past"), ("past", "none")].map(|(a, b)| arm(a, "none") + &arm(b, "none"));
        assert_eq!(told(&one, &other), ["`arm` from none, past to past, none"]);
    }
}
