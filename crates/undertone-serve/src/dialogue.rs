//! The messages of a request as a conversation.

use serde::Deserialize;
use serde_json::{Map, Value};
use undertone_data::{Access, Conversation, Message, Role, Survey, Thought};

use crate::refusal::Refusal;

/// Which role of a request is the simulated user. The other one is the assistant that is being tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Roles {
    /// `assistant` is the simulated user, because it is the answering side; `user` is the tested assistant.
    #[default]
    UserAnswers,
    /// As in the data: `user` is the simulated user, and `assistant` the tested assistant.
    AsInData,
}

/// One message of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatMessage {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    /// On the simulated user's messages: why it was written. Not part of OpenAI's protocol.
    #[serde(default)]
    reason: Thoughts,
    /// On the tested assistant's messages: what the user thought of it. Not part of OpenAI's protocol.
    #[serde(default)]
    reaction: Thoughts,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Thoughts {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

/// A conversation, and the system text before it.
#[derive(Debug)]
pub(crate) struct Dialogue {
    pub(crate) system: Option<String>,
    pub(crate) conversation: Conversation,
}

/// Reads the messages of a request. Messages without text are left out, as in the data; an empty reply stays.
pub(crate) fn read(messages: Vec<ChatMessage>, roles: Roles) -> Result<Dialogue, Refusal> {
    let mut system: Vec<String> = Vec::new();
    let mut kept: Vec<Message> = Vec::new();
    for (index, message) in messages.into_iter().enumerate() {
        let place = format!("messages[{index}]");
        let text = message.text(&place)?;
        let role = match (message.role.as_str(), roles) {
            ("system" | "developer", _) if kept.is_empty() => {
                system.push(text);
                continue;
            }
            ("system" | "developer", _) => {
                return Err(Refusal::of(&place, "a system text stands only before the first message"));
            }
            ("assistant", Roles::UserAnswers) | ("user", Roles::AsInData) => Role::User,
            ("user", Roles::UserAnswers) | ("assistant", Roles::AsInData) => Role::Assistant,
            (other, _) => {
                let cause =
                    format!("the role `{other}` is not supported; these are: system, developer, user, assistant");
                return Err(Refusal::of(&place, cause));
            }
        };
        let (thoughts, others, key) = match role {
            Role::User => (&message.reason, &message.reaction, "reaction"),
            Role::Assistant => (&message.reaction, &message.reason, "reason"),
        };
        if others.texts().next().is_some() {
            let cause =
                "a `reason` belongs to a message of the simulated user, a `reaction` to one of the tested assistant";
            return Err(Refusal::of(&format!("{place}.{key}"), cause));
        }
        let thought = |content: &str| Thought { content: content.to_owned(), label: None, written_at: None };
        let thoughts = thoughts.texts().map(thought).collect();
        let is_reply = role == Role::Assistant && kept.last().is_some_and(|last| last.role == Role::User);
        if !text.is_empty() || is_reply {
            kept.push(Message { role, content: text, sent_at: None, thoughts });
        }
    }
    let conversation = Conversation {
        id: "request".into(),
        user: "request".into(),
        task: "request".into(),
        assistant_model: None,
        survey: Survey::default(),
        messages: kept,
    };
    Ok(Dialogue { system: (!system.is_empty()).then(|| system.join("\n\n")), conversation })
}

impl Dialogue {
    /// Refuses thoughts that a view never shows: they would be ignored.
    pub(crate) fn refuse_hidden(&self, access: Access) -> Result<(), Refusal> {
        let is_hidden = |role: Role| match (access, role) {
            (Access::None, _) | (Access::Reasons, Role::Assistant) => true,
            (Access::Reactions | Access::LastReaction, Role::User) => true,
            (Access::Past | Access::Oracle | Access::Reasons | Access::Reactions | Access::LastReaction, _) => false,
        };
        let mut told = self.conversation.messages.iter().filter(|message| !message.thoughts.is_empty());
        match told.find(|message| is_hidden(message.role)) {
            None => Ok(()),
            Some(message) => {
                let key = if message.role == Role::User { "reason" } else { "reaction" };
                Err(Refusal::of(key, "the model was trained without such thoughts, and would not see it"))
            }
        }
    }
}

impl ChatMessage {
    /// The trimmed text.
    fn text(&self, place: &str) -> Result<String, Refusal> {
        const IGNORED: [&str; 4] = ["name", "refusal", "annotations", "audio"];
        let unknown = |(key, value): &(&String, &Value)| {
            let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            !is_empty && !IGNORED.contains(&key.as_str())
        };
        if let Some((key, _)) = self.others.iter().find(unknown) {
            return Err(Refusal::of(&format!("{place}.{key}"), format!("`{key}` is not supported")));
        }
        let text = match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => match parts.iter().position(|part| part.r#type != "text") {
                Some(other) => {
                    let cause = format!("only parts of type `text` are supported, not `{}`", parts[other].r#type);
                    return Err(Refusal::of(&format!("{place}.content[{other}]"), cause));
                }
                None => parts.iter().map(|part| part.text.as_str()).collect(),
            },
        };
        Ok(text.trim().to_owned())
    }
}

impl Thoughts {
    /// The texts, trimmed, without empty ones.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let texts = match self {
            Self::None => &[][..],
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        };
        texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dialogue(messages: Value, roles: Roles) -> Result<Dialogue, Refusal> {
        read(serde_json::from_value(messages).expect("messages"), roles)
    }

    /// A conversation as `user: hi (why) | assistant: …`.
    fn shown(dialogue: &Dialogue) -> String {
        let thoughts = |message: &Message| message.thoughts.iter().map(|one| format!(" ({})", one.content)).collect();
        let message = |message: &Message| {
            let thoughts: String = thoughts(message);
            format!("{:?}: {}{thoughts}", message.role, message.content)
        };
        dialogue.conversation.messages.iter().map(message).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn thoughts_that_the_model_never_sees_are_refused() {
        let with = |role: &str, key: &str| {
            let message = json!({"role": role, "content": "Hi", key: "because"});
            dialogue(json!([message]), Roles::UserAnswers).expect("a dialogue")
        };
        let (reason, reaction) = (with("assistant", "reason"), with("user", "reaction"));
        for (access, sees) in [
            (Access::None, [false, false]),
            (Access::Reasons, [true, false]),
            (Access::Reactions, [false, true]),
            (Access::LastReaction, [false, true]),
            (Access::Past, [true, true]),
            (Access::Oracle, [true, true]),
        ] {
            assert_eq!([&reason, &reaction].map(|one| one.refuse_hidden(access).is_ok()), sees, "{access:?}");
        }
        let refused = reason.refuse_hidden(Access::None).expect_err("hidden");
        assert_eq!(refused.message, "reason: the model was trained without such thoughts, and would not see it");
    }

    #[test]
    fn the_answering_side_is_the_user() {
        let messages = json!([
            {"role": "system", "content": "You want a cake."},
            {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief. "}]},
            {"role": "user", "content": "Hi! How can I help?", "reaction": ["polite", " "]},
            {"role": "assistant", "content": " A cake ", "reason": "hungry", "refusal": null, "tool_calls": []},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": null},
        ]);
        let read = dialogue(messages, Roles::UserAnswers).unwrap();
        assert_eq!(read.system.as_deref(), Some("You want a cake.\n\nBe brief."));
        assert_eq!(shown(&read), "Assistant: Hi! How can I help? (polite) | User: A cake (hungry) | Assistant: ");
        let as_in_data = json!([{"role": "user", "content": "A cake"}, {"role": "assistant", "content": "Which?"}]);
        assert_eq!(shown(&dialogue(as_in_data, Roles::AsInData).unwrap()), "User: A cake | Assistant: Which?");
        assert_eq!(shown(&dialogue(json!([]), Roles::AsInData).unwrap()), "");
    }

    #[test]
    fn what_a_model_of_a_user_cannot_read_is_refused_with_its_place() {
        let check = |messages: Value, place: &str, cause: &str| {
            let refusal = dialogue(messages, Roles::UserAnswers).unwrap_err();
            assert_eq!((refusal.param.as_deref(), refusal.message.contains(cause)), (Some(place), true), "{refusal:?}");
        };
        let user = json!({"role": "user", "content": "hi"});
        check(json!([{"role": "tool", "content": "4"}]), "messages[0]", "the role `tool` is not supported");
        check(json!([user, {"role": "system", "content": "x"}]), "messages[1]", "only before the first message");
        check(json!([{"role": "user", "content": "hi", "reason": "x"}]), "messages[0].reason", "simulated user");
        check(json!([{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls", "not supported");
        let image = json!([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}]);
        check(json!([{"role": "user", "content": image}]), "messages[0].content[1]", "not `image_url`");
    }
}
