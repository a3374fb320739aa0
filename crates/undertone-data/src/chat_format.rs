//! How the turns of a conversation are written as text: what stands before them, around them, and between them.
//!
//! ```text
//! <|begin_of_text|><|start_header_id|>user<|end_header_id|>⏎⏎Can you make a checklist?<|eot_id|>
//! └── opening ────┘└── header ───────────────────────────────┘└── text ───────────────┘└─ end ─┘ separator: none
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::speaker::Speaker;
use crate::{Role, ThoughtKind};

/// What stands around the text of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Before the text.
    pub header: String,
    /// The token that ends the text; it is part of every target.
    pub end: String,
    /// Between the end and the next turn.
    pub separator: String,
}

/// The chat format of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatFormat {
    /// Before the first turn.
    pub opening: String,
    /// The turn of every speaker.
    turns: BTreeMap<Speaker, Turn>,
}

impl ChatFormat {
    /// ChatML: `<|im_start|>role⏎text<|im_end|>⏎`.
    pub fn chatml() -> Self {
        let turn = |role: &str| Turn {
            header: format!("<|im_start|>{role}\n"),
            end: "<|im_end|>".to_owned(),
            separator: "\n".to_owned(),
        };
        Self::of_roles(String::new(), turn("user"), turn("assistant"), None)
    }

    /// The format of a model that has none: `role:⏎text`, ended by the token that ends a text.
    pub fn plain(opening: &str, end: &str) -> Self {
        let turn = |role: &str| Turn { header: format!("{role}:\n"), end: end.to_owned(), separator: "\n".to_owned() };
        Self::of_roles(opening.to_owned(), turn("user"), turn("assistant"), None)
    }

    /// A format from the turns of the roles that a model knows. The other speakers, and a system text without a turn of
    /// its own, are written as the user, with their name in place of `user`; if the user's header has no name, theirs
    /// stands behind it, as `name:⏎`.
    pub fn of_roles(opening: String, user: Turn, assistant: Turn, system: Option<Turn>) -> Self {
        let as_user = |name: &str| {
            let header = with_name(&user.header, name).unwrap_or_else(|| format!("{}{name}:\n", user.header));
            Turn { header, ..user.clone() }
        };
        let turn = |speaker: Speaker| match speaker {
            Speaker::Message(Role::User) => user.clone(),
            Speaker::Message(Role::Assistant) => assistant.clone(),
            Speaker::System => system.clone().unwrap_or_else(|| as_user(speaker.name())),
            Speaker::Thought(_) | Speaker::Label(_) | Speaker::End => as_user(speaker.name()),
        };
        Self { opening, turns: Speaker::ALL.into_iter().map(|speaker| (speaker, turn(speaker))).collect() }
    }

    /// The format with another header of one speaker.
    #[must_use]
    pub fn with_header(mut self, speaker: Speaker, header: String) -> Self {
        self.turns.entry(speaker).and_modify(|turn| turn.header = header);
        self
    }

    /// Whether turns are only opened by names, as in [`plain`](Self::plain).
    pub fn is_plain(&self) -> bool {
        let user = self.turn(Speaker::Message(Role::User));
        *self == Self::plain(&self.opening, &user.end)
    }

    /// What stands around the text of a speaker.
    pub fn turn(&self, speaker: Speaker) -> &Turn {
        &self.turns[&speaker]
    }

    /// The turns of all speakers.
    pub fn turns(&self) -> impl Iterator<Item = (Speaker, &Turn)> {
        self.turns.iter().map(|(speaker, turn)| (*speaker, turn))
    }
}

/// The header of the user with another name in place of `user`; `None` if it does not name the user, or not once.
pub fn with_name(header: &str, name: &str) -> Option<String> {
    let spelt = ["user", "User", "USER"].into_iter().find(|spelt| header.matches(spelt).count() == 1)?;
    let name = match spelt {
        "user" => name.to_owned(),
        "USER" => name.to_uppercase(),
        _ => name[..1].to_uppercase() + &name[1..],
    };
    Some(header.replace(spelt, &name))
}

/// Parts of a chat format that an experiment names by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GivenFormat {
    /// Before the first turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opening: Option<String>,
    /// The token that ends every turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Between the end and the next turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// What stands before the text of a role.
    #[serde(skip_serializing_if = "GivenHeaders::is_empty")]
    pub headers: GivenHeaders,
}

/// Headers by role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the names of the roles")]
pub struct GivenHeaders {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assistant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaction: Option<String>,
}

impl GivenHeaders {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl GivenFormat {
    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The format, if enough of it is given to need no other source: the end and the headers of user and assistant.
    pub fn whole(&self) -> Option<ChatFormat> {
        let end = self.end.as_ref()?;
        let turn = |header: &Option<String>| {
            let separator = self.separator.clone().unwrap_or_default();
            Some(Turn { header: header.clone()?, end: end.clone(), separator })
        };
        let (user, assistant) = (turn(&self.headers.user)?, turn(&self.headers.assistant)?);
        Some(ChatFormat::of_roles(self.opening.clone().unwrap_or_default(), user, assistant, None))
    }

    /// Replaces what is given in a format.
    pub fn replace_in(&self, format: &mut ChatFormat) {
        let replace = |part: &mut String, given: &Option<String>| {
            if let Some(given) = given {
                part.clone_from(given);
            }
        };
        replace(&mut format.opening, &self.opening);
        for (speaker, turn) in &mut format.turns {
            replace(&mut turn.end, &self.end);
            replace(&mut turn.separator, &self.separator);
            let given = match speaker {
                Speaker::System => &self.headers.system,
                Speaker::Message(Role::User) => &self.headers.user,
                Speaker::Message(Role::Assistant) => &self.headers.assistant,
                Speaker::Thought(ThoughtKind::Reason) => &self.headers.reason,
                Speaker::Thought(ThoughtKind::Reaction) => &self.headers.reaction,
                Speaker::Label(_) | Speaker::End => &None,
            };
            replace(&mut turn.header, given);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_a_model_lacks_is_named_where_the_user_is() {
        let named = |header, name| with_name(header, name);
        assert_eq!(named("<|start|>user<|sep|>\n\n", "reason").unwrap(), "<|start|>reason<|sep|>\n\n");
        assert_eq!(named("<｜User｜>", "reaction label").unwrap(), "<｜Reaction label｜>");
        assert_eq!(named("USER: ", "reason").unwrap(), "REASON: ");
        // Two places: neither is known to be the name.
        assert_eq!(named("user user: ", "reason"), None);
        let turn = Turn { header: "[INST]".into(), end: "[/INST]".into(), separator: String::new() };
        let format = ChatFormat::of_roles(String::new(), turn.clone(), turn, None);
        assert_eq!(format.turn(Speaker::Thought(ThoughtKind::Reason)).header, "[INST]reason:\n");
    }

    #[test]
    fn a_given_format_replaces_parts_or_the_whole() {
        let given = |text: &str| serde_json::from_str::<GivenFormat>(text).unwrap();
        assert!(given("{}").is_empty() && given("{}").whole().is_none());
        let mut format = ChatFormat::chatml();
        given(r#"{"opening": "<s>", "headers": {"reason": "why: "}}"#).replace_in(&mut format);
        assert_eq!(format.opening, "<s>");
        assert_eq!(format.turn(Speaker::Thought(ThoughtKind::Reason)).header, "why: ");
        assert_eq!(format.turn(Speaker::Message(Role::User)).header, "<|im_start|>user\n");
        let whole =
            given(r#"{"end": "</s>", "headers": {"user": "USER: ", "assistant": "ASSISTANT: "}}"#).whole().unwrap();
        assert_eq!(whole.turn(Speaker::Thought(ThoughtKind::Reaction)).header, "REACTION: ");
        assert!(serde_json::from_str::<GivenFormat>(r#"{"headers": {"users": "x"}}"#).is_err());
    }

    #[test]
    fn a_format_is_read_as_it_was_written() {
        let format = ChatFormat::plain("<s>", "</s>");
        let text = serde_json::to_string(&format).unwrap();
        assert_eq!(serde_json::from_str::<ChatFormat>(&text).unwrap(), format);
        assert_eq!(format.turn(Speaker::Thought(ThoughtKind::Reason)).header, "reason:\n");
        assert_eq!(format.turns().count(), Speaker::ALL.len());
        assert!(serde_json::from_str::<ChatFormat>(&text.replace("reaction label", "x")).is_err());
    }
}
