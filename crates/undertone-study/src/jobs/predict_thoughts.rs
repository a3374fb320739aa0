//! Predicted thoughts: models that are trained to write thoughts write them, never for a user they were trained on.
//!
//! In each fold three writers are trained: on one half of the training users, on the other half, and on all. The writer
//! of one half writes for the other half, and the writer of all for validation and test users (cross-fitting). A writer
//! sees the messages up to the one that a thought is about, and no thought. So a system could have predicted thoughts
//! even of users who never tell it what they think. A predicted thought replaces a thought that the user gave; the
//! writer does not predict whether there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use undertone_data::{
    Layout, PREDICTED_TOKENS, Purpose, Source, Speaker, Split, Stream, ThoughtKind, Thoughts, View, derived_seed,
};
use undertone_files::{InputError, Manifest, Place};
use undertone_score::write;
use undertone_train::{BEST, Checkpoint, Description};

use super::train::TrainingJob;
use crate::arms::{Training, thought_writer_arm};
use crate::artifact::CachedFile;
use crate::context::Context;
use crate::error::StudyError;
use crate::experiment::{Experiment, thought_sampling};
use crate::fingerprint;
use crate::hyperparameters::hyperparameters;
use crate::leakage::require_unseen;
use crate::names::{THOUGHT_KINDS, WRITERS};
use crate::observer::Event;
use crate::study::{PredictedThoughts, Study};

/// A writer of thoughts, by the users it is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThoughtWriter {
    /// One half of the training users.
    First,
    /// The other half.
    Second,
    /// All of them.
    All,
}

impl ThoughtWriter {
    const ALL: [Self; 3] = [Self::First, Self::Second, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::All => "all",
        }
    }

    /// The observer's row.
    fn row(self, fold: usize) -> String {
        format!("writer `{}` of fold {fold}", self.name())
    }

    /// The folder of its training, and the fingerprint of that training.
    fn run(self, context: &Context<'_>, fold: usize) -> (PathBuf, String) {
        let Context { study, base, .. } = context;
        let folder = thoughts_path(&study.experiment, fold).with_extension("").join(self.name());
        (folder, fingerprint::of_thought_writer(study, base, fold, self.name()))
    }
}

fn thoughts_path(experiment: &Experiment, fold: usize) -> PathBuf {
    experiment.folder().join(WRITERS).join(format!("fold{fold}.json"))
}

/// The file with the predicted thoughts of a fold.
pub(crate) fn thoughts_file(context: &Context<'_>, fold: usize) -> CachedFile {
    let Context { study, base, .. } = context;
    CachedFile::new(thoughts_path(&study.experiment, fold), fingerprint::of_predicted(study, base, fold))
}

/// The training folders of all writers, with their fingerprints; empty if no arm sees predicted thoughts.
pub(crate) fn writer_runs(context: &Context<'_>) -> Vec<(PathBuf, String)> {
    let study = context.study;
    let folds = if study.experiment.sees_predicted() { study.folds.len() } else { 0 };
    (0..folds).flat_map(|fold| ThoughtWriter::ALL.map(|writer| writer.run(context, fold))).collect()
}

/// The predicted thoughts of every fold; empty if no arm sees predicted thoughts. Trains the writers and lets them
/// write, unless that is done.
///
/// # Errors
/// A training fails; the file of thoughts is of other conversations; fewer than two training users have thoughts.
pub fn predict_thoughts(context: &Context<'_>) -> Result<Vec<PredictedThoughts>, StudyError> {
    let study = context.study;
    if !study.experiment.sees_predicted() {
        return Ok(Vec::new());
    }
    let files: Vec<CachedFile> = (0..study.folds.len()).map(|fold| thoughts_file(context, fold)).collect();
    let unwritten = files.iter().enumerate().filter(|(_, file)| !file.is_current());
    let rows = unwritten.flat_map(|(fold, _)| ThoughtWriter::ALL.map(|writer| (writer.row(fold), 1)));
    context.observer.rows(&rows.collect::<Vec<_>>());
    files
        .iter()
        .enumerate()
        .map(|(fold, file)| {
            if let Some(path) = file.reuse()? {
                return Ok(read_thoughts(study, path)?);
            }
            let thoughts = written_thoughts(context, fold)?;
            file.write(&serde_json::to_vec(&thoughts).expect("token ids are plain data"))?;
            Ok(thoughts)
        })
        .collect()
}

/// Reads the predicted thoughts of every fold, for commands that train nothing.
///
/// # Errors
/// The thoughts are not written yet, or are of other conversations.
pub(crate) fn read_predicted_thoughts(study: &Study) -> Result<Vec<PredictedThoughts>, InputError> {
    let read_fold = |fold| {
        let path = thoughts_path(&study.experiment, fold);
        if !path.exists() {
            return Err(InputError::new(path, "the arm sees predicted thoughts, and they are not written yet")
                .hint("`undertone ablate` trains the writers and lets them write"));
        }
        read_thoughts(study, &path)
    };
    (0..study.folds.len()).map(read_fold).collect()
}

/// Reads the thoughts in a file, if they are of these conversations.
fn read_thoughts(study: &Study, path: &Path) -> Result<PredictedThoughts, InputError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let bytes = Manifest::read(path.parent().unwrap_or(Path::new(".")))?.read_file(&name)?;
    let unfit = |cause: String| InputError::new(path, cause).hint("remove the file, and it is written again");
    let written: PredictedThoughts =
        serde_json::from_slice(&bytes).map_err(|error| unfit(error.to_string()).at(Place::Line(error.line())))?;
    let vocabulary = study.folds[0].corpus.builder().template.vocabulary();
    let fits = |ids: &Vec<u32>| ids.len() <= PREDICTED_TOKENS && ids.iter().all(|id| (*id as usize) < vocabulary);
    for encoded in study.encoded.iter() {
        let id = &encoded.conversation.id;
        let is_whole = written.get(id).is_some_and(|written| {
            written.iter().map(Vec::len).eq(encoded.thoughts.iter().map(Vec::len)) && written.iter().flatten().all(fits)
        });
        if !is_whole {
            return Err(unfit(format!("does not have the thoughts of `{id}`")));
        }
    }
    Ok(written)
}

/// The training users of a fold in two halves, by hash.
fn halves(seed: u64, training: &[Stream]) -> [BTreeSet<String>; 2] {
    let seed = seed.to_string();
    let users: BTreeSet<&String> = training.iter().map(|stream| &stream.user).collect();
    let mut hashed: Vec<([u8; 32], &String)> =
        users.into_iter().map(|user| (derived_seed("writers", &[&seed, user]), user)).collect();
    hashed.sort();
    let half = |parity: usize| hashed.iter().skip(parity).step_by(2).map(|(_, user)| (*user).clone()).collect();
    [half(0), half(1)]
}

/// Trains the three writers of a fold, and lets each write for the users it was not trained on.
fn written_thoughts(context: &Context<'_>, fold: usize) -> Result<PredictedThoughts, StudyError> {
    let study = context.study;
    let seed = study.experiment.seed;
    let training = study.training_streams(&thought_writer_arm(), study.first_training(fold), Split::Train, None);
    let [first, second] = halves(seed, &training);
    if second.is_empty() {
        let path = &study.experiment.data.path.as_slice()[0];
        return Err(InputError::new(path, "predicted thoughts need at least two training users with thoughts")
            .hint("use more users, or fewer folds")
            .into());
    }
    let empty = |thoughts: &Thoughts| thoughts.iter().map(|message| vec![Vec::new(); message.len()]).collect();
    let mut thoughts: PredictedThoughts =
        study.encoded.iter().map(|encoded| (encoded.conversation.id.clone(), empty(&encoded.thoughts))).collect();
    for writer in ThoughtWriter::ALL {
        let is_own = |user: &String| match writer {
            ThoughtWriter::First => first.contains(user),
            ThoughtWriter::Second => second.contains(user),
            ThoughtWriter::All => true,
        };
        let (folder, fingerprint) = writer.run(context, fold);
        let row = writer.row(fold);
        let own: Vec<Stream> = training.iter().filter(|stream| is_own(&stream.user)).cloned().collect();
        let job = TrainingJob {
            row: row.clone(),
            arm: thought_writer_arm().name,
            training: Training { fold, seed },
            fingerprint,
            windows: vec![own],
            validation: Vec::new(),
            folder,
            hyperparameters: hyperparameters(&study.experiment, &thought_writer_arm(), Training { fold, seed }),
        };
        let best = job.run(context, true)?;
        let others = match writer {
            ThoughtWriter::All => [Split::Validation, Split::Test].map(|split| to_write(study, fold, split)).concat(),
            ThoughtWriter::First | ThoughtWriter::Second => {
                let mut others = to_write(study, fold, Split::Train);
                others.retain(|stream| !is_own(&stream.user));
                others
            }
        };
        write_for(context, &row, &best, &others, &mut thoughts)?;
        context.observe(&row, Event::Finished);
    }
    Ok(thoughts)
}

/// The conversations of a split, with no thought visible and every thought as a target.
fn to_write(study: &Study, fold: usize, split: Split) -> Vec<Stream> {
    let layout = Layout::new(View::default(), &THOUGHT_KINDS, Purpose::Train);
    study.folds[fold].corpus.streams(split, Source::Own, 0, layout)
}

/// Refuses predicted thoughts of users whom the writer of test users was trained on, for commands that train nothing.
///
/// # Errors
/// The writer's checkpoint cannot be read, or knows a user of `streams`.
pub(crate) fn require_unseen_by_writer(study: &Study, fold: usize, streams: &[Stream]) -> Result<(), InputError> {
    let folder = thoughts_path(&study.experiment, fold).with_extension("").join(ThoughtWriter::All.name());
    let path = folder.join(BEST);
    require_unseen(&Description::read(&path)?, &path, streams, Split::Test)
}

/// Lets the writer in a checkpoint write every thought of some conversations.
fn write_for(
    context: &Context<'_>,
    row: &str,
    best: &Path,
    streams: &[Stream],
    thoughts: &mut BTreeMap<String, Thoughts>,
) -> Result<(), StudyError> {
    let Context { study, base, .. } = context;
    let checkpoint = Checkpoint::read(best)?;
    if let Err(leak) = require_unseen(&checkpoint.description, best, streams, Split::Test) {
        panic!("a writer must not know the users it writes for: {leak}");
    }
    let decoder = base.restored(&study.experiment, &checkpoint, best)?;
    // Reasons and reactions end alike.
    let end = base.template.end(Speaker::Thought(ThoughtKind::Reason));
    let sampling = thought_sampling(study.experiment.seed);
    context.observe(row, Event::Doing("writes thoughts"));
    let begun = Instant::now();
    let written = write(&decoder, streams, |_| !context.is_stopped(), end, sampling);
    context.check_stop(best)?;
    tracing::info!("{row}: wrote {} thoughts in {:.0} s", written.len(), begun.elapsed().as_secs_f64());
    for (item, ids, _) in written {
        let conversation = thoughts.get_mut(&item.conversation).expect("every conversation is there");
        conversation[item.message][item.thought] = ids;
    }
    Ok(())
}
