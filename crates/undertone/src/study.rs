//! A study: the conversations of an experiment, divided and laid out once, and the arms run on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use serde::Serialize;
use undertone_data::{
    Conversation, Corpus, DataStats, Encoded, InputError, Layout, OverlapReport, Place, Purpose, ReadReport, Reader,
    Source, Split, StatsBuilder, Stream, Study as Asked, TargetKind, View, check_disjoint, encode,
};
use undertone_eval::{ItemRecord, KnownRows, read_records, score, unigram, write_records};
use undertone_model::Decoder;
use undertone_train::{Checkpoint, Description, Run, TrainError};

use crate::STOP;
use crate::base::{Base, stream_builder};
use crate::digest::sha256_of_files;
use crate::experiment::{Arm, Experiment};
use crate::keys::Kept;
use crate::predicted::WRITTEN_KINDS;
use crate::progress::Line;

/// Everything an experiment reads, before any model.
pub(crate) struct Study {
    pub(crate) experiment: Experiment,
    /// Every conversation that was read, as token ids.
    pub(crate) encoded: Arc<[Encoded]>,
    /// One division of users, or one a fold.
    pub(crate) folds: Vec<FoldData>,
    pub(crate) read: ReadReport,
    pub(crate) stats: DataStats,
    /// SHA-256 over the data files.
    pub(crate) data_sha256: String,
}

/// One division of users with the corpus laid out for it.
pub(crate) struct FoldData {
    pub(crate) corpus: Corpus,
    pub(crate) overlap: OverlapReport,
    /// Users by split.
    pub(crate) users: BTreeMap<Split, usize>,
}

/// An arm with what it is evaluated with: the base model has no training.
#[derive(Debug, Clone)]
pub(crate) struct Evaluated {
    pub(crate) name: String,
    pub(crate) shown: (View, Source),
    /// The arm whose training makes the model; none for the untrained base.
    pub(crate) trained: Option<Arm>,
}

/// An arm that did not come to its end.
pub(crate) struct Failed {
    /// The arm whose training or scoring failed; an untrained one's own name.
    pub(crate) arm: String,
    pub(crate) error: anyhow::Error,
}

impl Failed {
    /// Whether this failure leaves an arm without a model.
    pub(crate) fn takes_along(&self, arm: &Evaluated) -> bool {
        arm.trained.as_ref().map_or(&arm.name, |trained| &trained.name) == &self.arm
    }
}

/// One training of an arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Training {
    pub(crate) fold: usize,
    pub(crate) seed: u64,
}

impl Training {
    /// Its folder in that of the arm: `fold0`, or `fold0-seed1` of a further seed.
    pub(crate) fn folder(self, experiment: &Experiment) -> String {
        let Self { fold, seed } = self;
        if seed == experiment.seed { format!("fold{fold}") } else { format!("fold{fold}-seed{seed}") }
    }
}

/// One training, ready to run.
pub(crate) struct Work<'a> {
    /// The arm, in words.
    pub(crate) name: &'a str,
    /// What determines its weights.
    pub(crate) key: String,
    pub(crate) seed: u64,
    /// The windows of every epoch, or of each.
    pub(crate) training: &'a [Vec<Stream>],
    pub(crate) validation: &'a [Stream],
}

/// What the yardsticks are called among the arms: token frequencies, and the user's last message once more.
pub(crate) const UNIGRAM: &str = "unigram";
pub(crate) const REPEAT: &str = "repeat";

/// What the untrained model is called where no view bears on it.
pub(crate) const UNTRAINED: &str = "untrained";

/// How many items there are, and how many of them can show what thoughts add.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Coverage {
    pub(crate) kind: TargetKind,
    pub(crate) items: usize,
    pub(crate) primary: usize,
}

/// Reads all conversations of an experiment.
pub(crate) fn read_conversations(
    experiment: &Experiment,
) -> Result<(Vec<Conversation>, ReadReport, DataStats), InputError> {
    let reader = Reader::open(experiment.data.path.as_slice(), experiment.read_options())?;
    let (records, report) = reader.read_all()?;
    let mut stats = StatsBuilder::new();
    let mut conversations = Vec::with_capacity(records.len());
    for record in records {
        stats.add(&record.conversation, &record.task_text);
        conversations.push(record.conversation);
    }
    Ok((conversations, report, stats.finish()))
}

impl Study {
    /// Reads, divides, encodes and cuts. `path` is the experiment file, for messages. `extra` views are
    /// laid out too, for an evaluation that is not among the arms.
    pub(crate) fn prepare(experiment: Experiment, path: &Path, extra: &[(View, Source)]) -> Result<Self, InputError> {
        let builder = stream_builder(&experiment)?;
        let (conversations, read, stats) = read_conversations(&experiment)?;
        let users: BTreeSet<&str> = conversations.iter().map(|conversation| conversation.user.as_str()).collect();
        let divisions = match experiment.split.folds() {
            None => vec![experiment.split.once().assign(users, path)?],
            Some(folds) => folds.assign(users, path)?.iter().map(|fold| fold.assignment()).collect(),
        };
        let mut shown: Vec<(View, Source)> =
            experiment.arms.iter().map(Arm::shown).chain(extra.iter().copied()).collect();
        shown.sort();
        shown.dedup();
        let kinds = experiment.all_targets();
        let asked = Asked {
            shown: &shown,
            kinds: &kinds,
            context_tokens: experiment.data.context_tokens,
            assistant_tokens: experiment.data.assistant_tokens,
            on_too_long: experiment.data.on_too_long,
            distractors: experiment.evaluation.distractors,
            seed: experiment.seed,
        };
        let data_path = &experiment.data.path.as_slice()[0];
        let encoded = encode(conversations, &builder, &asked);
        let mut folds = Vec::with_capacity(divisions.len());
        for division in divisions {
            let conversations = encoded.iter().map(|encoded| &encoded.conversation);
            let overlap =
                check_disjoint(conversations.map(|conversation| (division[&conversation.user], conversation)));
            assert!(overlap.is_disjoint(), "splits overlap: {overlap:?}");
            let mut of_split = BTreeMap::new();
            for split in division.values() {
                *of_split.entry(*split).or_insert(0) += 1;
            }
            let corpus = Corpus::new(data_path, encoded.clone(), &division, builder.clone(), &asked)?;
            folds.push(FoldData { corpus, overlap, users: of_split });
        }
        let data_sha256 = sha256_of_files(experiment.data.path.as_slice())?;
        Ok(Self { encoded, folds, read, stats, data_sha256, experiment })
    }

    /// Every training of an arm: each fold with each seed.
    pub(crate) fn trainings(&self) -> Vec<Training> {
        let seeds = self.experiment.training_seeds();
        (0..self.folds.len()).flat_map(|fold| seeds.iter().map(move |&seed| Training { fold, seed })).collect()
    }

    /// Which training it is, as far as there are several of an arm.
    fn in_words(&self, Training { fold, seed }: Training) -> String {
        let fold = (self.folds.len() > 1).then(|| format!("fold {fold}"));
        let seed = (self.experiment.seeds.0 > 1).then(|| format!("seed {seed}"));
        fold.into_iter().chain(seed).collect::<Vec<_>>().join(" ")
    }

    /// The arms, and before them the untrained base model under each view that an arm is trained with.
    pub(crate) fn evaluated(&self) -> Vec<Evaluated> {
        let mut all: Vec<Evaluated> = Vec::new();
        for arm in self.experiment.arms.iter().filter(|arm| arm.trained_as.is_none()) {
            if !all.iter().any(|base| base.shown == arm.shown()) {
                all.push(Evaluated { name: format!("base-{}", arm.name), shown: arm.shown(), trained: None });
            }
        }
        all.extend(self.experiment.arms.iter().map(|arm| Evaluated {
            name: arm.name.clone(),
            shown: arm.shown(),
            trained: Some(self.experiment.trained(arm)),
        }));
        all
    }

    /// Whether the model of an arm makes up first messages. They are of no view, so the untrained model makes them up once.
    pub(crate) fn makes_up_first_messages(&self, training: Training, arm: &Evaluated) -> bool {
        let is_first = || training == self.trainings()[0] && arm.name == self.evaluated()[0].name;
        self.experiment.evaluation.writing.first_messages > 0 && (arm.trained.is_some() || is_first())
    }

    /// The training or validation windows of an arm; `draw` names what thoughts are left out by chance.
    pub(crate) fn training_streams(&self, arm: &Arm, fold: usize, split: Split, draw: Option<[u64; 2]>) -> Vec<Stream> {
        let (view, source) = arm.shown();
        let kinds = self.experiment.training_targets(arm);
        let dropout = draw.and_then(|seed| arm.dropout(seed));
        let layout = Layout { view, kinds: &kinds, purpose: Purpose::Train, dropout };
        self.folds[fold].corpus.streams(split, source, layout)
    }

    /// The windows of held-out users as evaluation sees them.
    pub(crate) fn test_streams(&self, (view, source): (View, Source), fold: usize, split: Split) -> Vec<Stream> {
        let kinds = &self.experiment.data.targets;
        self.folds[fold].corpus.streams(split, source, Layout { view, kinds, purpose: Purpose::Score, dropout: None })
    }

    /// The items of the primary comparison: not a first user turn, and with an earlier thought visible
    /// in every arm that may see all earlier thoughts.
    pub(crate) fn primary_items(&self, split: Split) -> BTreeSet<String> {
        let mut shown: Vec<(View, Source)> = self.experiment.arms.iter().map(Arm::shown).collect();
        shown.retain(|(view, _)| view.sees_thoughts() && !view.hangs_prompts());
        shown.sort();
        shown.dedup();
        let requires_thought = !shown.is_empty();
        if shown.is_empty() {
            shown.push((View::default(), Source::Own));
        }
        let mut primary: Option<BTreeSet<String>> = None;
        for shown in shown {
            let streams: Vec<Stream> =
                (0..self.folds.len()).flat_map(|fold| self.test_streams(shown, fold, split)).collect();
            let targets = streams.iter().flat_map(|stream| &stream.targets);
            let seen: BTreeSet<String> = targets
                .filter(|target| target.earlier_user_messages > 0 || target.item.kind != TargetKind::NextPrompt)
                .filter(|target| !requires_thought || target.visible_thoughts > 0)
                .map(|target| target.item.to_string())
                .collect();
            primary = Some(match primary {
                None => seen,
                Some(earlier) => earlier.intersection(&seen).cloned().collect(),
            });
        }
        primary.unwrap_or_default()
    }

    /// The user messages among some items.
    pub(crate) fn primary_prompts(&self, primary: &BTreeSet<String>) -> BTreeSet<String> {
        let prompts = |encoded: &Encoded| encoded.items(0..encoded.messages.len(), &[TargetKind::NextPrompt]);
        let all = self.encoded.iter().flat_map(prompts).map(|item| item.to_string());
        all.filter(|item| primary.contains(item)).collect()
    }

    /// Whether every fold has something to train each arm on, and something to test it on.
    ///
    /// # Errors
    /// Says what is missing.
    pub(crate) fn require_targets(&self) -> Result<(), InputError> {
        let missing = |cause: String| {
            let path = &self.experiment.data.path.as_slice()[0];
            InputError::new(path, cause).hint("use more conversations, other `targets`, or another split")
        };
        for arm in &self.experiment.arms {
            for fold in 0..self.folds.len() {
                if self.training_streams(&self.experiment.trained(arm), fold, Split::Train, None).is_empty() {
                    return Err(missing(format!("no training user has a target for the arm `{}`", arm.name)));
                }
                if self.test_streams(arm.shown(), fold, Split::Test).is_empty() {
                    return Err(missing("no test user has a target".into()));
                }
            }
        }
        Ok(())
    }

    /// Trains an arm in `folder`, from the start or from where it stands, and returns its best checkpoint.
    ///
    /// A finished training of the same key is used as it is.
    pub(crate) fn train(
        &self,
        arm: &Arm,
        training: Training,
        base: &Base,
        folder: &Path,
        resume: bool,
        progress: &Line,
    ) -> Result<PathBuf, TrainError> {
        let experiment = &self.experiment;
        let Training { fold, seed } = training;
        let key = self.training_key(arm, training, base);
        progress.begin_training(&self.in_words(training));
        // Where thoughts are dropped by chance, each epoch has draws of its own.
        let epochs = if arm.thought_dropout > 0.0 { experiment.training.epochs as u64 } else { 1 };
        let training: Vec<Vec<Stream>> =
            (0..epochs).map(|epoch| self.training_streams(arm, fold, Split::Train, Some([seed, epoch]))).collect();
        if training[0].is_empty() {
            let path = &experiment.data.path.as_slice()[0];
            return Err(InputError::new(path, format!("no training user has a target for the arm `{}`", arm.name))
                .hint("use more conversations, other `targets`, or another split")
                .into());
        }
        let validation = self.training_streams(arm, fold, Split::Validation, None);
        let work = Work { name: &arm.name, key, seed, training: &training, validation: &validation };
        self.train_on(work, base, folder, resume, progress)
    }

    /// Trains on some streams in `folder`, from the start or from where it stands, and returns the best checkpoint.
    pub(crate) fn train_on(
        &self,
        work: Work<'_>,
        base: &Base,
        folder: &Path,
        resume: bool,
        progress: &Line,
    ) -> Result<PathBuf, TrainError> {
        let experiment = &self.experiment;
        let Work { name, key, seed, training, validation } = work;
        let run = Run {
            config: &experiment.training,
            seed,
            training,
            validation,
            folder,
            progress,
            description: Description::new(experiment.resolved(), key.clone(), base.sha256.clone(), name.to_owned()),
            stop: &STOP,
        };
        let last = run.last();
        let checkpoint = if last.exists() { Some(Checkpoint::read(&last)?) } else { None };
        if let Some(checkpoint) = &checkpoint {
            if !resume {
                return Err(InputError::new(folder, "already holds a training")
                    .hint("add `--resume` to go on with it, or choose another `name`")
                    .into());
            }
            if checkpoint.description.training_key != key {
                return Err(InputError::new(
                    &last,
                    "belongs to another experiment: the configuration, data or base model differ",
                )
                .at(Place::Named("training_key".into()))
                .hint("choose another `name`, or remove the folder")
                .into());
            }
            if checkpoint.description.state.finished && run.best().exists() {
                return Ok(run.best());
            }
        }
        let mut decoder = base.trainable(experiment, seed);
        run.train(&mut decoder, checkpoint.as_ref())?;
        Ok(run.best())
    }

    /// The frequencies of training users' tokens as a yardstick, on every test item that is text.
    pub(crate) fn unigram(&self) -> Vec<ItemRecord> {
        let kinds = &self.experiment.data.targets;
        let layout = |purpose| Layout { view: View::default(), kinds, purpose, dropout: None };
        let of_fold = |(fold, data): (usize, &FoldData)| {
            let streams = |split, purpose| data.corpus.streams(split, Source::Own, layout(purpose));
            let vocabulary = data.corpus.builder().template.vocabulary();
            let mut records = unigram(
                UNIGRAM,
                &streams(Split::Train, Purpose::Train),
                &streams(Split::Test, Purpose::Score),
                vocabulary,
            );
            records.iter_mut().for_each(|record| record.fold = Some(fold));
            records
        };
        self.folds.iter().enumerate().flat_map(of_fold).collect()
    }

    /// Scores a model on held-out users, or reads the scores that are already there. `known` is of this model.
    pub(crate) fn evaluate(
        &self,
        arm: &Evaluated,
        Training { fold, seed }: Training,
        decoder: impl FnOnce() -> Result<Decoder, InputError>,
        known: &mut KnownRows,
        kept: &Kept,
        progress: &Line,
    ) -> anyhow::Result<Vec<ItemRecord>> {
        if kept.is_there() {
            return Ok(read_records(&kept.path)?);
        }
        progress.does(&format!("scores as `{}`", arm.name));
        let decoder = decoder()?;
        let streams = self.test_streams(arm.shown, fold, Split::Test);
        let all: usize = streams.iter().map(|stream| stream.tokens.len()).sum();
        let (mut done, begun) = (0, std::time::Instant::now());
        let row_tokens = self.experiment.evaluation.row_tokens;
        let mut records = score(&decoder, known, &arm.name, &streams, row_tokens, |tokens| done += tokens);
        for record in &mut records {
            record.fold = Some(fold);
            record.seed = arm.trained.as_ref().map(|_| seed);
        }
        let speed = done as f64 / begun.elapsed().as_secs_f64();
        progress.note(&format!("scored {} items as `{}`, {all} tokens, {speed:.0} tokens/s", records.len(), arm.name));
        if STOP.load(Ordering::Relaxed) {
            return Err(TrainError::Interrupted(kept.folder()).into());
        }
        kept.write(&record_lines(&records)?)?;
        Ok(records)
    }
}

/// Records as JSON Lines.
///
/// # Errors
/// A score that is no number names its item.
pub(crate) fn record_lines(records: &[ItemRecord]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_records(&mut bytes, records).context("the model's scores are not valid: its training has diverged")?;
    Ok(bytes)
}

impl Experiment {
    /// Every kind that is a target in training or evaluation of any arm.
    fn all_targets(&self) -> Vec<TargetKind> {
        let mut kinds: Vec<TargetKind> = self.arms.iter().flat_map(|arm| self.training_targets(arm)).collect();
        kinds.extend(&self.data.targets);
        if self.arms.iter().any(|arm| arm.source == Source::Predicted) {
            kinds.extend(WRITTEN_KINDS);
        }
        kinds.sort();
        kinds.dedup();
        kinds
    }
}
