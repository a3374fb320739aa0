//! Encodes a conversation as token ids once for every view and window of a study.

use std::ops::Range;

use crate::template::Template;
use crate::{Conversation, Item, Role, TargetKind};

/// The thoughts that a stream shows, as token ids by message and then by thought.
///
/// The number of thoughts on each message is always the conversation's own, even if the words are a donor's.
pub type Thoughts = Vec<Vec<Vec<u32>>>;

/// A thought of a conversation: the index of its message, and its own among that message's thoughts.
pub type ThoughtAt = (usize, usize);

/// One message as token ids, without header and end token.
#[derive(Debug, Clone)]
pub struct EncodedMessage {
    /// The whole content, used in targets.
    pub content: Vec<u32>,
    /// The content as context: shortened in the middle for a long assistant message.
    pub context: Vec<u32>,
    /// Tokens of the content that the context leaves out.
    pub left_out_tokens: usize,
}

/// A conversation with its token ids.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The conversation as read.
    pub conversation: Conversation,
    /// Its messages as ids.
    pub messages: Vec<EncodedMessage>,
    /// Its own thoughts as ids.
    pub thoughts: Thoughts,
    /// How many messages and thoughts have a byte that the vocabulary cannot encode.
    pub lossy_texts: usize,
}

impl Encoded {
    /// Encodes every message and thought; as context, assistant messages longer than `assistant_tokens` are shortened
    /// in the middle.
    pub fn new(conversation: Conversation, template: &Template, assistant_tokens: usize) -> Self {
        let mut lossy_texts = 0;
        let mut encode = |text: &str| {
            let ids = template.encode(text);
            lossy_texts += usize::from(!template.is_lossless(text, &ids));
            ids
        };
        let mut messages = Vec::with_capacity(conversation.messages.len());
        let mut thoughts = Vec::with_capacity(conversation.messages.len());
        for message in &conversation.messages {
            let content = encode(&message.content);
            let (context, left_out_tokens) = match message.role {
                Role::Assistant => template.shorten(&content, assistant_tokens),
                Role::User => (content.clone(), 0),
            };
            messages.push(EncodedMessage { content, context, left_out_tokens });
            thoughts.push(message.thoughts.iter().map(|thought| encode(&thought.content)).collect());
        }
        Self { conversation, messages, thoughts, lossy_texts }
    }

    /// Every item of the given kinds in the messages of `range`, in order.
    pub fn items(&self, range: Range<usize>, kinds: &[TargetKind]) -> Vec<Item> {
        let mut items = Vec::new();
        for index in range {
            let message = &self.conversation.messages[index];
            for &kind in kinds {
                let count = match (kind, message.role) {
                    (TargetKind::NextPrompt, Role::User) => usize::from(!message.content.is_empty()),
                    (TargetKind::ConversationEnd, Role::Assistant) => 1,
                    (TargetKind::Reaction | TargetKind::ReactionLabel, Role::Assistant)
                    | (TargetKind::Reason | TargetKind::ReasonLabel, Role::User) => message.thoughts.len(),
                    _ => 0,
                };
                let item = |thought| Item { conversation: self.conversation.id.clone(), message: index, kind, thought };
                items.extend(
                    (0..count).map(item).filter(|item| kind.labels().is_none() || self.true_label(item).is_some()),
                );
            }
        }
        items
    }

    /// The index of an item's true label among the labels of its kind; `None` if it has no label.
    pub fn true_label(&self, item: &Item) -> Option<usize> {
        let messages = &self.conversation.messages;
        match item.kind {
            TargetKind::ReactionLabel | TargetKind::ReasonLabel => messages[item.message].thoughts[item.thought].label,
            TargetKind::ConversationEnd => {
                let goes_on = messages[item.message..].iter().any(|message| message.role == Role::User);
                Some(usize::from(!goes_on))
            }
            TargetKind::NextPrompt | TargetKind::Reaction | TargetKind::Reason => None,
        }
    }

    /// The ids of an item's content, and its length in bytes of UTF-8. The content of a label item is the name of label
    /// number `label`.
    ///
    /// # Panics
    /// If the item is a label item and `label` is `None`.
    pub fn item_content(&self, item: &Item, label: Option<usize>, template: &Template) -> (Vec<u32>, usize) {
        let message = &self.conversation.messages[item.message];
        match (item.kind.labels(), label) {
            (Some(labels), Some(label)) => {
                let name = labels[label].name;
                (template.encode(name), name.len())
            }
            (Some(_), None) => panic!("a label item needs a candidate: {item}"),
            (None, _) if item.kind == TargetKind::NextPrompt => {
                (self.messages[item.message].content.clone(), message.content.len())
            }
            (None, _) => {
                let ids = self.thoughts[item.message][item.thought].clone();
                (ids, message.thoughts[item.thought].content.len())
            }
        }
    }
}

/// How many consecutive words make a quotation.
const QUOTED_WORDS: usize = 5;

/// The runs of words that a text shows: one to [`QUOTED_WORDS`] words, lower-cased, without punctuation.
pub(crate) fn shown_runs(text: &str) -> impl Iterator<Item = String> + use<> {
    let words = words(text);
    (1..=QUOTED_WORDS).flat_map(move |length| words.windows(length).map(|run| run.join(" ")).collect::<Vec<_>>())
}

/// The runs of words by which a text would be recognised as quoted: all runs of [`QUOTED_WORDS`] words, or the whole
/// text if it has fewer.
pub(crate) fn quotable_runs(text: &str) -> Vec<String> {
    let words = words(text);
    match words.len() {
        0 => Vec::new(),
        count => words.windows(count.min(QUOTED_WORDS)).map(|run| run.join(" ")).collect(),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_is_quoted_if_all_of_it_is_shown() {
        let is_quoted = |message: &str, thought: &str| {
            let shown: Vec<String> = shown_runs(thought).collect();
            quotable_runs(message).iter().any(|run| shown.contains(run))
        };
        assert!(is_quoted("Yes, tell me more!", "I would say: yes tell me more"));
        assert!(!is_quoted("Yes, tell me more!", "Yes, I hope it can tell me a bit more"));
        assert!(is_quoted("thanks", "It deserves Thanks."));
        // A longer message is quoted if five of its words in a row are shown.
        assert!(is_quoted("so what about the last of these options", "I liked the last of these options best"));
        assert!(!is_quoted("so what about the last of these", "the last of these was good"));
        assert!(!is_quoted("?!", "?!"));
    }
}
