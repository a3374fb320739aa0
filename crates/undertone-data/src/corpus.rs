//! All conversations of a study, encoded and cut into windows once, for every arm.
//!
//! A [`Study`] says what any of the arms will ask for; the [`Corpus`] made for it hands out streams
//! of one view at a time. Windows are shared by all arms, so all arms have the same items, order and
//! history.

use std::collections::BTreeMap;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::window::{Window, windows};
use crate::{
    Conversation, Encoded, InputError, Layout, Place, Purpose, Split, Stream, StreamBuilder, TargetKind, ThoughtKind,
    Thoughts, View,
};

/// Whose thoughts a stream shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The user's own.
    #[default]
    Own,
    /// Those of other users in the same split: a placebo. Each thought is replaced whole by one of
    /// the same kind, so how many there are, and where, stays as it is.
    Shuffled,
}

/// What is asked of a corpus: the arms' views and sources, and the targets.
#[derive(Debug, Clone)]
pub struct Study<'a> {
    /// Every view and source of every arm, in training and evaluation.
    pub shown: &'a [(View, Source)],
    /// Every kind of target.
    pub kinds: &'a [TargetKind],
    /// The longest path, in tokens.
    pub context_tokens: usize,
    /// Longer assistant messages are shortened to this many tokens as context.
    pub assistant_tokens: usize,
    /// Seed of the shuffle.
    pub seed: u64,
}

/// One conversation, ready to be laid out.
#[derive(Debug, Clone)]
struct Prepared {
    encoded: Encoded,
    split: Split,
    windows: Vec<Window>,
    donated: Option<Thoughts>,
}

/// Encoded conversations with their splits and windows.
#[derive(Debug, Clone)]
pub struct Corpus {
    builder: StreamBuilder,
    prepared: Vec<Prepared>,
}

impl Corpus {
    /// Encodes, shuffles where an arm asks for it, and cuts windows. `path` is where the conversations
    /// came from, for messages.
    ///
    /// # Errors
    /// A target that is longer than the context; a split whose thoughts all belong to one user, where
    /// they have to be shuffled.
    ///
    /// # Panics
    /// If a conversation's user has no split.
    pub fn new(
        path: &Path,
        conversations: Vec<Conversation>,
        splits: &BTreeMap<String, Split>,
        builder: StreamBuilder,
        study: &Study<'_>,
    ) -> Result<Self, InputError> {
        // An assistant message of half a context still leaves its target a history.
        let assistant_tokens = study.assistant_tokens.min(study.context_tokens / 2);
        let mut prepared: Vec<Prepared> = conversations
            .into_iter()
            .map(|conversation| {
                let split = splits.get(&conversation.user).copied();
                let split = split.unwrap_or_else(|| panic!("user {} has no split", conversation.user));
                let encoded = Encoded::new(conversation, &builder.template, assistant_tokens);
                Prepared { encoded, split, windows: Vec::new(), donated: None }
            })
            .collect();
        if study.shown.iter().any(|(_, source)| *source == Source::Shuffled) {
            shuffle(path, &mut prepared, study.seed)?;
        }
        let layouts: Vec<Layout<'_>> =
            study.shown.iter().map(|&(view, _)| Layout { view, kinds: study.kinds, purpose: Purpose::Score }).collect();
        for conversation in &mut prepared {
            let shown: Vec<&Thoughts> = study.shown.iter().map(|(_, source)| conversation.words(*source)).collect();
            let costs = builder.costs(&conversation.encoded, &layouts, &shown);
            conversation.windows = windows(&costs, study.context_tokens).map_err(|long| {
                let id = &conversation.encoded.conversation.id;
                let cause = format!(
                    "message {} of `{id}` needs {} tokens with what hangs on it, the context holds {}",
                    long.message, long.tokens, study.context_tokens
                );
                InputError::new(path, cause)
                    .at(Place::Named(id.clone()))
                    .hint("targets are never truncated: raise `data.context_tokens`, or leave this conversation out")
            })?;
        }
        Ok(Self { builder, prepared })
    }

    /// The streams of one split as a view shows them, in file order. Windows without any target of
    /// `kinds` are left out; they are the same in every arm.
    pub fn streams(
        &self,
        split: Split,
        view: View,
        source: Source,
        kinds: &[TargetKind],
        purpose: Purpose,
    ) -> Vec<Stream> {
        let layout = Layout { view, kinds, purpose };
        let of_split = self.prepared.iter().filter(|conversation| conversation.split == split);
        of_split
            .flat_map(|conversation| {
                let words = conversation.words(source);
                conversation.windows.iter().enumerate().map(move |(number, window)| {
                    self.builder.build(&conversation.encoded, number, window, layout, words)
                })
            })
            .filter(|stream| !stream.targets.is_empty())
            .collect()
    }

    /// The template and system text.
    pub fn builder(&self) -> &StreamBuilder {
        &self.builder
    }

    /// Messages and thoughts of which the model's vocabulary lacks some byte, which no model sees.
    pub fn lossy_texts(&self) -> usize {
        self.prepared.iter().map(|prepared| prepared.encoded.lossy_texts).sum()
    }

    /// How many windows were cut in all, and how many of them leave some target less than half a
    /// context of history.
    pub fn window_counts(&self) -> (usize, usize) {
        let all = || self.prepared.iter().flat_map(|prepared| &prepared.windows);
        (all().count(), all().filter(|window| window.short_history).count())
    }
}

impl Prepared {
    fn words(&self, source: Source) -> &Thoughts {
        match (source, &self.donated) {
            (Source::Own, _) => &self.encoded.thoughts,
            (Source::Shuffled, Some(donated)) => donated,
            (Source::Shuffled, None) => panic!("the study did not declare shuffled thoughts"),
        }
    }
}

/// A user, and the words of one thought of theirs.
type Donor = (String, Vec<u32>);

/// Gives every thought the words of another user's thought of the same kind, from the same split.
/// The draw depends on the seed and the thought alone.
fn shuffle(path: &Path, prepared: &mut [Prepared], seed: u64) -> Result<(), InputError> {
    let mut donors: BTreeMap<(Split, ThoughtKind), Vec<Donor>> = BTreeMap::new();
    let mut by_id: Vec<&Prepared> = prepared.iter().collect();
    by_id.sort_by(|a, b| a.encoded.conversation.id.cmp(&b.encoded.conversation.id));
    for conversation in by_id {
        let Conversation { user, messages, .. } = &conversation.encoded.conversation;
        for (message, words) in messages.iter().zip(&conversation.encoded.thoughts) {
            let pool = donors.entry((conversation.split, message.thought_kind())).or_default();
            pool.extend(words.iter().map(|words| (user.clone(), words.clone())));
        }
    }
    for conversation in prepared {
        let Conversation { id, user, messages, .. } = &conversation.encoded.conversation;
        let mut donated = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let pool = donors.get(&(conversation.split, message.thought_kind())).map_or(&[][..], Vec::as_slice);
            let strangers = pool.iter().filter(|(donor, _)| donor != user).count();
            if strangers == 0 && !message.thoughts.is_empty() {
                let cause = format!(
                    "no other user of the {:?} split has a {:?} to shuffle",
                    conversation.split,
                    message.thought_kind()
                );
                return Err(InputError::new(path, cause.to_lowercase())
                    .at(Place::Named(id.clone()))
                    .hint("shuffled thoughts need at least two users with thoughts in every split: use more users, or fewer folds"));
            }
            let words = (0..message.thoughts.len()).map(|thought| {
                let mut hash = Sha256::new();
                hash.update(format!("shuffle\0{seed}\0{id}\0{index}\0{thought}"));
                let mut random = ChaCha8Rng::from_seed(hash.finalize().into());
                let chosen = random.random_range(0..strangers);
                let donor = pool.iter().filter(|(donor, _)| donor != user).nth(chosen);
                donor.expect("chosen among the strangers").1.clone()
            });
            donated.push(words.collect());
        }
        conversation.donated = Some(donated);
    }
    Ok(())
}
