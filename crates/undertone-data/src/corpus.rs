//! All conversations of a study, encoded and cut into windows once, for every arm.
//!
//! A [`CorpusSpec`] lists what the arms need; a [`Corpus`] holds one division of the users and returns streams of one
//! view at a time. All arms share the windows, so all arms have the same items, order and history. All divisions share
//! the token ids ([`encode`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::distractors::{self, Distractors};
use crate::source::{Donors, PREDICTED_TOKENS, ThoughtAt, draw, filler, unwritten};
use crate::window::{Window, windows};
use crate::{
    Conversation, Encoded, InputError, Layout, Place, Purpose, Source, Split, Stream, StreamBuilder, TargetKind,
    Thoughts, View, Words,
};

/// Policy for conversations with a target longer than the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTooLong {
    /// [`Corpus::new`] fails.
    #[default]
    Error,
    /// The whole conversation is left out of every arm, and counted.
    Skip,
}

/// What the arms need of a corpus: their views and sources, the targets and the limits.
#[derive(Debug, Clone)]
pub struct CorpusSpec<'a> {
    /// Every view and source of every arm, in training and evaluation.
    pub shown: &'a [(View, Source)],
    /// Every kind of target.
    pub kinds: &'a [TargetKind],
    /// The longest path, in tokens.
    pub context_tokens: usize,
    /// Longer assistant messages are shortened to this many tokens as context.
    pub assistant_tokens: usize,
    /// Policy for targets longer than the context.
    pub on_too_long: OnTooLong,
    /// How many messages of other users are scored beside each message of a test user.
    pub distractors: usize,
    /// Seed of shuffles and distractors.
    pub seed: u64,
}

/// One conversation, ready to be laid out.
#[derive(Debug, Clone)]
struct Prepared {
    /// Index into the encoded conversations.
    index: usize,
    split: Split,
    windows: Vec<Window>,
    /// The donors of each source that shows other users' thoughts.
    donors: BTreeMap<Source, Donors>,
    /// Other users' messages that are scored beside its own.
    distractors: Distractors,
}

/// Encoded conversations with the splits, donors and windows of one division of users.
#[derive(Debug, Clone)]
pub struct Corpus {
    builder: StreamBuilder,
    encoded: Arc<[Encoded]>,
    prepared: Vec<Prepared>,
    too_long: BTreeSet<String>,
    /// Predicted thoughts by conversation id; `None` until they are written.
    predicted: Option<BTreeMap<String, Thoughts>>,
}

/// Encodes all conversations once, for every division of their users.
pub fn encode(conversations: Vec<Conversation>, builder: &StreamBuilder, spec: &CorpusSpec<'_>) -> Arc<[Encoded]> {
    // An assistant message of at most half a context leaves room for a target's history.
    let assistant_tokens = spec.assistant_tokens.min(spec.context_tokens / 2);
    let encode = |conversation| Encoded::new(conversation, &builder.template, assistant_tokens);
    conversations.into_iter().map(encode).collect()
}

impl Corpus {
    /// Draws donors and distractors and cuts windows. `path` is the file of the conversations, for errors.
    ///
    /// # Errors
    /// A target is longer than the context, unless the policy is to skip; a split has too few other users to draw
    /// donors or distractors from.
    ///
    /// # Panics
    /// If a conversation's user has no split.
    pub fn new(
        path: &Path,
        encoded: Arc<[Encoded]>,
        splits: &BTreeMap<String, Split>,
        builder: StreamBuilder,
        spec: &CorpusSpec<'_>,
    ) -> Result<Self, InputError> {
        let place = |(index, encoded): (usize, &Encoded)| {
            let user = &encoded.conversation.user;
            let split = *splits.get(user).unwrap_or_else(|| panic!("user {user} has no split"));
            Prepared { index, split, windows: Vec::new(), donors: BTreeMap::new(), distractors: Vec::new() }
        };
        let prepared = encoded.iter().enumerate().map(place).collect();
        let mut corpus = Self { builder, encoded, prepared, too_long: BTreeSet::new(), predicted: None };
        let sources: BTreeSet<Source> = spec.shown.iter().map(|(_, source)| *source).collect();
        for source in sources.into_iter().filter(|source| source.has_donors()) {
            let members: Vec<(usize, Split)> = corpus.prepared.iter().map(|one| (one.index, one.split)).collect();
            let donors = draw(source, path, &corpus.encoded, &members, spec.seed)?;
            for (conversation, donors) in corpus.prepared.iter_mut().zip(donors) {
                conversation.donors.insert(source, donors);
            }
        }
        if spec.distractors > 0 {
            let mut tested: Vec<&mut Prepared> =
                corpus.prepared.iter_mut().filter(|one| one.split == Split::Test).collect();
            let members: Vec<usize> = tested.iter().map(|one| one.index).collect();
            let drawn = distractors::draw(path, &corpus.encoded, &members, spec.distractors, spec.seed)?;
            for (conversation, drawn) in tested.iter_mut().zip(drawn) {
                conversation.distractors = drawn;
            }
        }
        corpus.cut(path, spec)?;
        Ok(corpus)
    }

    /// Cuts windows that fit what every arm shows.
    fn cut(&mut self, path: &Path, spec: &CorpusSpec<'_>) -> Result<(), InputError> {
        for mut conversation in std::mem::take(&mut self.prepared) {
            let encoded = &self.encoded[conversation.index];
            let shown = |&(view, source): &(View, Source)| {
                let layout = Layout { view, kinds: spec.kinds, purpose: Purpose::Score, dropout: None };
                (layout, self.words(&conversation, source))
            };
            let shown: Vec<(Layout<'_>, Words<'_>)> = spec.shown.iter().map(shown).collect();
            let id = &encoded.conversation.id;
            match windows(&self.builder.costs(encoded, &shown), spec.context_tokens) {
                Ok(windows) => {
                    conversation.windows = windows;
                    self.prepared.push(conversation);
                }
                Err(_) if spec.on_too_long == OnTooLong::Skip => {
                    self.too_long.insert(id.clone());
                }
                Err(long) => {
                    let cause = format!(
                        "message {} of `{id}` needs {} tokens with its thoughts and targets, but the context holds {}",
                        long.message, long.tokens, spec.context_tokens
                    );
                    return Err(InputError::new(path, cause).at(Place::Named(id.clone())).hint(
                        "targets are never truncated: raise `data.context_tokens`, or skip such conversations with `data.on_too_long = \"skip\"`",
                    ));
                }
            }
        }
        Ok(())
    }

    /// The streams of one split under a layout, in file order. Windows without a target of the layout's kinds are left
    /// out; they are the same in every arm.
    pub fn streams(&self, split: Split, source: Source, layout: Layout<'_>) -> Vec<Stream> {
        let members = self.prepared.iter().filter(|conversation| conversation.split == split);
        members
            .flat_map(|conversation| {
                let words = self.words(conversation, source);
                let encoded = &self.encoded[conversation.index];
                let build = |(number, window)| self.builder.build(encoded, number, window, layout, &words);
                conversation.windows.iter().enumerate().map(build).collect::<Vec<_>>()
            })
            .filter(|stream| !stream.targets.is_empty())
            .collect()
    }

    /// The words shown with a conversation: its own thoughts or their replacements from a source, and its distractors.
    fn words(&self, conversation: &Prepared, source: Source) -> Words<'_> {
        let own = &self.encoded[conversation.index].thoughts;
        let thoughts = match source {
            Source::Own => Cow::Borrowed(own),
            Source::Filler => Cow::Owned(filler(own, &self.builder.template)),
            Source::Predicted => match &self.predicted {
                Some(written) => Cow::Borrowed(&written[&self.encoded[conversation.index].conversation.id]),
                None => Cow::Owned(unwritten(own, &self.builder.template)),
            },
            Source::Shuffled | Source::ShuffledTrajectory => {
                let donors = conversation.donors.get(&source).expect("the study declared this source");
                let words = |&(conversation, message, thought): &ThoughtAt| {
                    self.encoded[conversation].thoughts[message][thought].clone()
                };
                Cow::Owned(donors.iter().map(|message| message.iter().map(words).collect()).collect())
            }
        };
        let said =
            |&(conversation, message): &(usize, usize)| self.encoded[conversation].messages[message].content.clone();
        let distractors = conversation.distractors.iter().map(|others| others.iter().map(said).collect()).collect();
        Words { thoughts, distractors }
    }

    /// Sets the predicted thoughts, by conversation id, message and thought.
    ///
    /// # Panics
    /// If a conversation is missing, has another number of thoughts on a message, or has a thought longer than
    /// [`PREDICTED_TOKENS`].
    pub fn set_predicted(&mut self, written: BTreeMap<String, Thoughts>) {
        for conversation in &self.prepared {
            let Encoded { conversation, thoughts, .. } = &self.encoded[conversation.index];
            let id = &conversation.id;
            let written = written.get(id).unwrap_or_else(|| panic!("no predicted thoughts for {id}"));
            let counts = |thoughts: &Thoughts| thoughts.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(counts(written), counts(thoughts), "thoughts of {id}");
            let longest = written.iter().flatten().map(Vec::len).max().unwrap_or_default();
            assert!(longest <= PREDICTED_TOKENS, "a thought of {longest} tokens in {id}");
        }
        self.predicted = Some(written);
    }

    /// The template and system text.
    pub fn builder(&self) -> &StreamBuilder {
        &self.builder
    }

    /// How many messages and thoughts have a byte that the vocabulary cannot encode; no model sees that byte.
    pub fn lossy_texts(&self) -> usize {
        self.prepared.iter().map(|prepared| self.encoded[prepared.index].lossy_texts).sum()
    }

    /// Ids of the conversations left out because a target is longer than the context.
    pub fn too_long(&self) -> &BTreeSet<String> {
        &self.too_long
    }

    /// The id and windows of each conversation of a split, in file order.
    pub fn windows(&self, split: Split) -> impl Iterator<Item = (&str, &[Window])> {
        let members = self.prepared.iter().filter(move |conversation| conversation.split == split);
        members.map(|conversation| {
            (self.encoded[conversation.index].conversation.id.as_str(), conversation.windows.as_slice())
        })
    }

    /// The number of windows, and the number with a [short history](Window::short_history).
    pub fn window_counts(&self) -> (usize, usize) {
        let all = || self.prepared.iter().flat_map(|prepared| &prepared.windows);
        (all().count(), all().filter(|window| window.short_history).count())
    }
}
