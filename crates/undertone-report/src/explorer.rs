//! The data of the page's explorer: conversations as chats with thoughts beside the messages, and for each target the
//! nats of its tokens in every arm.
//!
//! The page holds the data as JSON in a script element of a type that no browser runs; `explorer.js` inserts text as
//! text, never as markup.

use std::collections::BTreeMap;

use serde::Serialize;

/// Everything the explorer shows.
#[derive(Debug, Clone, Serialize)]
pub struct Explorer {
    /// The arms that can be compared, in order.
    pub arms: Vec<String>,
    /// The indices of the arms that are selected at first: a and b.
    pub chosen: [usize; 2],
    /// For each arm, the index of its view among those of [`ShownItem::views`]; `None` for an arm that sees no thoughts.
    pub views: Vec<Option<usize>>,
    /// The conversations.
    pub conversations: Vec<ShownConversation>,
    /// How many conversations are left out to keep the page usable.
    pub left_out: usize,
}

/// A conversation.
#[derive(Debug, Clone, Serialize)]
pub struct ShownConversation {
    /// Its id.
    pub id: String,
    /// The model that the user talked to.
    pub model: Option<String>,
    /// Its messages.
    pub messages: Vec<ShownMessage>,
    /// Its targets.
    pub items: Vec<ShownItem>,
    /// For each arm that sees other words than the user's own, the words of each thought, by message; those of the first
    /// training.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub words: BTreeMap<String, Vec<Vec<String>>>,
}

/// A message.
#[derive(Debug, Clone, Serialize)]
pub struct ShownMessage {
    /// `user` or `assistant`.
    pub role: String,
    /// What was written.
    pub text: String,
    /// The user's thoughts about it.
    pub thoughts: Vec<ShownThought>,
}

/// A thought.
#[derive(Debug, Clone, Serialize)]
pub struct ShownThought {
    /// `reason` or `reaction`.
    pub kind: String,
    /// What was thought.
    pub text: String,
    /// Its label, in words for people.
    pub label: Option<String>,
    /// Whether it was written after the user's next message was sent (hindsight); `None` if its time is unknown.
    pub late: Option<bool>,
}

/// A target.
#[derive(Debug, Clone, Serialize)]
pub struct ShownItem {
    /// The index of the message that it is, or that its thought is about.
    pub message: usize,
    /// The kind of target.
    pub kind: String,
    /// Whether it belongs to the primary comparison.
    pub primary: bool,
    /// Its tokens as text, including the end token.
    pub tokens: Vec<String>,
    /// The thoughts that each view shows before it, and those that it hides because they were written later.
    pub views: Vec<SeenThoughts>,
    /// What single thoughts did: message, thought, and the nats that the target costs more without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saved: Vec<(usize, usize, f64)>,
    /// The message that each arm wrote in its place, if any.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub written: BTreeMap<String, String>,
    /// For each arm that scored it, the nats of each token, averaged over training seeds.
    pub nats: BTreeMap<String, Vec<f32>>,
}

/// What a view shows before a target: thoughts as pairs of the index of their message and their own index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SeenThoughts {
    /// Shown.
    pub seen: Vec<(usize, usize)>,
    /// Hidden, because they were written later or at an unknown time.
    pub late: Vec<(usize, usize)>,
}

impl Explorer {
    /// Whether a target counts in the comparison of the two chosen arms: an arm sees a thought before it, or neither arm
    /// sees thoughts anywhere.
    fn counts(&self, item: &ShownItem) -> bool {
        let mut views = self.chosen.into_iter().filter_map(|arm| self.views[arm]).peekable();
        views.peek().is_none() || views.any(|view| item.views.get(view).is_some_and(|view| !view.seen.is_empty()))
    }

    /// Keeps at most `most` conversations, in their order: half of them where the loss of b is lowest against a, half
    /// where it is highest. Counts the others as left out.
    pub fn limit(&mut self, most: usize) {
        if self.conversations.len() <= most {
            return;
        }
        let [a, b] = self.chosen.map(|arm| self.arms[arm].clone());
        let total = |item: &ShownItem, arm: &str| item.nats.get(arm).map(|nats| nats.iter().sum::<f32>());
        let gain = |conversation: &ShownConversation| -> f32 {
            let item_gain = |item: &ShownItem| Some(total(item, &b)? - total(item, &a)?);
            conversation.items.iter().filter(|item| self.counts(item)).filter_map(item_gain).sum()
        };
        let mut order: Vec<usize> = (0..self.conversations.len()).collect();
        order.sort_by(|&x, &y| gain(&self.conversations[x]).total_cmp(&gain(&self.conversations[y])));
        let mut kept: Vec<usize> =
            order[..most.div_ceil(2)].iter().chain(&order[order.len() - most / 2..]).copied().collect();
        kept.sort_unstable();
        self.left_out += self.conversations.len() - kept.len();
        self.conversations = kept.into_iter().map(|index| self.conversations[index].clone()).collect();
    }

    /// The data as JSON that cannot close its script element.
    pub(crate) fn json(&self) -> String {
        let text = serde_json::to_string(self).expect("strings and finite numbers");
        // In a JSON string, `\u003c` means `<`; outside of strings, JSON has none of these three characters.
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(id: usize, a: f32, b: f32) -> ShownConversation {
        let nats = [("a".to_owned(), vec![a]), ("b".to_owned(), vec![b])].into();
        let item = ShownItem {
            message: 0,
            kind: "next_prompt".into(),
            primary: true,
            tokens: vec!["</script><script>alert(1)</script>".into()],
            views: vec![SeenThoughts { seen: vec![(0, 0)], late: Vec::new() }],
            saved: Vec::new(),
            written: BTreeMap::new(),
            nats,
        };
        ShownConversation {
            id: id.to_string(),
            model: None,
            messages: Vec::new(),
            items: vec![item],
            words: BTreeMap::new(),
        }
    }

    #[test]
    fn the_most_different_are_kept_and_the_others_counted() {
        let conversations = (0..10).map(|id| conversation(id, 5.0, id as f32)).collect();
        let mut explorer = Explorer {
            arms: vec!["a".into(), "b".into()],
            chosen: [0, 1],
            views: vec![None, Some(0)],
            conversations,
            left_out: 0,
        };
        explorer.limit(4);
        let kept: Vec<&str> = explorer.conversations.iter().map(|conversation| conversation.id.as_str()).collect();
        assert_eq!(kept, ["0", "1", "8", "9"]);
        assert_eq!(explorer.left_out, 6);
    }

    #[test]
    fn nothing_in_the_data_can_end_the_script_element() {
        let explorer = Explorer {
            arms: vec!["a".into()],
            chosen: [0, 0],
            views: vec![None],
            conversations: vec![conversation(0, 1.0, 2.0)],
            left_out: 0,
        };
        let json = explorer.json();
        assert!(!json.contains(['<', '>', '&']), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["conversations"][0]["items"][0]["tokens"][0], "</script><script>alert(1)</script>");
    }
}
