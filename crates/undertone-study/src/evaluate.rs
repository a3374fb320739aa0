//! Evaluates a checkpoint on held-out users, alone or against another model.

use std::path::{Path, PathBuf};

use serde::Serialize;
use undertone_data::{Access, Source, Split, Stream, Timing, View};
use undertone_files::{InputError, write_whole};
use undertone_model::Decoder;
use undertone_report::{comparison_table, labels_table, metrics_table, verdict};
use undertone_score::{KnownRows, score};
use undertone_stats::{Arms, Comparison, ItemRecord, KindMetrics, Question, Rules, compare, counted, metrics};
use undertone_train::Checkpoint;

use crate::arms::Training;
use crate::base::Base;
use crate::checkpoint::open_checkpoint;
use crate::error::StudyError;
use crate::experiment::{Arm, Experiment, contradiction};
use crate::jobs::predict_thoughts::{read_predicted_thoughts, require_unseen_by_writer};
use crate::jobs::score::record_lines;
use crate::leakage::require_unseen;
use crate::names::BASE;
use crate::results::warnings;
use crate::study::Study;

/// What to evaluate, and how.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Another checkpoint, or `base` for the untrained model.
    pub against: Option<PathBuf>,
    /// Which thoughts are seen, if this differs from training.
    pub access: Option<Access>,
    /// Until when the thoughts must have been written, if this differs from training.
    pub timing: Option<Timing>,
    /// Whose thoughts are seen, if this differs from training.
    pub source: Option<Source>,
    /// Whose conversations are scored.
    pub split: Split,
    /// Where to write one JSON line per item.
    pub records: Option<PathBuf>,
    /// Overrides of the checkpoint's experiment.
    pub overrides: Vec<String>,
}

/// The metrics of one model, or of two with their comparison.
#[derive(Debug, Serialize)]
pub struct EvaluationResult {
    /// What the models saw.
    pub view: String,
    /// Warnings for the reader.
    pub warnings: Vec<String>,
    /// Metrics by kind and model.
    pub metrics: Vec<KindMetrics>,
    /// The checkpoint minus the other model.
    pub comparison: Option<Comparison>,
    /// The comparison in words.
    pub verdict: Option<String>,
}

impl Evaluation {
    /// Scores the checkpoint, and the other model on the same items.
    ///
    /// # Errors
    /// A checkpoint cannot be read, or was trained or selected on users who would be scored; the models cannot be
    /// compared.
    pub fn run(&self) -> Result<EvaluationResult, StudyError> {
        let path = &self.checkpoint;
        let (checkpoint, experiment) = open_checkpoint(path, &self.overrides)?;
        let arm = experiment.arm(Some(&checkpoint.description.arm), path)?;
        let (view, source) = self.shown(arm);
        if let Some((cause, hint)) = self.source.and_then(|source| contradiction(view.access, source)) {
            return Err(InputError::new("--source", cause).hint(hint).into());
        }
        let mut study = Study::prepare(experiment, path, &[(view, source)])?;
        if source == Source::Predicted {
            let thoughts = read_predicted_thoughts(&study)?;
            study.set_predicted(thoughts);
        }
        let experiment = &study.experiment;
        let fold = self.fold(&checkpoint, &study)?;
        let training = Training { fold, seed: checkpoint.description.seed };
        if !study.trainings().contains(&training) {
            let cause = format!("was trained with seed {}, which its experiment does not have", training.seed);
            return Err(InputError::new(path, cause).hint("leave `seed` and `seeds` as they were in training").into());
        }
        let base = Base::load(experiment)?;
        let streams = study.test_streams((view, source), training, self.split);
        if streams.is_empty() {
            let split = format!("{:?}", self.split).to_lowercase();
            return Err(InputError::new(path, format!("its experiment has no {split} users with a target"))
                .hint("choose the other `--split`, or train again with more held-out users")
                .into());
        }
        require_unseen(&checkpoint.description, path, &streams, self.split)?;
        if source == Source::Predicted {
            require_unseen_by_writer(&study, fold, &streams)?;
        }
        let unknown_users = study.read.ids_of_other_shape + study.read.ids_missing;
        let primary = study.primary_items(self.split);
        let scored = |name: &str, decoder: &Decoder| -> Vec<ItemRecord> {
            let row_tokens = experiment.evaluation.row_tokens;
            let mut records = score(decoder, &mut KnownRows::default(), name, &streams, row_tokens, |_| {});
            for record in &mut records {
                record.primary = primary.contains(&record.item);
            }
            records
        };
        let name = path.display().to_string();
        let other = self.other(experiment, &base, &streams)?;
        let ours = scored(&name, &base.restored(experiment, &checkpoint, path)?);
        let other = other.map(|(name, decoder)| scored(&name, &decoder));
        if let Some(path) = &self.records {
            write_whole(path, &record_lines(&[ours.clone(), other.clone().unwrap_or_default()].concat())?)?;
        }
        let family: Vec<Arms<'_>> = other.iter().map(|other| Arms { a: other, b: &ours, primary: true }).collect();
        let rules = Rules { question: Question::TheseModels, ..experiment.decision_rules() };
        let comparison = compare(&family, rules)?.pop();
        let change = if self.is_against_base() { "Training" } else { "Using this checkpoint instead of the other one" };
        Ok(EvaluationResult {
            view: view.to_string(),
            warnings: warnings(
                experiment.data.synthetic,
                unknown_users,
                &study.stats.look_alike_users,
                &[(&name, view)],
            ),
            verdict: comparison.as_ref().map(|comparison| verdict(comparison, change)),
            metrics: metrics(&[ours, other.unwrap_or_default()].concat())
                .map_err(|fault| StudyError::Scores(fault.to_string()))?,
            comparison,
        })
    }

    fn shown(&self, arm: &Arm) -> (View, Source) {
        let (view, source) = arm.shown();
        let access = self.access.unwrap_or(view.access);
        let timing = self.timing.unwrap_or(view.timing);
        (View { access, timing, ..view }, self.source.unwrap_or(source))
    }

    /// The fold of the checkpoint's training, which determines its held-out users.
    fn fold(&self, checkpoint: &Checkpoint, study: &Study) -> Result<usize, InputError> {
        let (fold, folds) = (checkpoint.description.fold, study.folds.len());
        if fold < folds {
            return Ok(fold);
        }
        let cause = format!("was trained in fold {fold}, and its experiment now has {}", counted(folds, "fold"));
        Err(InputError::new(&self.checkpoint, cause).hint("leave `split` and `data` as they were in training"))
    }

    fn is_against_base(&self) -> bool {
        self.against.as_deref() == Some(Path::new(BASE))
    }

    /// The other model with its name.
    fn other(
        &self,
        ours: &Experiment,
        base: &Base,
        streams: &[Stream],
    ) -> Result<Option<(String, Decoder)>, StudyError> {
        let Some(path) = &self.against else { return Ok(None) };
        if self.is_against_base() {
            return Ok(Some((BASE.to_owned(), base.decoder.clone())));
        }
        let (checkpoint, experiment) = open_checkpoint(path, &self.overrides)?;
        let theirs = Experiment { arms: ours.arms.clone(), name: ours.name.clone(), ..experiment.clone() };
        let ours = Experiment { output: theirs.output.clone(), ..ours.clone() };
        if ours != theirs {
            let differ = differences(&ours, &theirs);
            return Err(InputError::new(path, format!("was trained with other values of {differ}"))
                .hint("compare arms of the same experiment")
                .into());
        }
        require_unseen(&checkpoint.description, path, streams, self.split)?;
        Ok(Some((path.display().to_string(), base.restored(&experiment, &checkpoint, path)?)))
    }
}

impl EvaluationResult {
    /// All tables, for a terminal.
    pub fn text(&self) -> String {
        let mut tables = vec![metrics_table(&self.metrics)];
        tables.extend(labels_table(&self.metrics));
        let verdict = self.verdict.as_deref().unwrap_or_default();
        tables.extend(self.comparison.as_ref().map(|comparison| comparison_table(comparison, verdict)));
        tables.iter().map(|table| table.terminal()).collect::<Vec<_>>().join("\n")
    }
}

/// The top-level keys in which two experiments differ.
fn differences(a: &Experiment, b: &Experiment) -> String {
    let table = |experiment: &Experiment| experiment.resolved().parse::<toml::Table>().unwrap_or_default();
    let (a, b) = (table(a), table(b));
    let keys = a.iter().filter(|(key, value)| b.get(*key) != Some(value)).map(|(key, _)| format!("`{key}`"));
    keys.collect::<Vec<_>>().join(", ")
}
