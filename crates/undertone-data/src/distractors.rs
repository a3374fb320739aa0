//! Messages of other users that a model must tell from the one that was really written.
//!
//! They come from the same split, are about as long, and stand where the true message would stand: what is left to
//! tell them apart is whether they fit the conversation. First messages follow nothing, so they have none and are none.

use std::collections::HashSet;
use std::path::Path;

use rand::seq::SliceRandom;

use crate::nearest::nearest;
use crate::seed::generator;
use crate::{Encoded, InputError, Item, Place, TargetKind};

/// A user message: conversation and message by index.
pub(crate) type MessageAt = (usize, usize);

/// Whose messages stand beside each message of a conversation; none beside those that are no target.
pub(crate) type Distractors = Vec<Vec<MessageAt>>;

/// They are drawn among so many times as many that are nearest in length.
const NEAREST: usize = 3;

/// Draws `count` distractors for every user message of some conversations of one split, given by index. A draw depends
/// on the seed and the message alone.
///
/// # Errors
/// A message beside which other users wrote too few.
pub(crate) fn draw(
    path: &Path,
    encoded: &[Encoded],
    members: &[usize],
    count: usize,
    seed: u64,
) -> Result<Vec<Distractors>, InputError> {
    let pool = Pool::new(encoded, members);
    let of_conversation = |&index: &usize| {
        let messages = prompts(&encoded[index]);
        let mut distractors = vec![Vec::new(); encoded[index].messages.len()];
        for message in messages {
            distractors[message] = pool.draw(encoded, (index, message), count, seed).map_err(|found| {
                let id = &encoded[index].conversation.id;
                let cause = format!("message {message} of `{id}` needs {count} distractors, and other users of the test split wrote {found}");
                InputError::new(path, cause)
                    .at(Place::Named(id.clone()))
                    .hint("lower `evaluation.distractors`, or have more users in each test split")
            })?;
        }
        Ok(distractors)
    };
    members.iter().map(of_conversation).collect()
}

/// The user messages of a conversation that can be targets, but for the first.
fn prompts(encoded: &Encoded) -> Vec<usize> {
    let items = encoded.items(0..encoded.messages.len(), &[TargetKind::NextPrompt]);
    items.into_iter().map(|item: Item| item.message).skip(1).collect()
}

/// Messages, each with its length in tokens, shortest first.
struct Pool(Vec<(usize, MessageAt)>);

impl Pool {
    fn new(encoded: &[Encoded], members: &[usize]) -> Self {
        // In the order of ids, so that the order of files does not matter.
        let mut sorted = members.to_vec();
        sorted.sort_by_key(|index| &encoded[*index].conversation.id);
        let of_conversation = |index: usize| {
            let length = move |message: usize| encoded[index].messages[message].content.len();
            prompts(&encoded[index]).into_iter().map(move |message| (length(message), (index, message)))
        };
        let mut pool: Vec<(usize, MessageAt)> = sorted.into_iter().flat_map(of_conversation).collect();
        // Stable: messages of one length stay in the order of ids.
        pool.sort_by_key(|(length, _)| *length);
        Self(pool)
    }

    /// Distractors of one message, no text twice; or how many there are, if too few.
    fn draw(
        &self,
        encoded: &[Encoded],
        (index, message): MessageAt,
        count: usize,
        seed: u64,
    ) -> Result<Vec<MessageAt>, usize> {
        let Encoded { conversation, messages, .. } = &encoded[index];
        let said = |(index, message): MessageAt| encoded[index].conversation.messages[message].content.to_lowercase();
        let is_stranger = |&(other, _): &MessageAt| encoded[other].conversation.user != conversation.user;
        let length = messages[message].content.len();
        let mut told = HashSet::from([said((index, message))]);
        let says_something_else = |other: &MessageAt| told.insert(said(*other));
        let mut found: Vec<MessageAt> =
            nearest(&self.0, length, is_stranger).filter(says_something_else).take(NEAREST * count).collect();
        if found.len() < count {
            return Err(found.len());
        }
        found.shuffle(&mut generator("distractors", &[&seed.to_string(), &conversation.id, &message.to_string()]));
        found.truncate(count);
        Ok(found)
    }
}
