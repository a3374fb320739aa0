//! A conversation as a prompt: what stands before somebody writes.

use crate::Encoded;
use crate::builder::{Layout, Purpose, StreamBuilder, turn};
use crate::stream::Hidden;
use crate::template::Speaker;
use crate::view::{Placement, View};

impl StreamBuilder {
    /// What stands before the first words of a conversation.
    pub fn opening(&self, speaker: Speaker) -> Vec<u32> {
        [&self.system, self.template.header(speaker)].concat()
    }

    /// A whole conversation as a prompt that ends where `speaker` is about to write: the latest
    /// messages that fit `limit` tokens, whole, and how many messages were left out.
    pub fn prompt(&self, encoded: &Encoded, view: View, speaker: Speaker, limit: usize) -> (Vec<u32>, usize) {
        let layout = Layout { view, kinds: &[], purpose: Purpose::Score, dropout: None };
        let mut slots = self.slots(encoded, &layout, &mut Hidden::default());
        // Whatever has been written by now was written before the next message.
        let known_by_now = encoded.conversation.messages.iter().enumerate().flat_map(|(index, message)| {
            (0..message.thoughts.len())
                .filter(move |&thought| view.place(&encoded.conversation, index, thought) == Placement::TooLate)
                .map(move |thought| (index, thought))
        });
        if let Some(last) = slots.last_mut() {
            last.extend(known_by_now);
        }
        let turns: Vec<Vec<u32>> = (0..encoded.messages.len())
            .map(|index| {
                let role = encoded.conversation.messages[index].role;
                let mut ids = turn(&self.template, Speaker::Message(role), &encoded.messages[index].context);
                // A thought that is about to be written, or stands beside it, is not shown.
                let is_last = index + 1 == encoded.messages.len();
                let is_shown = match is_last {
                    true => !matches!(speaker, Speaker::Thought(_)),
                    false => view.shows_in_trunk(),
                };
                // The last reaction is one to the last message, not one that was written as late.
                let is_meant = |&&(on, _): &&(usize, usize)| is_shown && (view.shows_in_trunk() || on == index);
                for &(on, thought) in slots[index].iter().filter(is_meant) {
                    let kind = encoded.conversation.messages[on].thought_kind();
                    ids.extend(turn(&self.template, Speaker::Thought(kind), &encoded.thoughts[on][thought]));
                }
                ids
            })
            .collect();
        let header = self.template.header(speaker);
        let room = limit.saturating_sub(self.system.len() + header.len());
        let fits = |&from: &usize| turns[from..].iter().map(Vec::len).sum::<usize>() <= room;
        let from = (0..turns.len()).find(fits).unwrap_or(turns.len());
        ([&self.system[..], &turns[from..].concat(), header].concat(), from)
    }
}
