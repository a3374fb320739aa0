//! All conversations of a study, encoded and cut into windows once, for every arm.
//!
//! A [`CorpusSpec`] lists what the arms need; a [`Corpus`] holds one [`Division`] of the users and returns streams of one
//! view at a time. All arms and divisions share the windows, so they have the same items, order and history, and the
//! token ids ([`encode`]).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::distractors::{self, Distractors};
use crate::source::{Drawn, PREDICTED_TOKENS, draw, filler, presence, unwritten};
use crate::window::{Costs, TooLong, Window, windows};
use crate::{
    Conversation, Encoded, Layout, Purpose, Source, Split, Stream, StreamBuilder, TargetKind, Thoughts, View, Words,
};
use undertone_files::{InputError, Place};

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
    /// Seed of distractors.
    pub seed: u64,
    /// The windows of each conversation, if they were cut before. A conversation without windows is left out.
    pub windows: Option<&'a Windows>,
}

/// One division of the users.
#[derive(Debug, Clone)]
pub struct Division {
    /// The split of every user.
    pub splits: BTreeMap<String, Split>,
    /// The seed of each draw of the words that a [drawn source](Source::is_drawn) shows.
    pub draws: Vec<u64>,
}

/// The windows of conversations by id.
pub type Windows = BTreeMap<String, Vec<Window>>;

/// One conversation, ready to be laid out.
#[derive(Debug, Clone)]
struct Prepared {
    /// Index into the encoded conversations.
    index: usize,
    split: Split,
    windows: Vec<Window>,
    /// The words of each drawn source and draw.
    drawn: BTreeMap<(Source, usize), Drawn>,
    /// Other users' messages that are scored beside its own.
    distractors: Distractors,
}

/// Encoded conversations with the splits, donors and windows of one division of users.
#[derive(Debug, Clone)]
pub struct Corpus {
    builder: StreamBuilder,
    encoded: Arc<[Encoded]>,
    prepared: Vec<Prepared>,
    /// How many draws each drawn source has.
    draws: usize,
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
    /// The corpus of one division of the users: [`Self::all`].
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn new(
        path: &Path,
        encoded: Arc<[Encoded]>,
        splits: &BTreeMap<String, Split>,
        builder: StreamBuilder,
        spec: &CorpusSpec<'_>,
    ) -> Result<Self, InputError> {
        let division = Division { splits: splits.clone(), draws: vec![spec.seed] };
        Ok(Self::all(path, encoded, &[division], builder, spec)?.remove(0))
    }

    /// One corpus for each division of the users: draws words and distractors, and cuts windows, which all corpora
    /// share. `path` is the file of the conversations, for errors.
    ///
    /// # Errors
    /// A target is longer than the context, unless the policy is to skip; a split has too few other users to draw
    /// words or distractors from.
    ///
    /// # Panics
    /// If a conversation's user has no split.
    pub fn all(
        path: &Path,
        encoded: Arc<[Encoded]>,
        divisions: &[Division],
        builder: StreamBuilder,
        spec: &CorpusSpec<'_>,
    ) -> Result<Vec<Self>, InputError> {
        let drawn = |division| Self::drawn(path, encoded.clone(), division, builder.clone(), spec);
        let mut corpora = divisions.iter().map(drawn).collect::<Result<Vec<_>, _>>()?;
        let mut windows = Windows::new();
        for index in 0..encoded.len() {
            let costs = corpora.iter().map(|corpus| builder.costs(&encoded[index], &corpus.shown(index, spec)));
            let Some(costs) = costs.reduce(|costs, other| costs.highest(&other)) else { continue };
            let id = &encoded[index].conversation.id;
            if let Some(cut) = cut(path, id, &costs, spec)? {
                windows.insert(id.clone(), cut);
            }
        }
        for corpus in &mut corpora {
            for mut prepared in std::mem::take(&mut corpus.prepared) {
                let id = &encoded[prepared.index].conversation.id;
                match windows.get(id) {
                    None => drop(corpus.too_long.insert(id.clone())),
                    Some(windows) => {
                        prepared.windows.clone_from(windows);
                        corpus.prepared.push(prepared);
                    }
                }
            }
        }
        Ok(corpora)
    }

    /// A corpus without windows.
    fn drawn(
        path: &Path,
        encoded: Arc<[Encoded]>,
        division: &Division,
        builder: StreamBuilder,
        spec: &CorpusSpec<'_>,
    ) -> Result<Self, InputError> {
        let place = |(index, encoded): (usize, &Encoded)| {
            let user = &encoded.conversation.user;
            let split = *division.splits.get(user).unwrap_or_else(|| panic!("user {user} has no split"));
            Prepared { index, split, windows: Vec::new(), drawn: BTreeMap::new(), distractors: Vec::new() }
        };
        let prepared = encoded.iter().enumerate().map(place).collect();
        let draws = division.draws.len();
        let mut corpus = Self { builder, encoded, prepared, draws, too_long: BTreeSet::new(), predicted: None };
        let sources: BTreeSet<Source> = spec.shown.iter().map(|(_, source)| *source).collect();
        let members: Vec<(usize, Split)> = corpus.prepared.iter().map(|one| (one.index, one.split)).collect();
        for source in sources.into_iter().filter(|source| source.is_drawn()) {
            for (number, seed) in division.draws.iter().enumerate() {
                let words = draw(source, path, &corpus.encoded, &members, *seed)?;
                for (conversation, words) in corpus.prepared.iter_mut().zip(words) {
                    conversation.drawn.insert((source, number), words);
                }
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
        Ok(corpus)
    }

    /// Everything that some arm shows of conversation number `index`.
    fn shown<'a>(&'a self, index: usize, spec: &CorpusSpec<'a>) -> Vec<(Layout<'a>, Words<'a>)> {
        let mut shown = Vec::new();
        for &(view, source) in spec.shown {
            let draws = if source.is_drawn() { self.draws } else { 1 };
            let layout = Layout::new(view, spec.kinds, Purpose::Score);
            shown.extend((0..draws).map(|draw| (layout, self.words(&self.prepared[index], source, draw))));
        }
        shown
    }

    /// The streams of one split under a layout, in file order; `draw` is the number of the draw that a drawn source
    /// shows. Windows without a target of the layout's kinds are left out; they are the same in every arm.
    pub fn streams(&self, split: Split, source: Source, draw: usize, layout: Layout<'_>) -> Vec<Stream> {
        let members = self.prepared.iter().filter(|conversation| conversation.split == split);
        members
            .flat_map(|conversation| {
                let words = self.words(conversation, source, draw);
                let encoded = &self.encoded[conversation.index];
                let build = |(number, window)| self.builder.build(encoded, number, window, layout, &words);
                conversation.windows.iter().enumerate().map(build).collect::<Vec<_>>()
            })
            .filter(|stream| !stream.targets.is_empty())
            .collect()
    }

    /// One window under a layout, by its stream's id, with the first draw of a drawn source.
    pub fn stream(&self, id: &str, source: Source, layout: Layout<'_>) -> Option<Stream> {
        let (conversation, number) = id.rsplit_once("/window")?;
        let number: usize = number.parse().ok()?;
        let is_it = |one: &&Prepared| self.encoded[one.index].conversation.id == conversation;
        let prepared = self.prepared.iter().find(is_it)?;
        let window = prepared.windows.get(number)?;
        let words = self.words(prepared, source, 0);
        Some(self.builder.build(&self.encoded[prepared.index], number, window, layout, &words))
    }

    /// The words shown with a conversation: its own thoughts or their replacements from a source, and its distractors.
    fn words<'a>(&'a self, conversation: &'a Prepared, source: Source, draw: usize) -> Words<'a> {
        let own = &self.encoded[conversation.index].thoughts;
        let mut without_words = Cow::default();
        let thoughts = match source {
            Source::Own => Cow::Borrowed(own),
            Source::Presence => Cow::Owned(presence(own)),
            Source::Filler => Cow::Owned(filler(own, &self.builder.template)),
            Source::Predicted => match &self.predicted {
                Some(written) => Cow::Borrowed(&written[&self.encoded[conversation.index].conversation.id]),
                None => Cow::Owned(unwritten(own, &self.builder.template)),
            },
            Source::SameConversation | Source::OtherConversation | Source::Shuffled | Source::ShuffledTrajectory => {
                let drawn = conversation.drawn.get(&(source, draw)).expect("the study declared this source and draw");
                without_words = Cow::Borrowed(&drawn.without_words[..]);
                Cow::Borrowed(&drawn.thoughts)
            }
        };
        let said =
            |&(conversation, message): &(usize, usize)| self.encoded[conversation].messages[message].content.clone();
        let distractors = conversation.distractors.iter().map(|others| others.iter().map(said).collect()).collect();
        Words { thoughts, without_words, distractors }
    }

    /// The words that a source shows in the place of each thought of a test user's conversation, by message; `None` if
    /// there is no such conversation.
    pub fn shown_words(&self, conversation: &str, source: Source, draw: usize) -> Option<Vec<Vec<String>>> {
        let is_it = |one: &&Prepared| self.encoded[one.index].conversation.id == conversation;
        let prepared = self.prepared.iter().filter(|one| one.split == Split::Test).find(is_it)?;
        let words = self.words(prepared, source, draw);
        let text = |ids: &Vec<u32>| self.builder.template.decode(ids);
        Some(words.thoughts.iter().map(|message| message.iter().map(text).collect()).collect())
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

    /// The windows of every conversation that is not left out; the same in every division.
    pub fn all_windows(&self) -> Windows {
        let id = |prepared: &Prepared| self.encoded[prepared.index].conversation.id.clone();
        self.prepared.iter().map(|prepared| (id(prepared), prepared.windows.clone())).collect()
    }

    /// The number of windows, and the number with a [short history](Window::short_history).
    pub fn window_counts(&self) -> (usize, usize) {
        let all = || self.prepared.iter().flat_map(|prepared| &prepared.windows);
        (all().count(), all().filter(|window| window.short_history).count())
    }
}

/// How far the words of an arm or of a draw that was added to a study may exceed the windows that the study has: by one
/// in so many tokens of the context.
const ROOM_FOR_ADDED_WORDS: usize = 8;

/// The windows of one conversation, or those that it has already; `None` if it is left out.
fn cut(path: &Path, id: &str, costs: &Costs, spec: &CorpusSpec<'_>) -> Result<Option<Vec<Window>>, InputError> {
    let context = spec.context_tokens;
    let too_long = |TooLong { message, tokens }| {
        let cause = format!(
            "message {message} of `{id}` needs {tokens} tokens with its thoughts and targets, but the context holds {context}"
        );
        InputError::new(path, cause).at(Place::Named(id.to_owned()))
    };
    match spec.windows.map(|known| known.get(id)) {
        Some(None) => Ok(None),
        Some(Some(known)) => match costs.check(known, context + context / ROOM_FOR_ADDED_WORDS) {
            Ok(()) => Ok(Some(known.clone())),
            Err(long) => Err(too_long(long).hint(
                "the study has begun, so its windows stay as they are, and an arm that was added needs more room: give that arm a study of its own",
            )),
        },
        None => match windows(costs, context) {
            Ok(windows) => Ok(Some(windows)),
            Err(_) if spec.on_too_long == OnTooLong::Skip => Ok(None),
            Err(long) => Err(too_long(long).hint(
                "targets are never truncated: raise `data.context_tokens`, or skip such conversations with `data.on_too_long = \"skip\"`",
            )),
        },
    }
}
