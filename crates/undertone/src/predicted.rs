//! Predicted thoughts: written by models that were trained to write thoughts, never on the user they write for.
//!
//! In each fold three writers are trained on training users: on one half of them, on the other half, and on all. A half is
//! written for by the writer of the other half, validation and test users by that of all (cross-fitting). A writer sees
//! the messages up to the one that a thought is about, and no thought. So a predicted thought is what a system could have
//! that was never told what its user thinks. It stands where the user gave a thought: that there is one is not predicted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use undertone_data::{
    InputError, Layout, PREDICTED_TOKENS, Place, Purpose, Source, Split, Stream, TargetKind, Thoughts, View,
};
use undertone_eval::write;
use undertone_model::{Sampling, derived_seed};
use undertone_train::{Checkpoint, TrainError};

use crate::STOP;
use crate::base::Base;
use crate::digest::sha256_hex;
use crate::experiment::Arm;
use crate::progress::Line;
use crate::study::{Study, Work};

/// What writers are trained to write.
pub(crate) const WRITTEN_KINDS: [TargetKind; 2] = [TargetKind::Reaction, TargetKind::Reason];

/// Of what a writer could write next, the share that it draws from.
const TOP_P: f64 = 0.9;

/// How thoughts are written: drawn, as the most likely one is a poor thought where little was trained; and never empty, as no
/// thought is.
pub(crate) fn sampling_of_thoughts(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, top_p: TOP_P, seed, min_new_tokens: 1, max_new_tokens: PREDICTED_TOKENS }
}

/// The users that a writer is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// One half of the training users.
    First,
    /// The other half.
    Second,
    /// All of them.
    All,
}

impl Writer {
    const ALL: [Self; 3] = [Self::First, Self::Second, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::All => "all",
        }
    }
}

impl Study {
    /// Whether some arm sees predicted thoughts.
    fn wants_predicted(&self) -> bool {
        self.experiment.arms.iter().any(|arm| arm.source == Source::Predicted)
    }

    /// Where what is written in a fold is saved.
    pub(crate) fn predicted_path(&self, fold: usize) -> PathBuf {
        self.experiment.folder().join("writers").join(format!("fold{fold}.json"))
    }

    /// Trains the writers and lets them write, where an arm wants it and where it was not done before.
    ///
    /// # Errors
    /// As training; something else was saved in its place; there are not two training users with thoughts.
    pub(crate) fn predict_thoughts(&mut self, base: &Base) -> anyhow::Result<()> {
        if !self.wants_predicted() {
            return Ok(());
        }
        for fold in 0..self.folds.len() {
            let kept = self.predicted(fold, base);
            let thoughts = if kept.is_there() {
                self.read_thoughts(&kept.path)?
            } else {
                let thoughts = self.written_thoughts(fold, base)?;
                kept.write(&serde_json::to_vec(&thoughts)?)?;
                thoughts
            };
            self.folds[fold].corpus.set_predicted(thoughts);
        }
        Ok(())
    }

    /// Takes what was written before, for commands that train nothing.
    ///
    /// # Errors
    /// It was not written.
    pub(crate) fn read_predicted(&mut self) -> Result<(), InputError> {
        for fold in 0..self.folds.len() {
            let path = self.predicted_path(fold);
            if !path.exists() {
                return Err(InputError::new(path, "the arm sees predicted thoughts, and they are not written yet")
                    .hint("`undertone ablate` trains the writers and lets them write"));
            }
            let thoughts = self.read_thoughts(&path)?;
            self.folds[fold].corpus.set_predicted(thoughts);
        }
        Ok(())
    }

    /// What was written in a fold, if it is of these conversations: by conversation, message and thought, as token ids.
    fn read_thoughts(&self, path: &Path) -> Result<BTreeMap<String, Thoughts>, InputError> {
        let bytes = std::fs::read(path).map_err(|error| InputError::io(path, "read", &error))?;
        let unfit = |cause: String| InputError::new(path, cause).hint("remove the file, and it is written again");
        let written: BTreeMap<String, Thoughts> =
            serde_json::from_slice(&bytes).map_err(|error| unfit(error.to_string()).at(Place::Line(error.line())))?;
        let vocabulary = self.folds[0].corpus.builder().template.vocabulary();
        let fits = |ids: &Vec<u32>| ids.len() <= PREDICTED_TOKENS && ids.iter().all(|id| (*id as usize) < vocabulary);
        for encoded in self.encoded.iter() {
            let id = &encoded.conversation.id;
            let is_whole = written.get(id).is_some_and(|written| {
                written.iter().map(Vec::len).eq(encoded.thoughts.iter().map(Vec::len))
                    && written.iter().flatten().all(fits)
            });
            if !is_whole {
                return Err(unfit(format!("does not have the thoughts of `{id}`")));
            }
        }
        Ok(written)
    }

    /// What writers see, and what they are trained on.
    pub(crate) fn writer_arm(&self) -> Arm {
        Arm { name: "writer".into(), targets: Some(WRITTEN_KINDS.to_vec()), ..Arm::default() }
    }

    /// The training users of a fold in two halves, by hash.
    fn halves(&self, training: &[Stream]) -> [BTreeSet<String>; 2] {
        let seed = self.experiment.seed.to_string();
        let users: BTreeSet<&String> = training.iter().map(|stream| &stream.user).collect();
        let mut hashed: Vec<([u8; 32], &String)> =
            users.into_iter().map(|user| (derived_seed(&["writers", &seed, user]), user)).collect();
        hashed.sort();
        let half = |parity: usize| hashed.iter().skip(parity).step_by(2).map(|(_, user)| (*user).clone()).collect();
        [half(0), half(1)]
    }

    /// Where the training of a writer is, and its key.
    fn writer_run(&self, fold: usize, writer: Writer, base: &Base) -> (PathBuf, String) {
        let folder = self.predicted_path(fold).with_extension("").join(writer.name());
        (folder, sha256_hex(format!("{}\0{}", self.writers_key(fold, base), writer.name()).as_bytes()))
    }

    /// Where the trainings of all writers are, and their keys; none where no arm sees predicted thoughts.
    pub(crate) fn writer_runs(&self, base: &Base) -> Vec<(PathBuf, String)> {
        let folds = if self.wants_predicted() { self.folds.len() } else { 0 };
        (0..folds).flat_map(|fold| Writer::ALL.map(|writer| self.writer_run(fold, writer, base))).collect()
    }

    /// Trains the three writers of a fold, and lets each write for the users it was not trained on.
    fn written_thoughts(&self, fold: usize, base: &Base) -> anyhow::Result<BTreeMap<String, Thoughts>> {
        let experiment = &self.experiment;
        let arm = self.writer_arm();
        let training = self.training_streams(&arm, fold, Split::Train, None);
        let [first, second] = self.halves(&training);
        if second.is_empty() {
            let path = &experiment.data.path.as_slice()[0];
            return Err(InputError::new(path, "predicted thoughts need at least two training users with thoughts")
                .hint("use more users, or fewer folds")
                .into());
        }
        let empty = |thoughts: &Thoughts| thoughts.iter().map(|message| vec![Vec::new(); message.len()]).collect();
        let mut thoughts: BTreeMap<String, Thoughts> =
            self.encoded.iter().map(|encoded| (encoded.conversation.id.clone(), empty(&encoded.thoughts))).collect();
        for writer in Writer::ALL {
            let knows = |user: &String| match writer {
                Writer::First => first.contains(user),
                Writer::Second => second.contains(user),
                Writer::All => true,
            };
            let (folder, key) = self.writer_run(fold, writer, base);
            let line = Line::alone(&format!("writer `{}` of fold {fold}", writer.name()));
            let own: Vec<Stream> = training.iter().filter(|stream| knows(&stream.user)).cloned().collect();
            let work = Work { name: &arm.name, key, seed: experiment.seed, training: &[own], validation: &[] };
            let best = self.train_on(work, base, &folder, true, &line)?;
            let others = match writer {
                Writer::All => [Split::Validation, Split::Test].map(|split| self.to_write(fold, split)).concat(),
                Writer::First | Writer::Second => {
                    let mut others = self.to_write(fold, Split::Train);
                    others.retain(|stream| !knows(&stream.user));
                    others
                }
            };
            self.write_for(&best, &others, base, &line, &mut thoughts)?;
            line.end_training();
        }
        Ok(thoughts)
    }

    /// The conversations of a split without any thought to see, and with every thought to write.
    fn to_write(&self, fold: usize, split: Split) -> Vec<Stream> {
        let layout = Layout { view: View::default(), kinds: &WRITTEN_KINDS, purpose: Purpose::Train, dropout: None };
        self.folds[fold].corpus.streams(split, Source::Own, layout)
    }

    /// Lets the writer of a checkpoint write every thought of some conversations.
    fn write_for(
        &self,
        best: &Path,
        streams: &[Stream],
        base: &Base,
        line: &Line,
        thoughts: &mut BTreeMap<String, Thoughts>,
    ) -> anyhow::Result<()> {
        let checkpoint = Checkpoint::read(best)?;
        let known = &checkpoint.description.trained_users;
        if let Some(stream) = streams.iter().find(|stream| known.contains(&stream.user)) {
            panic!("the writer {} was trained on {}, for whom it would write", best.display(), stream.user);
        }
        let decoder = base.restored(&self.experiment, &checkpoint, best)?;
        let end = self.folds[0].corpus.builder().template.end();
        let sampling = sampling_of_thoughts(self.experiment.seed);
        line.does("writes thoughts");
        let begun = std::time::Instant::now();
        let written = write(&decoder, streams, |_| !STOP.load(Ordering::Relaxed), end, sampling);
        if STOP.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted(best.to_owned()).into());
        }
        line.note(&format!("wrote {} thoughts in {:.0} s", written.len(), begun.elapsed().as_secs_f64()));
        for (item, ids, _) in written {
            let of_conversation = thoughts.get_mut(&item.conversation).expect("every conversation is there");
            of_conversation[item.message][item.thought] = ids;
        }
        Ok(())
    }
}
