//! Distractors: messages of other users that a model must distinguish from the true message.
//!
//! Distractors come from the same split, have about the same length and are placed where the true message is, so only
//! their fit to the conversation distinguishes them. First messages follow nothing, so they neither have distractors
//! nor serve as distractors.

use std::collections::HashSet;
use std::path::Path;

use rand::seq::SliceRandom;

use crate::nearest::nearest;
use crate::seed::generator;
use crate::{Encoded, Item, TargetKind};
use undertone_files::{InputError, Place};

/// A user message: conversation and message by index.
pub(crate) type MessageAt = (usize, usize);

/// The distractors of each message of a conversation; empty for a message that has none.
pub(crate) type Distractors = Vec<Vec<MessageAt>>;

/// Candidates per distractor: the messages nearest in length.
const NEAREST: usize = 3;

/// Draws `count` distractors for every user message after the first in `members`, conversations of one split by index.
/// The seed of a draw depends only on `seed` and the message.
///
/// # Errors
/// Other users wrote too few messages to choose from.
pub(crate) fn draw(
    path: &Path,
    encoded: &[Encoded],
    members: &[usize],
    count: usize,
    seed: u64,
) -> Result<Vec<Distractors>, InputError> {
    let pool = Pool::new(encoded, members);
    let draw_for_conversation = |&index: &usize| {
        let messages = prompts(&encoded[index]);
        let mut distractors = vec![Vec::new(); encoded[index].messages.len()];
        for message in messages {
            distractors[message] = pool.draw(encoded, (index, message), count, seed).map_err(|found| {
                let id = &encoded[index].conversation.id;
                let cause = format!("message {message} of `{id}` needs {count} distractors, but other users of the test split wrote only {found} candidates");
                InputError::new(path, cause)
                    .at(Place::Named(id.clone()))
                    .hint("lower `evaluation.distractors`, or have more users in each test split")
            })?;
        }
        Ok(distractors)
    };
    members.iter().map(draw_for_conversation).collect()
}

/// The user messages of a conversation that can be targets, except the first.
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
        let sized_prompts = |index: usize| {
            let length = move |message: usize| encoded[index].messages[message].content.len();
            prompts(&encoded[index]).into_iter().map(move |message| (length(message), (index, message)))
        };
        let mut pool: Vec<(usize, MessageAt)> = sorted.into_iter().flat_map(sized_prompts).collect();
        // Stable: messages of one length stay in the order of ids.
        pool.sort_by_key(|(length, _)| *length);
        Self(pool)
    }

    /// Distractors of one message with distinct texts; or the number of candidates, if fewer than `count`.
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
