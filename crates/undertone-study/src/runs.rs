//! What lies in a folder of runs: studies, the state of their trainings, scores, and what distinguishes the studies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use undertone_files::{FolderLock, InputError, read_regular};
use undertone_train::{BEST, Best, Description, LAST, read_log};

use crate::names::{REPLIES, RESULTS, STAGES, WRITERS};

/// How deep studies lie below the folder, at most.
const DEPTH: usize = 6;

/// The trainings of one study.
#[derive(Debug, Serialize)]
pub struct StudyRuns {
    /// The study's folder.
    pub folder: PathBuf,
    /// Its trainings, by folder.
    pub trainings: Vec<TrainingRun>,
    /// The keys of its experiment that are not the same in all studies of the list, with their values as TOML.
    pub differing: BTreeMap<String, String>,
    /// All keys of its experiment, with their values as TOML.
    #[serde(skip)]
    pub keys: BTreeMap<String, String>,
    /// The verdict of its primary comparison, in words, if it has results.
    pub verdict: Option<String>,
}

/// One training.
#[derive(Debug, Serialize)]
pub struct TrainingRun {
    /// Its folder, relative to the study's.
    pub place: PathBuf,
    /// Whether it goes on.
    pub state: RunState,
    /// Steps taken.
    pub steps: usize,
    /// The training loss of the last step that was logged, in nats per token.
    pub loss: Option<f64>,
    /// The lowest validation loss, in nats per token, and when it was measured.
    pub best: Option<Best>,
    /// The loss of its arm on all held-out users, in nats per token of next messages (or of the first kind of target).
    pub test: Option<f64>,
}

/// Whether a training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// A process trains it.
    Running,
    /// All steps are taken, or it stopped early.
    Finished,
    /// It can be resumed.
    Stopped,
    /// It has no checkpoint that can be read.
    NoCheckpoint,
}

impl RunState {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::NoCheckpoint => "no checkpoint",
        }
    }
}

/// Every study below a folder, by path. Reads headers, logs and results only, and changes nothing.
///
/// # Errors
/// The folder cannot be read, or there is no training below it.
pub fn runs(folder: &Path) -> Result<Vec<StudyRuns>, InputError> {
    std::fs::read_dir(folder).map_err(|error| InputError::io(folder, "read", &error))?;
    let mut places = Vec::new();
    find_trainings(folder, DEPTH, &mut places);
    let mut by_study: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for place in places {
        by_study.entry(study_of(&place).unwrap_or(folder).to_owned()).or_default().push(place);
    }
    if by_study.is_empty() {
        return Err(InputError::new(folder, "has no trainings in it")
            .hint("name a folder of runs, such as `checkpoints`, or of one study"));
    }
    let mut studies: Vec<StudyRuns> = Vec::new();
    for (folder, places) in by_study {
        let results = results(&folder);
        let mut experiment = None;
        let trainings =
            places.iter().map(|place| training(&folder, place, results.as_ref(), &mut experiment)).collect();
        let verdict = results.as_ref().and_then(|results| results["verdicts"][0].as_str().map(str::to_owned));
        let keys = flat(&experiment.unwrap_or_default());
        studies.push(StudyRuns { folder, trainings, differing: BTreeMap::new(), keys, verdict });
    }
    let all: BTreeSet<String> = studies.iter().flat_map(|study| study.keys.keys().cloned()).collect();
    let differs = |key: &&String| studies.iter().any(|study| study.keys.get(*key) != studies[0].keys.get(*key));
    let named: Vec<String> =
        all.iter().filter(differs).filter(|key| *key != "name" && *key != "output").cloned().collect();
    for study in &mut studies {
        let value = |key: &String| (key.clone(), study.keys.get(key).cloned().unwrap_or_else(|| "–".to_owned()));
        study.differing = named.iter().map(value).collect();
    }
    Ok(studies)
}

/// The study of a training, which lies in STUDY/ARM/foldN, or in a folder of the study for other models: STUDY/stages/NAME/fold0,
/// STUDY/writers/fold0/NAME, STUDY/replies-N/ARM/foldN.
fn study_of(place: &Path) -> Option<&Path> {
    let is_inside = |study: &&Path| {
        let name = study.file_name().unwrap_or_default().to_string_lossy();
        [STAGES, WRITERS].contains(&&*name) || name.starts_with(REPLIES)
    };
    place.ancestors().skip(2).find(|study| !is_inside(study))
}

/// The folders of trainings below a folder, in order; those that cannot be read are passed over.
fn find_trainings(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if [LAST, BEST, "log.jsonl"].iter().any(|name| folder.join(name).is_file()) {
        found.push(folder.to_owned());
        return;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut inside: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect();
    inside.sort();
    for path in inside.into_iter().filter(|_| depth > 0) {
        find_trainings(&path, depth - 1, found);
    }
}

fn training(study: &Path, place: &Path, results: Option<&Value>, experiment: &mut Option<String>) -> TrainingRun {
    let description = [LAST, BEST].iter().find_map(|name| Description::read(&place.join(name)).ok());
    let last = read_log(place).unwrap_or_default().pop();
    let arm = place.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let state = match &description {
        Some(description) if description.state.finished => RunState::Finished,
        // `train` holds the folder of its training, and `ablate` that of its study.
        _ if FolderLock::is_held(place) || FolderLock::is_held(study) => RunState::Running,
        Some(_) => RunState::Stopped,
        None => RunState::NoCheckpoint,
    };
    let metrics = results.and_then(|results| results["metrics"].as_array());
    let of_arm = |metrics: &&Value| metrics["arm"] == *arm;
    let place_in_study = place.strip_prefix(study).unwrap_or(place);
    let is_of_arm = place_in_study.components().count() <= 2;
    let test =
        metrics.filter(|_| is_of_arm).and_then(|metrics| metrics.iter().find(of_arm)?["nats_per_token"].as_f64());
    let run = TrainingRun {
        place: place_in_study.to_owned(),
        state,
        steps: last.as_ref().map(|last| last.step).or(description.as_ref().map(|it| it.state.step)).unwrap_or(0),
        loss: last.map(|last| last.loss_nats_per_token).filter(|loss| loss.is_finite()),
        best: description.as_ref().and_then(|description| description.state.best),
        test,
    };
    if experiment.is_none() && is_of_arm {
        *experiment = description.map(|description| description.experiment);
    }
    run
}

fn results(study: &Path) -> Option<Value> {
    serde_json::from_slice(&read_regular(&study.join(RESULTS)).ok()?).ok()
}

/// The keys of a TOML document, such as `training.epochs`, with their values.
fn flat(document: &str) -> BTreeMap<String, String> {
    fn add(prefix: &str, value: &toml::Value, keys: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    add(&key, value, keys);
                }
            }
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
                for (index, item) in items.iter().enumerate() {
                    let name = item.get("name").and_then(toml::Value::as_str).map_or(index.to_string(), str::to_owned);
                    add(&format!("{prefix}.{name}"), item, keys);
                }
            }
            value => drop(keys.insert(prefix.to_owned(), value.to_string())),
        }
    }
    let mut keys = BTreeMap::new();
    if let Ok(value) = document.parse::<toml::Table>() {
        add("", &toml::Value::Table(value), &mut keys);
    }
    keys
}
