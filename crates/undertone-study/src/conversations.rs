//! Which conversations of its files an experiment uses.

use std::collections::BTreeMap;

use serde::Serialize;
use undertone_data::{
    Conversation, DataStats, Known, OnInvalid, ReadOptions, ReadReport, Reader, Record, Shared, StatsBuilder,
    derived_seed,
};
use undertone_files::InputError;

use crate::experiment::Experiment;

/// The conversations that an experiment uses, in the order of its files.
pub(crate) struct Chosen {
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) read: ReadReport,
    /// Of the conversations that are used.
    pub(crate) stats: DataStats,
    pub(crate) left_out: LeftOut,
}

/// Valid conversations that an experiment does not use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Their user is in a file of `data.except`.
    pub of_users: usize,
    /// They share a long user message with a file of `data.except`.
    pub with_messages: usize,
    /// They are more than `data.conversations`.
    pub not_drawn: usize,
}

/// Reads and chooses the conversations. No more than `data.conversations` of them are in memory at a time.
///
/// # Errors
/// A file cannot be read, or no conversation is left.
pub(crate) fn choose(experiment: &Experiment) -> Result<Chosen, InputError> {
    let data = &experiment.data;
    let known = known(experiment)?;
    let most = if data.conversations == 0 { usize::MAX } else { data.conversations };
    let seed = experiment.seed.to_string();
    let mut left_out = LeftOut::default();
    // By hash; the number in the files tells equal ids apart, which the reader refuses anyway.
    let mut drawn: BTreeMap<([u8; 32], usize), Record> = BTreeMap::new();
    let mut reader = Reader::open(data.path.as_slice(), data.read_options())?;
    for (number, record) in reader.by_ref().enumerate() {
        let record = record?;
        match known.shared(&record.conversation) {
            Some(Shared::User) => left_out.of_users += 1,
            Some(Shared::Message) => left_out.with_messages += 1,
            None => {
                let hash = derived_seed("conversations", &[&seed, &record.conversation.id]);
                drawn.insert((hash, number), record);
                if drawn.len() > most {
                    drawn.pop_last();
                    left_out.not_drawn += 1;
                }
            }
        }
    }
    if drawn.is_empty() {
        return Err(InputError::new(
            &data.path.as_slice()[0],
            "has no conversation that may be used: all share a user or a message with the files of `data.except`",
        )
        .hint("use conversations of other users"));
    }
    let mut in_order: Vec<(usize, Record)> = drawn.into_iter().map(|((_, number), record)| (number, record)).collect();
    in_order.sort_by_key(|(number, _)| *number);
    let mut stats = StatsBuilder::new();
    let add = |(_, record): (usize, Record)| {
        stats.add(&record.conversation, &record.task_text);
        record.conversation
    };
    let conversations = in_order.into_iter().map(add).collect();
    Ok(Chosen { conversations, read: reader.report().clone(), stats: stats.finish(), left_out })
}

/// The users and messages of the files of `data.except`.
fn known(experiment: &Experiment) -> Result<Known, InputError> {
    let except = experiment.data.except.as_slice();
    let mut known = Known::default();
    if except.is_empty() {
        return Ok(known);
    }
    // Lines that cannot be read are the business of the experiment that uses them.
    let options = ReadOptions { on_invalid: OnInvalid::Skip, ..experiment.data.read_options() };
    for record in Reader::open(except, options)? {
        known.add(&record?.conversation);
    }
    Ok(known)
}
