//! A study: the conversations of an experiment, split by user and laid out once, and the arms that run on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use undertone_data::{
    Corpus, CorpusSpec, DataStats, Division, Encoded, Fold, Layout, OverlapReport, Purpose, ReadReport, Source, Split,
    Stream, TargetKind, Thoughts, View, caught, derived_number, encode,
};
use undertone_files::{InputError, Place};
use undertone_stats::{ItemRecord, counted, unigram};

use crate::arms::{Evaluated, Model, Training};
use crate::base::{stream_builder, tokenizer_failed};
use crate::begun::Begun;
use crate::conversations::{Chosen, LeftOut, choose};
use crate::digest::sha256_of_files;
use crate::experiment::{Arm, Experiment};
use crate::leakage::require_disjoint;
use crate::names::{BASE, STAGED, THOUGHT_KINDS, UNIGRAM};

/// Everything that an experiment reads before it loads a model.
pub struct Study {
    /// The experiment.
    pub experiment: Experiment,
    /// Every conversation that was read, as token ids.
    pub encoded: Arc<[Encoded]>,
    /// One split of the users, or one per fold: the folds of the first division, then those of the next.
    pub folds: Vec<FoldData>,
    /// What the reader counted.
    pub read: ReadReport,
    /// Statistics of the conversations.
    pub stats: DataStats,
    /// SHA-256 over the data files.
    pub data_sha256: String,
    /// Conversations that are not used.
    pub left_out: LeftOut,
    /// The last stage, once it is prepared; `None` without stages.
    pub(crate) start: Option<Arc<Stage>>,
    /// Whether the untrained model is scored too.
    pub scores_untrained: bool,
}

/// One split of the users, with the corpus laid out for it.
pub struct FoldData {
    /// The conversations, laid out.
    pub corpus: Corpus,
    /// The overlap of the splits, checked to be empty.
    pub overlap: OverlapReport,
    /// The number of users per split.
    pub users: BTreeMap<Split, usize>,
    /// The division into folds that the fold belongs to, from 0.
    pub division: usize,
}

/// A stage: what the model is trained on before every arm.
pub(crate) struct Stage {
    /// Its conversations and its only arm; its own `start` is the stage before it.
    pub(crate) study: Study,
    /// The fingerprint of its training.
    pub(crate) key: String,
}

impl Stage {
    /// Its only arm, and its only training.
    pub(crate) fn training(&self) -> (&Arm, Training) {
        (&self.study.experiment.arms[0], self.study.first_training(0))
    }

    /// The folder of its training.
    pub(crate) fn folder(&self) -> PathBuf {
        let (arm, training) = self.training();
        self.study.training_folder(&arm.name, training)
    }
}

/// The predicted thoughts of a fold as token ids, by conversation, message and thought.
pub type PredictedThoughts = BTreeMap<String, Thoughts>;

impl Study {
    /// Loads, splits, tokenizes and windows the conversations. `path` is the experiment file, for error messages.
    /// `extra` views are laid out too, for an evaluation that is not among the arms.
    ///
    /// # Errors
    /// The data, the split or the model's folder is wrong.
    pub fn prepare(experiment: Experiment, path: &Path, extra: &[(View, Source)]) -> Result<Self, InputError> {
        let builder = stream_builder(&experiment)?;
        let Chosen { conversations, read, stats, left_out } = choose(&experiment)?;
        let data_sha256 = sha256_of_files(experiment.data.path.as_slice())?;
        let begun = Begun::read(&experiment, &data_sha256)?;
        let users: BTreeSet<&str> = conversations.iter().map(|conversation| conversation.user.as_str()).collect();
        let divisions = divisions(&experiment, &users, path)?;
        let shown: BTreeSet<(View, Source)> =
            experiment.scored_arms().iter().map(Arm::shown).chain(extra.iter().copied()).collect();
        let shown = Vec::from_iter(shown);
        let kinds = all_targets(&experiment);
        let spec = CorpusSpec {
            shown: &shown,
            kinds: &kinds,
            context_tokens: experiment.data.context_tokens,
            assistant_tokens: experiment.data.reply_tokens().limit(),
            on_too_long: experiment.data.on_too_long,
            distractors: experiment.evaluation.distractors,
            seed: experiment.seed,
            windows: begun.as_ref().map(|begun| &begun.windows),
        };
        let data_path = &experiment.data.path.as_slice()[0];
        let encoded = caught(|| encode(conversations, &builder, &spec))
            .map_err(|failed| tokenizer_failed(&experiment.model.path, &failed))?;
        let parts: Vec<Division> = divisions.iter().map(|(_, division)| division.clone()).collect();
        let corpora = caught(|| Corpus::all(data_path, encoded.clone(), &parts, builder, &spec))
            .map_err(|failed| tokenizer_failed(&experiment.model.path, &failed))??;
        let fold = |((number, division), corpus): ((usize, Division), Corpus)| {
            let conversations = encoded.iter().map(|encoded| &encoded.conversation);
            let parts = conversations.map(|conversation| (division.splits[&conversation.user], conversation));
            let overlap = require_disjoint(parts);
            let mut users = BTreeMap::new();
            for split in division.splits.values() {
                *users.entry(*split).or_insert(0) += 1;
            }
            FoldData { corpus, overlap, users, division: number }
        };
        let folds = divisions.into_iter().zip(corpora).map(fold).collect();
        Ok(Self { encoded, folds, read, stats, data_sha256, left_out, start: None, scores_untrained: true, experiment })
    }

    /// The stages, from the last to the first.
    pub(crate) fn stages(&self) -> impl Iterator<Item = &Stage> {
        std::iter::successors(self.start.as_deref(), |stage| stage.study.start.as_deref())
    }

    /// Every training of an arm: each fold with each seed.
    pub(crate) fn trainings(&self) -> Vec<Training> {
        let seeds = self.experiment.training_seeds();
        (0..self.folds.len()).flat_map(|fold| seeds.iter().map(move |&seed| Training { fold, seed })).collect()
    }

    /// What the study fixes when it begins.
    pub(crate) fn fixed(&self) -> Begun {
        let (windows, primary) = (self.folds[0].corpus.all_windows(), self.primary_items(Split::Test));
        Begun::new(&self.experiment, &self.data_sha256, windows, primary)
    }

    /// Whether the untrained model is scored in this place: once for every user, in the first division and seed.
    pub(crate) fn scores_untrained_in(&self, training: Training) -> bool {
        training.seed == self.experiment.seed && self.folds[training.fold].division == 0
    }

    /// The training of each fold with the first seed.
    pub(crate) fn first_trainings(&self) -> impl Iterator<Item = Training> + use<'_> {
        (0..self.folds.len()).map(|fold| self.first_training(fold))
    }

    /// Names the division, the fold and the seed if an arm has several of them; empty otherwise.
    pub(crate) fn in_words(&self, Training { fold, seed }: Training) -> String {
        let division = self.folds[fold].division;
        let place = fold - self.folds.iter().position(|fold| fold.division == division).unwrap_or_default();
        let division = (self.experiment.split.repeats > 1).then(|| format!("division {division}"));
        let fold = (self.folds.len() > 1).then(|| format!("fold {place}"));
        let seed = (self.experiment.seeds.0 > 1).then(|| format!("seed {seed}"));
        division.into_iter().chain(fold).chain(seed).collect::<Vec<_>>().join(" ")
    }

    /// The untrained base model, and the model after the stages if there are any, under each view that an arm is trained
    /// with; then the arms.
    pub fn evaluated(&self) -> Vec<Evaluated> {
        let mut all: Vec<Evaluated> = Vec::new();
        let mut viewed: BTreeSet<(View, Source)> = BTreeSet::new();
        let trained = self.experiment.arms.iter().filter(|arm| arm.trained_as.is_none());
        for arm in trained.filter(|_| self.scores_untrained) {
            let shown = arm.shown();
            if viewed.insert(shown) {
                all.push(Evaluated { name: format!("{BASE}-{}", arm.name), shown, model: Model::Untrained });
                if !self.experiment.stages.is_empty() {
                    all.push(Evaluated { name: format!("{STAGED}-{}", arm.name), shown, model: Model::Staged });
                }
            }
        }
        all.extend(self.experiment.scored_arms().into_iter().map(|arm| Evaluated {
            shown: arm.shown(),
            model: Model::Trained(self.experiment.trained(&arm)),
            name: arm.name,
        }));
        all
    }

    /// Whether the model of an arm generates first messages. A first message has no context, so no view changes it,
    /// and the untrained model generates first messages only once.
    pub(crate) fn makes_up_first_messages(&self, training: Training, arm: &Evaluated) -> bool {
        let is_first = || training == self.trainings()[0] && arm.name == self.evaluated()[0].name;
        self.experiment.evaluation.writing.first_messages > 0 && (arm.trained().is_some() || is_first())
    }

    /// The training or validation windows of an arm; `epoch` decides the draw of its thought dropout, `None` is without
    /// dropout.
    pub fn training_streams(&self, arm: &Arm, training: Training, split: Split, epoch: Option<u64>) -> Vec<Stream> {
        let (view, source) = arm.shown();
        let kinds = self.experiment.training_targets(arm);
        let dropout = epoch.and_then(|epoch| arm.dropout([training.random_seed(), epoch]));
        let layout = Layout { dropout, ..Layout::new(view, &kinds, Purpose::Train) };
        self.folds[training.fold].corpus.streams(split, source, self.draw(training), layout)
    }

    /// The windows of held-out users as evaluation sees them.
    pub fn test_streams(&self, (view, source): (View, Source), training: Training, split: Split) -> Vec<Stream> {
        let layout = Layout::new(view, &self.experiment.data.targets, Purpose::Score);
        self.folds[training.fold].corpus.streams(split, source, self.draw(training), layout)
    }

    /// The windows of the first division's test users under a view: each conversation once.
    pub(crate) fn tested_once(&self, shown: (View, Source)) -> impl Iterator<Item = Stream> + use<'_> {
        let once = self.first_trainings().filter(|training| self.folds[training.fold].division == 0);
        once.flat_map(move |training| self.test_streams(shown, training, Split::Test))
    }

    /// The words that a source shows in the place of each thought of a conversation, by message, in the first training that
    /// tests it; `None` if the conversation is not tested.
    pub(crate) fn shown_words(&self, conversation: &str, source: Source) -> Option<Vec<Vec<String>>> {
        self.folds.iter().find_map(|fold| fold.corpus.shown_words(conversation, source, 0))
    }

    /// The draw of placebos' words in a training: each seed has its own.
    fn draw(&self, training: Training) -> usize {
        (training.seed - self.experiment.seed) as usize
    }

    /// The training of a fold with the first seed.
    pub(crate) fn first_training(&self, fold: usize) -> Training {
        Training { fold, seed: self.experiment.seed }
    }

    /// The primary items: no first user message, and an earlier thought is visible in each of the two arms of the primary
    /// comparison that may see thoughts. Other arms have no influence.
    pub fn primary_items(&self, split: Split) -> BTreeSet<String> {
        let pair = self.experiment.primary_pair().into_iter().flatten();
        let mut shown: Vec<(View, Source)> = pair.map(Arm::shown).filter(|(view, _)| view.sees_thoughts()).collect();
        shown.dedup();
        let requires_thought = !shown.is_empty();
        if shown.is_empty() {
            shown.push((View::default(), Source::Own));
        }
        let mut primary: Option<BTreeSet<String>> = None;
        for shown in shown {
            let streams: Vec<Stream> =
                self.first_trainings().flat_map(|training| self.test_streams(shown, training, split)).collect();
            let targets = streams.iter().flat_map(|stream| &stream.targets);
            let seen: BTreeSet<String> = targets
                .filter(|target| target.earlier_user_messages > 0 || target.item.kind != TargetKind::NextPrompt)
                .filter(|target| !requires_thought || !target.seen.is_empty())
                .map(|target| target.item.to_string())
                .collect();
            primary = Some(match primary {
                None => seen,
                Some(earlier) => earlier.intersection(&seen).cloned().collect(),
            });
        }
        primary.unwrap_or_default()
    }

    /// The next prompts among the primary items.
    pub(crate) fn primary_prompts(&self, primary: &BTreeSet<String>) -> BTreeSet<String> {
        let prompts = |encoded: &Encoded| encoded.items(0..encoded.messages.len(), &[TargetKind::NextPrompt]);
        let all = self.encoded.iter().flat_map(prompts).map(|item| item.to_string());
        all.filter(|item| primary.contains(item)).collect()
    }

    /// Checks that every arm has training targets and test targets in every fold.
    ///
    /// # Errors
    /// An arm has no training target, or no test user has a target.
    pub fn require_targets(&self) -> Result<(), InputError> {
        for arm in &self.experiment.arms {
            for training in self.first_trainings() {
                if self.training_streams(&self.experiment.trained(arm), training, Split::Train, None).is_empty() {
                    return Err(self.no_training_target(arm));
                }
                if self.test_streams(arm.shown(), training, Split::Test).is_empty() {
                    return Err(self.no_target("no test user has a target".into()));
                }
            }
        }
        Ok(())
    }

    /// The error for an arm without training targets.
    pub(crate) fn no_training_target(&self, arm: &Arm) -> InputError {
        self.no_target(format!("no training user has a target for the arm `{}`", arm.name))
    }

    fn no_target(&self, cause: String) -> InputError {
        let path = &self.experiment.data.path.as_slice()[0];
        InputError::new(path, cause).hint("use more conversations, other `targets`, or another split")
    }

    /// Checks that a fold exists; `path` is the experiment's, for messages.
    ///
    /// # Errors
    /// There are fewer folds.
    pub fn require_fold(&self, fold: usize, path: &Path) -> Result<(), InputError> {
        if fold < self.folds.len() {
            return Ok(());
        }
        let cause = format!("has {}, so no fold {fold}", counted(self.folds.len(), "fold"));
        Err(InputError::new(path, cause).at(Place::Named("split.folds".into())).hint("folds are counted from 0"))
    }

    /// Gives each fold its predicted thoughts, for the arms that see them.
    pub fn set_predicted(&mut self, thoughts: Vec<PredictedThoughts>) {
        for (fold, thoughts) in self.folds.iter_mut().zip(thoughts) {
            fold.corpus.set_predicted(thoughts);
        }
    }

    /// The folder of one training of an arm, or of the results of an untrained arm.
    pub fn training_folder(&self, name: &str, training: Training) -> PathBuf {
        self.experiment.folder().join(name).join(training.folder(self.experiment.seed))
    }

    /// The unigram baseline: scores every test item that is text with the token frequencies of the training users.
    pub(crate) fn unigram(&self) -> Vec<ItemRecord> {
        let kinds = &self.experiment.data.targets;
        let layout = |purpose| Layout::new(View::default(), kinds, purpose);
        let fold_records = |(fold, data): (usize, &FoldData)| {
            let streams = |split, purpose| data.corpus.streams(split, Source::Own, 0, layout(purpose));
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
        self.folds.iter().enumerate().flat_map(fold_records).collect()
    }
}

/// Every division of the users into training, validation and test, with the number of its division into folds.
fn divisions(
    experiment: &Experiment,
    users: &BTreeSet<&str>,
    path: &Path,
) -> Result<Vec<(usize, Division)>, InputError> {
    let users = || users.iter().copied();
    let mut divisions = Vec::new();
    for number in 0..experiment.split.repeats {
        let splits = match experiment.split.folds(number) {
            None => vec![experiment.split.once().assign(users(), path)?],
            Some(folds) => folds.assign(users(), path)?.iter().map(Fold::assignment).collect(),
        };
        // Each division and each seed has a draw of its own, so that the draw is a part of the training variance.
        let draw = |seed: u64| match number {
            0 => seed,
            _ => derived_number("draw of a division", &[&seed.to_string(), &number.to_string()]),
        };
        let draws: Vec<u64> = experiment.training_seeds().into_iter().map(draw).collect();
        divisions.extend(splits.into_iter().map(|splits| (number, Division { splits, draws: draws.clone() })));
    }
    Ok(divisions)
}

/// Every kind that is a target in training or evaluation of any arm.
fn all_targets(experiment: &Experiment) -> Vec<TargetKind> {
    let arm_targets = experiment.arms.iter().flat_map(|arm| experiment.training_targets(arm));
    let mut kinds: BTreeSet<TargetKind> = arm_targets.chain(experiment.data.targets.iter().copied()).collect();
    if experiment.sees_predicted() {
        kinds.extend(THOUGHT_KINDS);
    }
    Vec::from_iter(kinds)
}
