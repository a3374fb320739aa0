//! What determines a result, as a hash: with the same key, the same bytes.
//!
//! A training carries its key in its checkpoints, and one of another key is never overwritten. Everything else that is kept in a
//! folder is a [`Kept`], whose key stands in the folder's `keys.json`: what was made of something else is made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use undertone_data::{InputError, Source, Split, write_whole};

use crate::base::Base;
use crate::digest::sha256_hex;
use crate::experiment::{Arm, EvaluationSection, Experiment};
use crate::predicted::sampling_of_thoughts;
use crate::study::{Evaluated, Study, Training};
use crate::writing::Writer;

/// Which program lays conversations out and computes: results of another one are not taken for ours.
pub(crate) const PROGRAM: &str = concat!("undertone ", env!("CARGO_PKG_VERSION"), ", layout 3, operators 5");

/// Where a folder says what its files are made of.
const KEYS: &str = "keys.json";

/// A file of results, and what it is made of.
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    pub(crate) key: String,
}

impl Kept {
    pub(crate) fn new(path: PathBuf, key: String) -> Self {
        Self { path, key }
    }

    /// Whether the file is there, whole, and made of the same.
    pub(crate) fn is_there(&self) -> bool {
        self.path.exists() && self.keys().get(&self.name()) == Some(&self.key)
    }

    /// The folder it lies in, where a stopped program goes on.
    pub(crate) fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Writes the file, and what it is made of.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), InputError> {
        let (path, mut keys) = (self.path.with_file_name(KEYS), self.keys());
        let save = |keys: &BTreeMap<String, String>| {
            write_whole(&path, &serde_json::to_vec_pretty(keys).expect("keys are plain data"))
        };
        // Whoever is stopped on the way leaves a file without a key, never one with another's.
        if keys.remove(&self.name()).is_some() {
            save(&keys)?;
        }
        write_whole(&self.path, bytes)?;
        keys.insert(self.name(), self.key.clone());
        save(&keys)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The keys of the folder; without a legible file, none.
    fn keys(&self) -> BTreeMap<String, String> {
        let bytes = std::fs::read(self.path.with_file_name(KEYS)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

impl Study {
    /// What determines the weights of an arm's training.
    pub(crate) fn training_key(&self, arm: &Arm, training: Training, base: &Base) -> String {
        let Training { fold, seed } = training;
        let arm = Arm {
            name: String::new(),
            trained_as: None,
            targets: Some(self.experiment.training_targets(arm)),
            ..arm.clone()
        };
        let splits = [Split::Train, Split::Validation];
        let (predicted, windows) = (self.predicted_by(arm.source, fold, &splits, base), self.windows(fold, &splits));
        let of_arm = self.experiment.of_arm(arm, EvaluationSection::default());
        self.key("training", &[&windows, &of_arm, &predicted, &fold.to_string(), &seed.to_string()], base)
    }

    /// The scores of an arm in a fold.
    pub(crate) fn records(&self, evaluated: &Evaluated, training: Training, base: &Base) -> Kept {
        let EvaluationSection { row_tokens, distractors, .. } = self.experiment.evaluation;
        let evaluation = EvaluationSection { row_tokens, distractors, ..EvaluationSection::default() };
        let key = self.key("records", &[&self.shown_to(evaluated, evaluation, training, base)], base);
        Kept::new(self.folder(&evaluated.name, training).join("records.jsonl"), key)
    }

    /// What an arm writes in a fold.
    pub(crate) fn written(&self, evaluated: &Evaluated, training: Training, base: &Base, writer: &Writer) -> Kept {
        let shown = self.shown_to(evaluated, EvaluationSection::default(), training, base);
        let sampling = format!("{:?}", self.experiment.evaluation.writing.sampling(self.experiment.seed));
        let key = self.key("written", &[&shown, &sampling, &writer.identity()], base);
        Kept::new(self.folder(&evaluated.name, training).join("written.jsonl"), key)
    }

    /// The first messages that a training makes up, or the untrained model where there is none.
    pub(crate) fn made_up(&self, name: &str, trained: Option<&Arm>, training: Training, base: &Base) -> Kept {
        let model = trained.map(|arm| self.training_key(arm, training, base)).unwrap_or_default();
        let writing = &self.experiment.evaluation.writing;
        let how = format!("{} {} {}", writing.first_messages, writing.max_new_tokens, training.seed);
        let key = self.key("first messages", &[&model, &how, &self.experiment.data.system], base);
        Kept::new(self.folder(name, training).join("first_messages.json"), key)
    }

    /// The thoughts that are predicted in a fold.
    pub(crate) fn predicted(&self, fold: usize, base: &Base) -> Kept {
        let all = [Split::Train, Split::Validation, Split::Test];
        Kept::new(self.predicted_path(fold), self.predicted_by(Source::Predicted, fold, &all, base))
    }

    /// What determines the weights of a fold's writers of thoughts.
    pub(crate) fn writers_key(&self, fold: usize, base: &Base) -> String {
        let of_arm = self.experiment.of_arm(self.writer_arm(), EvaluationSection::default());
        self.key("writers", &[&self.windows(fold, &[Split::Train]), &of_arm, &fold.to_string()], base)
    }

    /// What determines what an arm is shown in testing, and the model that it is shown to.
    fn shown_to(
        &self,
        evaluated: &Evaluated,
        evaluation: EvaluationSection,
        training: Training,
        base: &Base,
    ) -> String {
        let (view, source) = evaluated.shown;
        let arm = Arm { view: view.access, timing: view.timing, source, ..Arm::default() };
        let model = evaluated.trained.as_ref().map(|arm| self.training_key(arm, training, base)).unwrap_or_default();
        let splits = [Split::Test];
        let predicted = self.predicted_by(source, training.fold, &splits, base);
        let windows = self.windows(training.fold, &splits);
        sha256_hex([model, self.experiment.of_arm(arm, evaluation), predicted, windows].join("\0").as_bytes())
    }

    /// What determines the thoughts that are predicted in some splits; nothing for arms that see others.
    fn predicted_by(&self, source: Source, fold: usize, splits: &[Split], base: &Base) -> String {
        if source != Source::Predicted {
            return String::new();
        }
        let how = format!("{:?}", sampling_of_thoughts(self.experiment.seed));
        self.key("predicted thoughts", &[&self.writers_key(fold, base), &self.windows(fold, splits), &how], base)
    }

    /// How the conversations of some splits are cut, which every arm has a say in.
    fn windows(&self, fold: usize, splits: &[Split]) -> String {
        let of_split = |split: &Split| {
            let windows = self.folds[fold].corpus.windows(*split);
            windows.map(move |(id, windows)| format!("{split:?} {id} {windows:?}")).collect::<Vec<_>>()
        };
        splits.iter().flat_map(of_split).collect::<Vec<_>>().join("\n")
    }

    fn key(&self, what: &str, parts: &[&str], base: &Base) -> String {
        let everywhere = [what, PROGRAM, &base.sha256, &self.data_sha256];
        sha256_hex([&everywhere, parts].concat().join("\0").as_bytes())
    }

    /// The folder of one training, or of what was done without any.
    pub(crate) fn folder(&self, name: &str, training: Training) -> PathBuf {
        self.experiment.folder().join(name).join(training.folder(&self.experiment))
    }
}

impl Experiment {
    /// What of the experiment bears on one arm, in words.
    fn of_arm(&self, arm: Arm, evaluation: EvaluationSection) -> String {
        let (name, output) = (String::new(), PathBuf::new());
        let (seeds, comparisons, arms) = (Default::default(), Vec::new(), vec![arm]);
        Self { name, output, seeds, comparisons, arms, evaluation, ..self.clone() }.resolved()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_of_something_else_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let kept = |name: &str, key: &str| Kept::new(folder.path().join(name), key.to_owned());
        let (one, other) = (kept("records.jsonl", "one"), kept("records.jsonl", "other"));
        assert!(!one.is_there());
        one.write(b"1").unwrap();
        kept("written.jsonl", "third").write(b"3").unwrap();
        assert!(one.is_there() && !other.is_there() && kept("written.jsonl", "third").is_there());
        other.write(b"2").unwrap();
        assert!(!one.is_there() && other.is_there() && kept("written.jsonl", "third").is_there());
        // Without its key, or itself, it is as if it were not there.
        std::fs::write(folder.path().join(KEYS), "nonsense").unwrap();
        assert!(!other.is_there());
        other.write(b"2").unwrap();
        std::fs::remove_file(&other.path).unwrap();
        assert!(!other.is_there());
    }
}
