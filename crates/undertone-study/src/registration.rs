//! Registration: what a study fixes before anything is trained, written down so that a reader can check it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use undertone_files::{FolderLock, InputError, Sealed};

use crate::amendments::{check_folder, has_scores, has_trainings};
use crate::context::Context;
use crate::digest::sha256_of_json;
use crate::error::StudyError;
use crate::experiment::Arm;
use crate::fingerprint::PROGRAM;
use crate::power::Power;

/// The file with the registration of a folder.
pub(crate) const REGISTERED: &str = "registration.json";

/// What a study fixes before anything is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registration {
    /// When it was registered, in UTC.
    registered_at: String,
    /// The program's version.
    program: String,
    /// SHA-256 over the data files.
    data_sha256: String,
    /// SHA-256 of the untrained model.
    base_model_sha256: String,
    /// The arms a and b of the primary comparison.
    primary_comparison: [Option<String>; 2],
    /// SHA-256 of the ids of the primary items, and their number.
    primary_items: (String, usize),
    /// SHA-256 of the ids of all test items, and their number.
    items: (String, usize),
    /// The decision rules.
    rules: Value,
    /// Arms, comparisons, targets, split, seeds, training and evaluation: the experiment without its name and folder.
    experiment: Value,
    /// The power that was planned.
    planned: Value,
}

impl Registration {
    fn now(context: &Context<'_>) -> Self {
        let Context { study, base, .. } = context;
        let experiment = &study.experiment;
        let name = |arm: Option<&Arm>| arm.map(|arm| arm.name.clone());
        let fixed = study.fixed();
        let shown = experiment.arms[0].shown();
        let targets = study.tested_once(shown).flat_map(|stream| stream.targets);
        let mut items: Vec<String> = targets.map(|target| target.item.to_string()).collect();
        items.sort();
        items.dedup();
        let mut keys = serde_json::to_value(experiment).expect("plain data");
        for unfixed in ["name", "output", "device"] {
            keys.as_object_mut().expect("an experiment is a table").remove(unfixed);
        }
        let at = Timestamp::now().round(Unit::Second).unwrap_or_default();
        Self {
            registered_at: at.to_string(),
            program: PROGRAM.to_owned(),
            data_sha256: study.data_sha256.clone(),
            base_model_sha256: base.sha256.clone(),
            primary_comparison: experiment.primary_pair().map(name),
            primary_items: (sha256_of_json(&fixed.primary), fixed.primary.len()),
            items: (sha256_of_json(&items), items.len()),
            rules: json!(experiment.decision_rules()),
            experiment: keys,
            planned: json!(Power::of(study)),
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, InputError> {
        if !path.exists() {
            return Ok(None);
        }
        Sealed::read(path).map(Some)
    }

    /// What differs between a registration and the study now, as keys with both values.
    fn differences(&self, now: &Self) -> Vec<String> {
        let [before, after] = [self, now].map(|one| serde_json::to_value(one).expect("plain data"));
        let mut found = Vec::new();
        compare("", &before, &after, &mut found);
        found
    }
}

/// The names and values in which two JSON values differ; the time and the planned power are left out.
fn compare(key: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if ["registered_at", "planned"].contains(&key) || before == after {
        return;
    }
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for name in keys {
                let inside = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                let value = |table: &Map<String, Value>| table.get(name).cloned().unwrap_or(Value::Null);
                compare(&inside, &value(one), &value(other), found);
            }
        }
        _ => found.push(format!("`{key}` was {before} and is {after}")),
    }
}

/// Registers a study in its folder; nothing is trained. A study that is registered already, in the same way, stays as it is.
///
/// # Errors
/// There are trainings or scores already; the folder holds another study, or another registration; another process
/// writes in it.
pub fn register(context: &Context<'_>) -> Result<PathBuf, StudyError> {
    let folder = context.study.experiment.folder();
    let path = folder.join(REGISTERED);
    let _lock = FolderLock::exclusive(&folder)?;
    let own = check_folder(context)?;
    let now = Registration::now(context);
    if let Some(before) = Registration::read(&path)? {
        let differences = before.differences(&now);
        return match differences.first() {
            None => Ok(path),
            Some(first) => Err(InputError::new(&path, format!("registers another study: {first}"))
                .hint("a registration is not changed; choose another name with `--set name=…`")
                .into()),
        };
    }
    if has_scores(&folder) || has_trainings(&folder) {
        return Err(InputError::new(&folder, "holds trainings or scores, and a registration comes before them")
            .hint("register a new study under another name, on other users")
            .into());
    }
    own.claim(&context.study.experiment)?;
    Sealed::write(&path, now)?;
    Ok(path)
}

/// Whether the study was registered before it was trained, and what differs now, in sentences.
///
/// # Errors
/// The registration cannot be read.
pub(crate) fn in_words(context: &Context<'_>) -> Result<Vec<String>, InputError> {
    let path = context.study.experiment.folder().join(REGISTERED);
    let Some(before) = Registration::read(&path)? else {
        return Ok(vec!["Not registered before it was trained (`--register`).".to_owned()]);
    };
    let differences = before.differences(&Registration::now(context));
    let mut words = vec![match differences.is_empty() {
        true => format!(
            "Registered at {}, before anything was trained in its folder, and unchanged since.",
            before.registered_at
        ),
        false => format!(
            "Registered at {}, before anything was trained in its folder. Since then: {}.",
            before.registered_at,
            differences.join("; ")
        ),
    }];
    if before.planned.is_object() {
        words.push(format!("Planned: a difference of {} nats per token.", before.planned["assumed"]["difference"]));
    }
    Ok(words)
}
