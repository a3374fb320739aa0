//! All conversations of a study, encoded and cut into windows once, for every arm.
//!
//! A [`Study`] says what any of the arms will ask for; a [`Corpus`] is one division of the users made
//! for it and hands out streams of one view at a time. Windows are shared by all arms, so all arms
//! have the same items, order and history. Token ids are shared by all divisions ([`encode`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

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

/// What becomes of a conversation with a target that is longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTooLong {
    /// It ends the study.
    #[default]
    Error,
    /// The whole conversation is left out of every arm, and counted.
    Skip,
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
    /// A target longer than the context.
    pub on_too_long: OnTooLong,
    /// Seed of the shuffle.
    pub seed: u64,
}

/// Somebody's thought: conversation, message and thought by index.
type ThoughtAt = (usize, usize, usize);

/// One conversation, ready to be laid out.
#[derive(Debug, Clone)]
struct Prepared {
    /// Among the encoded conversations.
    index: usize,
    split: Split,
    windows: Vec<Window>,
    /// Whose words stand for each thought of each message.
    donors: Option<Vec<Vec<ThoughtAt>>>,
}

/// Encoded conversations with the splits, donors and windows of one division of users.
#[derive(Debug, Clone)]
pub struct Corpus {
    builder: StreamBuilder,
    encoded: Arc<[Encoded]>,
    prepared: Vec<Prepared>,
    too_long: BTreeSet<String>,
}

/// Token ids of all conversations, for every division of their users.
pub fn encode(conversations: Vec<Conversation>, builder: &StreamBuilder, study: &Study<'_>) -> Arc<[Encoded]> {
    // An assistant message of half a context still leaves its target a history.
    let assistant_tokens = study.assistant_tokens.min(study.context_tokens / 2);
    let encode = |conversation| Encoded::new(conversation, &builder.template, assistant_tokens);
    conversations.into_iter().map(encode).collect()
}

impl Corpus {
    /// Shuffles where an arm asks for it, and cuts windows. `path` is where the conversations came
    /// from, for messages.
    ///
    /// # Errors
    /// A target that is longer than the context, unless such are skipped; a split whose thoughts all
    /// belong to one user, where they have to be shuffled.
    ///
    /// # Panics
    /// If a conversation's user has no split.
    pub fn new(
        path: &Path,
        encoded: Arc<[Encoded]>,
        splits: &BTreeMap<String, Split>,
        builder: StreamBuilder,
        study: &Study<'_>,
    ) -> Result<Self, InputError> {
        let place = |(index, encoded): (usize, &Encoded)| {
            let user = &encoded.conversation.user;
            let split = *splits.get(user).unwrap_or_else(|| panic!("user {user} has no split"));
            Prepared { index, split, windows: Vec::new(), donors: None }
        };
        let prepared = encoded.iter().enumerate().map(place).collect();
        let mut corpus = Self { builder, encoded, prepared, too_long: BTreeSet::new() };
        if study.shown.iter().any(|(_, source)| *source == Source::Shuffled) {
            shuffle(path, &corpus.encoded, &mut corpus.prepared, study.seed)?;
        }
        corpus.cut(path, study)?;
        Ok(corpus)
    }

    /// Cuts windows that hold whatever any arm shows.
    fn cut(&mut self, path: &Path, study: &Study<'_>) -> Result<(), InputError> {
        let layouts: Vec<Layout<'_>> =
            study.shown.iter().map(|&(view, _)| Layout { view, kinds: study.kinds, purpose: Purpose::Score }).collect();
        for mut conversation in std::mem::take(&mut self.prepared) {
            let encoded = &self.encoded[conversation.index];
            let shown: Vec<Cow<'_, Thoughts>> =
                study.shown.iter().map(|(_, source)| self.words(&conversation, *source)).collect();
            let shown: Vec<&Thoughts> = shown.iter().map(Cow::as_ref).collect();
            let id = &encoded.conversation.id;
            match windows(&self.builder.costs(encoded, &layouts, &shown), study.context_tokens) {
                Ok(windows) => {
                    conversation.windows = windows;
                    self.prepared.push(conversation);
                }
                Err(_) if study.on_too_long == OnTooLong::Skip => {
                    self.too_long.insert(id.clone());
                }
                Err(long) => {
                    let cause = format!(
                        "message {} of `{id}` needs {} tokens with what hangs on it, the context holds {}",
                        long.message, long.tokens, study.context_tokens
                    );
                    return Err(InputError::new(path, cause).at(Place::Named(id.clone())).hint(
                        "targets are never truncated: raise `data.context_tokens`, or leave such conversations out with `data.on_too_long = \"skip\"`",
                    ));
                }
            }
        }
        Ok(())
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
                let words = self.words(conversation, source);
                let encoded = &self.encoded[conversation.index];
                let build = |(number, window)| self.builder.build(encoded, number, window, layout, &words);
                conversation.windows.iter().enumerate().map(build).collect::<Vec<_>>()
            })
            .filter(|stream| !stream.targets.is_empty())
            .collect()
    }

    /// The thoughts that stand in a conversation: its own, or those drawn for them.
    fn words(&self, conversation: &Prepared, source: Source) -> Cow<'_, Thoughts> {
        let words = |&(conversation, message, thought): &ThoughtAt| -> Vec<u32> {
            self.encoded[conversation].thoughts[message][thought].clone()
        };
        match (source, &conversation.donors) {
            (Source::Own, _) => Cow::Borrowed(&self.encoded[conversation.index].thoughts),
            (Source::Shuffled, Some(donors)) => {
                Cow::Owned(donors.iter().map(|message| message.iter().map(words).collect()).collect())
            }
            (Source::Shuffled, None) => panic!("the study did not declare shuffled thoughts"),
        }
    }

    /// The template and system text.
    pub fn builder(&self) -> &StreamBuilder {
        &self.builder
    }

    /// Messages and thoughts of which the model's vocabulary lacks some byte, which no model sees.
    pub fn lossy_texts(&self) -> usize {
        self.prepared.iter().map(|prepared| self.encoded[prepared.index].lossy_texts).sum()
    }

    /// The conversations left out because a target is longer than the context, by id.
    pub fn too_long(&self) -> &BTreeSet<String> {
        &self.too_long
    }

    /// How many windows were cut in all, and how many of them leave some target less than half a
    /// context of history.
    pub fn window_counts(&self) -> (usize, usize) {
        let all = || self.prepared.iter().flat_map(|prepared| &prepared.windows);
        (all().count(), all().filter(|window| window.short_history).count())
    }
}

/// Draws for every thought another user's thought of the same kind, from the same split. The draw
/// depends on the seed and the thought alone.
fn shuffle(path: &Path, encoded: &[Encoded], prepared: &mut [Prepared], seed: u64) -> Result<(), InputError> {
    let mut donors: BTreeMap<(Split, ThoughtKind), Vec<ThoughtAt>> = BTreeMap::new();
    let mut by_id: Vec<&Prepared> = prepared.iter().collect();
    by_id.sort_by_key(|prepared| &encoded[prepared.index].conversation.id);
    for Prepared { index, split, .. } in by_id {
        for (at, message) in encoded[*index].conversation.messages.iter().enumerate() {
            let pool = donors.entry((*split, message.thought_kind())).or_default();
            pool.extend((0..message.thoughts.len()).map(|thought| (*index, at, thought)));
        }
    }
    let user_of = |donor: &&ThoughtAt| encoded[donor.0].conversation.user.as_str();
    for conversation in prepared {
        let Conversation { id, user, messages, .. } = &encoded[conversation.index].conversation;
        let mut drawn = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let pool = donors.get(&(conversation.split, message.thought_kind())).map_or(&[][..], Vec::as_slice);
            let strangers = || pool.iter().filter(|donor| user_of(donor) != user);
            let count = strangers().count();
            if count == 0 && !message.thoughts.is_empty() {
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
                *strangers().nth(random.random_range(0..count)).expect("drawn among the strangers")
            });
            drawn.push(words.collect());
        }
        conversation.donors = Some(drawn);
    }
    Ok(())
}
