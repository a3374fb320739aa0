//! User ids: where they are in the id of a conversation, and which look alike.
//!
//! Two ids may differ only in what people do not see or do not mean: case, white space, invisible characters, width, and
//! zeros before a number. They may be of one person, who then stands on two sides of a split.

use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::UnicodeNormalization;

/// `user6` and `user6_task2` of `user6_task2_conversation1`.
pub(crate) fn user_and_task(id: &str) -> Option<(&str, &str)> {
    let (task, conversation) = id.rsplit_once('_')?;
    let (user, task_part) = task.rsplit_once('_')?;
    let numbered = |part: &str, name: &str| part.strip_prefix(name).is_some_and(|n| !n.is_empty());
    let published_shape =
        numbered(user, "user") && numbered(task_part, "task") && numbered(conversation, "conversation");
    published_shape.then_some((user, task))
}

/// The ids of users by what they look like.
#[derive(Debug, Default)]
pub(crate) struct LookAlikes {
    users: BTreeMap<String, BTreeSet<String>>,
}

impl LookAlikes {
    /// Adds a user, and what its id looks like.
    pub(crate) fn add(&mut self, user: &str, appearance: String) {
        self.users.entry(appearance).or_default().insert(user.to_owned());
    }

    /// Every group of different ids that look the same.
    pub(crate) fn groups(&self) -> Vec<Vec<String>> {
        self.users.values().filter(|users| users.len() > 1).map(|users| users.iter().cloned().collect()).collect()
    }
}

/// What an id looks like: in compatibility form (NFKC), without white space and invisible characters, in lower case, and
/// without zeros before a number.
pub(crate) fn appearance(id: &str) -> String {
    let visible = id.nfkc().filter(|c| !c.is_whitespace() && !is_invisible(*c));
    let mut shown = String::new();
    for c in visible.flat_map(char::to_lowercase) {
        if c.is_ascii_digit()
            && shown.ends_with('0')
            && !shown.trim_end_matches('0').ends_with(|c: char| c.is_ascii_digit())
        {
            shown.pop();
        }
        shown.push(c);
    }
    shown
}

/// Characters without a shape of their own, such as zero-width spaces, direction marks and variation selectors.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_found() {
        for id in [
            "user7",
            "User7",
            "USER7",
            "user07",
            "user007",
            "user7 ",
            "us er7",
            "user\u{200b}7",
            "user７",
            "ｕser7\u{fe0f}",
        ] {
            assert_eq!(appearance(id), "user7", "{id:?}");
        }
        for (id, shown) in
            [("user70", "user70"), ("user0", "user0"), ("user00", "user0"), ("user107", "user107"), ("a0b", "a0b")]
        {
            assert_eq!(appearance(id), shown);
        }
        let mut users = LookAlikes::default();
        for user in ["user7", "user70", "user07", "user7", "User7"] {
            users.add(user, appearance(user));
        }
        assert_eq!(users.groups(), [["User7", "user07", "user7"]]);
    }
}
