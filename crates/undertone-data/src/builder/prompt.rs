//! A conversation as a prompt: the tokens before a turn to generate.

use crate::Encoded;
use crate::builder::{Layout, Purpose, StreamBuilder, prefix};
use crate::speaker::Speaker;
use crate::stream::Hidden;
use crate::view::{Placement, View};

/// What a prompt shows, and how long it may be.
#[derive(Debug, Clone, Copy)]
pub struct PromptOptions<'a> {
    /// A system text in place of the builder's; `None` keeps that one.
    pub system: Option<&'a str>,
    /// Which thoughts are shown.
    pub view: View,
    /// Whose header ends the prompt.
    pub speaker: Speaker,
    /// The most tokens.
    pub limit: usize,
}

impl StreamBuilder {
    /// The prompt of an empty conversation: what stands before every conversation, and the header of `speaker`.
    pub fn opening(&self, speaker: Speaker) -> Vec<u32> {
        [&self.prefix, self.template.header(speaker)].concat()
    }

    /// A conversation as a prompt that ends with the header of the speaker: the latest whole messages that fit the limit,
    /// and how many earlier messages were left out. What stands before the conversation is never left out.
    pub fn prompt(&self, encoded: &Encoded, options: PromptOptions<'_>) -> (Vec<u32>, usize) {
        let PromptOptions { system, view, speaker, limit } = options;
        let layout = Layout::new(view, &[], Purpose::Score);
        let mut slots = self.slots(encoded, &layout, &mut Hidden::default());
        // A thought written after the last message still precedes the next one, so it is not too late here.
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
                let mut ids = self.template.turn(Speaker::Message(role), &encoded.messages[index].context);
                // The last message shows its thoughts unless a thought comes next.
                let is_last = index + 1 == encoded.messages.len();
                let is_shown = match is_last {
                    true => !matches!(speaker, Speaker::Thought(_)),
                    false => view.shows_in_trunk(),
                };
                // `LastReaction` shows only reactions to the last message, not to earlier ones.
                let is_meant = |&&(on, _): &&(usize, usize)| is_shown && (view.shows_in_trunk() || on == index);
                for &(on, thought) in slots[index].iter().filter(is_meant) {
                    let kind = encoded.conversation.messages[on].thought_kind();
                    ids.extend(self.template.turn(Speaker::Thought(kind), &encoded.thoughts[on][thought]));
                }
                ids
            })
            .collect();
        let header = self.template.header(speaker);
        let prefix = system.map_or_else(|| self.prefix.clone(), |system| prefix(&self.template, system));
        let room = limit.saturating_sub(prefix.len() + header.len());
        let fits = |&from: &usize| turns[from..].iter().map(Vec::len).sum::<usize>() <= room;
        let from = (0..turns.len()).find(fits).unwrap_or(turns.len());
        ([&prefix[..], &turns[from..].concat(), header].concat(), from)
    }
}
