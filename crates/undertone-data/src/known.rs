//! Users and messages that one set of conversations must not share with another.

use std::collections::HashSet;

use crate::conversation::{Conversation, Role};
use crate::seed::derived_number;
use crate::user_id::appearance;

/// Different people write the same shorter messages.
const TELLING_WORDS: usize = 8;

/// Why a conversation is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// Its user has a known conversation, or an id that looks the same.
    User,
    /// One of its user messages of eight words or more stands in a known conversation, whatever the user's id.
    Message,
}

/// The users and the user messages of a set of conversations.
///
/// A model that is trained on other conversations first, and then tested on these, must have seen neither.
#[derive(Debug, Default)]
pub struct Known {
    /// What their ids look like.
    users: HashSet<String>,
    /// Hashes of messages.
    messages: HashSet<u64>,
}

impl Known {
    /// Adds the user and the messages of a conversation.
    pub fn add(&mut self, conversation: &Conversation) {
        self.users.insert(appearance(&conversation.user));
        self.messages.extend(telling_messages(conversation));
    }

    /// Whether a conversation shares its user or a message with these.
    pub fn shared(&self, conversation: &Conversation) -> Option<Shared> {
        if self.users.contains(&appearance(&conversation.user)) {
            return Some(Shared::User);
        }
        telling_messages(conversation).any(|message| self.messages.contains(&message)).then_some(Shared::Message)
    }
}

/// The hashes of the user messages that hardly two people write; case and white space do not count.
fn telling_messages(conversation: &Conversation) -> impl Iterator<Item = u64> + '_ {
    let users = conversation.messages.iter().filter(|message| message.role == Role::User);
    users.filter_map(|message| {
        let words: Vec<String> = message.content.split_whitespace().map(str::to_lowercase).collect();
        (words.len() >= TELLING_WORDS).then(|| derived_number("known message", &[&words.join(" ")]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadOptions, Reader};

    fn conversation(id: &str, message: &str) -> Conversation {
        let line = serde_json::json!({ "id": id, "messages": [
            { "type": "user", "content": message },
            { "type": "assistant", "content": "You are welcome! Is there anything else that I can do for you?" },
        ]});
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, format!("{line}\n")).unwrap();
        Reader::open(&[path], ReadOptions::default()).unwrap().read_all().unwrap().0.remove(0).conversation
    }

    #[test]
    fn a_conversation_is_known_by_its_user_or_by_a_long_message() {
        const LONG: &str = "Please plan a week of dinners without any nuts";
        let mut known = Known::default();
        known.add(&conversation("user7_task1_conversation1", LONG));
        known.add(&conversation("user8_task1_conversation1", "thanks, that is all"));
        for (id, message, expected) in [
            ("user7_task2_conversation1", "something else", Some(Shared::User)),
            ("user07_task2_conversation1", "something else", Some(Shared::User)),
            ("user9_task1_conversation1", "please plan a  WEEK of\ndinners without any nuts", Some(Shared::Message)),
            ("user9_task1_conversation1", "please plan a week of dinners without any fish", None),
            ("user9_task1_conversation1", "thanks, that is all", None),
        ] {
            assert_eq!(known.shared(&conversation(id, message)), expected, "{id}: {message}");
        }
    }
}
