//! The words shown for a thought: the user's own, another person's, a model's, or filler.
//!
//! A source never changes the number, kind or place of thoughts: an arm with a placebo differs from an arm with the
//! user's own thoughts only in the words.

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::nearest::nearest;
use crate::seed::generator;
use crate::{Encoded, Split, Template, ThoughtAt, ThoughtKind, Thoughts};
use undertone_files::{InputError, Place};

/// Whose thoughts a stream shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
pub enum Source {
    /// The user's own.
    #[default]
    Own,
    /// A placebo without words: the header and the end of each thought. It tells that there is a thought, where, and of
    /// which kind.
    Presence,
    /// A placebo of text that is visible anyway: as many tokens of the conversation, up to the message that the thought
    /// is about.
    SameConversation,
    /// A placebo of the same person: a thought of the same user from a conversation about another task, whenever it was
    /// written, of the same kind and about the same length. A thought of a user without such a thought loses its words, and the items that see it are
    /// left out of every comparison.
    OtherConversation,
    /// A placebo: each thought is replaced by a thought of another user of the same split, of the same kind and about
    /// the same length. Neighbouring thoughts come from different people.
    Shuffled,
    /// A placebo whose thoughts belong together: all thoughts of a conversation are replaced by those of one
    /// conversation of another user of the same split, in order.
    ShuffledTrajectory,
    /// Filler text of the same number of tokens: measures the effect of more tokens alone.
    Filler,
    /// Thoughts written by a model that was trained on other users' thoughts. Only the words are predicted: the user's
    /// own thoughts decide how many there are, of which kind, and where.
    Predicted,
}

impl Source {
    /// Whether the words are drawn at random.
    pub fn is_drawn(self) -> bool {
        use Source::{OtherConversation, SameConversation, Shuffled, ShuffledTrajectory};
        matches!(self, SameConversation | OtherConversation | Shuffled | ShuffledTrajectory)
    }
}

/// A thought of any conversation: conversation, message and thought by index.
type Donor = (usize, usize, usize);

/// The donor of each thought of each message of a conversation; `None` if there is no donor.
type Donors = Vec<Vec<Option<Donor>>>;

/// The words drawn for a conversation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drawn {
    /// The words of each thought.
    pub(crate) thoughts: Thoughts,
    /// The thoughts for which there are none.
    pub(crate) without_words: Vec<ThoughtAt>,
}

/// How many nearest candidates a donor is drawn from.
const NEAREST: usize = 8;

/// The text that [`Source::Filler`] repeats.
const FILLER: &str = "This is a line of text that is here to fill space and has nothing to say. ";

/// The most tokens of a predicted thought. Windows are cut before it is written and reserve this many tokens.
pub const PREDICTED_TOKENS: usize = 48;

/// [`PREDICTED_TOKENS`] tokens of filler for each thought, until the predicted thoughts are written.
pub(crate) fn unwritten(own: &Thoughts, template: &Template) -> Thoughts {
    let words = template.encode(FILLER);
    let room: Vec<u32> = words.iter().copied().cycle().take(PREDICTED_TOKENS).collect();
    own.iter().map(|message| message.iter().map(|_| room.clone()).collect()).collect()
}

/// Filler of as many tokens as each thought has.
pub(crate) fn filler(own: &Thoughts, template: &Template) -> Thoughts {
    let words = template.encode(FILLER);
    let as_long = |thought: &Vec<u32>| words.iter().copied().cycle().take(thought.len()).collect();
    own.iter().map(|message| message.iter().map(as_long).collect()).collect()
}

/// The header and end of each thought, without words.
pub(crate) fn presence(own: &Thoughts) -> Thoughts {
    own.iter().map(|message| vec![Vec::new(); message.len()]).collect()
}

/// Draws the words of every conversation of a division of users. `members` are conversations by index, each with its
/// split. A draw depends on the seed, the conversation and the thought alone.
///
/// # Errors
/// No other user of a split has a thought of a kind that is needed.
pub(crate) fn draw(
    source: Source,
    path: &Path,
    encoded: &[Encoded],
    members: &[(usize, Split)],
    seed: u64,
) -> Result<Vec<Drawn>, InputError> {
    if source == Source::SameConversation {
        return Ok(members.iter().map(|(index, _)| spans(&encoded[*index], seed)).collect());
    }
    // In the order of ids, so that the order of files does not matter.
    let mut sorted = members.to_vec();
    sorted.sort_by_key(|(index, _)| &encoded[*index].conversation.id);
    let draw: Box<dyn Fn(usize, Split) -> Result<Donors, ThoughtKind>> = match source {
        Source::Shuffled => {
            let pools = Pools::new(encoded, &sorted);
            Box::new(move |index, split| pools.one_by_one(encoded, index, split, seed))
        }
        Source::OtherConversation => {
            let by_user = by_user(encoded, &sorted);
            Box::new(move |index, split| {
                let pools = Pools::new(encoded, &by_user[encoded[index].conversation.user.as_str()]);
                Ok(pools.of_the_same_user(encoded, index, split, seed))
            })
        }
        Source::ShuffledTrajectory => Box::new(move |index, split| trajectory(encoded, &sorted, index, split, seed)),
        Source::Own | Source::Presence | Source::SameConversation | Source::Filler | Source::Predicted => {
            panic!("{source:?} has no donors")
        }
    };
    members
        .iter()
        .map(|&(index, split)| {
            let donors = draw(index, split).map_err(|kind| {
                let cause = format!("no other user of the {split:?} split has a {kind:?} that can replace this one").to_lowercase();
                InputError::new(path, cause)
                    .at(Place::Named(encoded[index].conversation.id.clone()))
                    .hint("shuffled thoughts need at least two users with thoughts in every split: use more users, or fewer folds")
            })?;
            Ok(words_of(encoded, &donors))
        })
        .collect()
}

/// The words of donors.
fn words_of(encoded: &[Encoded], donors: &Donors) -> Drawn {
    let mut drawn = Drawn::default();
    for (message, donors) in donors.iter().enumerate() {
        let words = |(thought, donor): (usize, &Option<Donor>)| match donor {
            Some((conversation, message, thought)) => encoded[*conversation].thoughts[*message][*thought].clone(),
            None => {
                drawn.without_words.push((message, thought));
                Vec::new()
            }
        };
        drawn.thoughts.push(donors.iter().enumerate().map(words).collect());
    }
    drawn
}

/// For each thought, as many tokens of the text before it: a random span of the message that it is about, as the model
/// sees it. If that message is shorter, the span begins in earlier messages; if all of them are shorter, it begins anew.
fn spans(encoded: &Encoded, seed: u64) -> Drawn {
    let id = &encoded.conversation.id;
    let span = |message: usize, thought: usize, wanted: usize| -> Vec<u32> {
        let mut text = encoded.messages[message].context.clone();
        for earlier in encoded.messages[..message].iter().rev() {
            if text.len() >= wanted {
                break;
            }
            text.splice(0..0, earlier.context.iter().copied());
        }
        let places = text.len().saturating_sub(wanted) + 1;
        let [seed, message, thought] = [seed, message as u64, thought as u64].map(|part| part.to_string());
        let mut random = generator("same conversation", &[&seed, id, &message, &thought]);
        let start = random.random_range(0..places as u32) as usize;
        text.iter().copied().cycle().skip(start).take(if text.is_empty() { 0 } else { wanted }).collect()
    };
    let of_message = |(message, own): (usize, &Vec<Vec<u32>>)| {
        own.iter().enumerate().map(|(thought, own)| span(message, thought, own.len())).collect()
    };
    Drawn { thoughts: encoded.thoughts.iter().enumerate().map(of_message).collect(), without_words: Vec::new() }
}

/// The conversations of each user.
fn by_user<'a>(encoded: &'a [Encoded], members: &[(usize, Split)]) -> BTreeMap<&'a str, Vec<(usize, Split)>> {
    let mut users: BTreeMap<&str, Vec<(usize, Split)>> = BTreeMap::new();
    for member in members {
        users.entry(&encoded[member.0].conversation.user).or_default().push(*member);
    }
    users
}

/// Every thought of a split by kind, shortest first.
struct Pools(BTreeMap<(Split, ThoughtKind), Vec<(usize, Donor)>>);

impl Pools {
    fn new(encoded: &[Encoded], members: &[(usize, Split)]) -> Self {
        let mut pools: BTreeMap<_, Vec<(usize, Donor)>> = BTreeMap::new();
        for &(index, split) in members {
            for (at, message) in encoded[index].conversation.messages.iter().enumerate() {
                let pool = pools.entry((split, message.thought_kind())).or_default();
                let thoughts = encoded[index].thoughts[at].iter().enumerate();
                pool.extend(thoughts.map(|(thought, words)| (words.len(), (index, at, thought))));
            }
        }
        // Stable: thoughts of one length stay in the order of ids.
        pools.values_mut().for_each(|pool| pool.sort_by_key(|(length, _)| *length));
        Self(pools)
    }

    /// For each thought, a donor drawn from the other users' thoughts nearest in length.
    fn one_by_one(&self, encoded: &[Encoded], index: usize, split: Split, seed: u64) -> Result<Donors, ThoughtKind> {
        let user = &encoded[index].conversation.user;
        let is_stranger = |donor: &Donor| encoded[donor.0].conversation.user != *user;
        let donors = self.nearest_in_length(encoded, (index, split), "shuffle", seed, is_stranger);
        let messages = &encoded[index].conversation.messages;
        match donors.iter().zip(messages).find(|(donors, _)| donors.contains(&None)) {
            Some((_, message)) => Err(message.thought_kind()),
            None => Ok(donors),
        }
    }

    /// For each thought, a donor drawn from the thoughts nearest in length of the same user's conversations about other
    /// tasks.
    fn of_the_same_user(&self, encoded: &[Encoded], index: usize, split: Split, seed: u64) -> Donors {
        // Conversations about one task are often near copies of each other.
        let task = &encoded[index].conversation.task;
        let is_elsewhere = |donor: &Donor| encoded[donor.0].conversation.task != *task;
        self.nearest_in_length(encoded, (index, split), "other conversation", seed, is_elsewhere)
    }

    fn nearest_in_length(
        &self,
        encoded: &[Encoded],
        (index, split): (usize, Split),
        purpose: &str,
        seed: u64,
        passes: impl Fn(&Donor) -> bool,
    ) -> Donors {
        let conversation = &encoded[index].conversation;
        let donors_of_message = |(at, words): (usize, &Vec<Vec<u32>>)| {
            let pool = self.0.get(&(split, conversation.messages[at].thought_kind())).map_or(&[][..], Vec::as_slice);
            let donor_of_thought = |(thought, words): (usize, &Vec<u32>)| {
                let nearest: Vec<Donor> = nearest(pool, words.len(), &passes).take(NEAREST).collect();
                let place = [at, thought].map(|number| number.to_string());
                let mut random = generator(purpose, &[&seed.to_string(), &conversation.id, &place[0], &place[1]]);
                (!nearest.is_empty()).then(|| nearest[random.random_range(0..nearest.len() as u32) as usize])
            };
            words.iter().enumerate().map(donor_of_thought).collect()
        };
        encoded[index].thoughts.iter().enumerate().map(donors_of_message).collect()
    }
}

/// All thoughts of a conversation, by kind and in order.
fn thoughts_of(encoded: &Encoded, index: usize) -> BTreeMap<ThoughtKind, Vec<Donor>> {
    let mut thoughts: BTreeMap<ThoughtKind, Vec<Donor>> = BTreeMap::new();
    for (at, message) in encoded.conversation.messages.iter().enumerate() {
        let message_thoughts = (0..message.thoughts.len()).map(|thought| (index, at, thought));
        if message_thoughts.len() > 0 {
            thoughts.entry(message.thought_kind()).or_default().extend(message_thoughts);
        }
    }
    thoughts
}

/// For the thoughts of a conversation, those of one conversation of another user, by kind and in order; a donor with
/// fewer thoughts repeats them.
fn trajectory(
    encoded: &[Encoded],
    members: &[(usize, Split)],
    index: usize,
    split: Split,
    seed: u64,
) -> Result<Donors, ThoughtKind> {
    let conversation = &encoded[index].conversation;
    let needed = thoughts_of(&encoded[index], index);
    let count = |thoughts: &BTreeMap<ThoughtKind, Vec<Donor>>| thoughts.values().map(Vec::len).sum::<usize>();
    let mut donors: Vec<(usize, usize)> = members
        .iter()
        .filter(|(other, part)| *part == split && encoded[*other].conversation.user != conversation.user)
        .map(|(other, _)| (*other, thoughts_of(&encoded[*other], *other)))
        .filter(|(_, thoughts)| needed.keys().all(|kind| thoughts.contains_key(kind)))
        .map(|(other, thoughts)| (count(&thoughts), other))
        .collect();
    donors.sort_by_key(|(thoughts, _)| *thoughts);
    let nearest: Vec<usize> = nearest(&donors, count(&needed), |_| true).take(NEAREST).collect();
    let mut random = generator("trajectory", &[&seed.to_string(), &conversation.id]);
    let donor = match (nearest.len(), needed.keys().next()) {
        (_, None) => return Ok(vec![Vec::new(); conversation.messages.len()]),
        (0, Some(kind)) => return Err(*kind),
        (count, Some(_)) => nearest[random.random_range(0..count as u32) as usize],
    };
    let mut given: BTreeMap<ThoughtKind, _> = thoughts_of(&encoded[donor], donor)
        .into_iter()
        .map(|(kind, thoughts)| (kind, thoughts.into_iter().cycle()))
        .collect();
    let donors_of_message = |message: &crate::Message| {
        let kind = message.thought_kind();
        (0..message.thoughts.len())
            .map(|_| given.get_mut(&kind).and_then(Iterator::next).map(Some).ok_or(kind))
            .collect()
    };
    conversation.messages.iter().map(donors_of_message).collect()
}
