//! The conversations of a study with the scores and texts of every arm, for the report's explorer.

use std::collections::BTreeMap;

use undertone_data::{Encoded, Item, Message, Role, Template};
use undertone_report::{Explorer, ShownConversation, ShownItem, ShownMessage, ShownThought};
use undertone_stats::{ItemRecord, Written};

use super::Scores;
use crate::study::Study;

/// The most conversations in a page: about 20 MB at the published dataset's sizes.
const MOST_CONVERSATIONS: usize = 250;

/// The records of each item by arm, one per training seed.
type ByItem<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a ItemRecord>>>;

/// The messages that arms wrote in place of each item.
type WrittenByItem<'a> = BTreeMap<&'a str, Vec<&'a Written>>;

/// The explorer of everything that was scored; `chosen` names the two arms that it compares first.
pub(super) fn explorer(study: &Study, scores: Scores<'_>, chosen: [&str; 2]) -> Explorer {
    let Scores { records, written, .. } = scores;
    let mut written_by_item = WrittenByItem::new();
    for one in written {
        written_by_item.entry(&one.item).or_default().push(one);
    }
    let mut by_item = ByItem::new();
    let mut arms: Vec<String> = Vec::new();
    for record in records.iter().flatten() {
        if !arms.contains(&record.arm) {
            arms.push(record.arm.clone());
        }
        by_item.entry(&record.item).or_default().entry(&record.arm).or_default().push(record);
    }
    let template = &study.folds[0].corpus.builder().template;
    let kinds = &study.experiment.data.targets;
    let conversation = |encoded: &Encoded| {
        let items: Vec<ShownItem> = encoded
            .items(0..encoded.messages.len(), kinds)
            .iter()
            .filter_map(|item| {
                let id = item.to_string();
                let written = written_by_item.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                Some(shown_item(encoded, item, by_item.get(id.as_str())?, written, template))
            })
            .collect();
        (!items.is_empty()).then(|| shown_conversation(encoded, items))
    };
    let conversations = study.encoded.iter().filter_map(conversation).collect();
    let place = |name: &str| arms.iter().position(|arm| arm == name).unwrap_or_default();
    let chosen = chosen.map(place);
    let mut explorer = Explorer { arms, chosen, conversations, left_out: 0 };
    explorer.limit(MOST_CONVERSATIONS);
    explorer
}

fn shown_conversation(encoded: &Encoded, items: Vec<ShownItem>) -> ShownConversation {
    let conversation = &encoded.conversation;
    let messages = (0..conversation.messages.len()).map(|index| shown_message(&conversation.messages, index)).collect();
    ShownConversation { id: conversation.id.clone(), model: conversation.assistant_model.clone(), messages, items }
}

fn shown_message(messages: &[Message], index: usize) -> ShownMessage {
    let message = &messages[index];
    let next = messages[index + 1..].iter().find(|message| message.role == Role::User).and_then(|next| next.sent_at);
    let kind = message.thought_kind();
    let thoughts = message.thoughts.iter().map(|thought| ShownThought {
        kind: format!("{kind:?}").to_lowercase(),
        text: thought.content.clone(),
        label: thought.label.map(|label| kind.labels()[label].name.to_owned()),
        late: thought.written_at.map(|written| next.is_some_and(|sent| written >= sent)),
    });
    ShownMessage {
        role: format!("{:?}", message.role).to_lowercase(),
        text: message.content.clone(),
        thoughts: thoughts.collect(),
    }
}

fn shown_item(
    encoded: &Encoded,
    item: &Item,
    records: &BTreeMap<&str, Vec<&ItemRecord>>,
    written: &[&Written],
    template: &Template,
) -> ShownItem {
    let mean = |records: &Vec<&ItemRecord>| -> Vec<f32> {
        let count = records[0].token_nats.len();
        let at = |index: usize| records.iter().map(|record| record.token_nats[index]).sum::<f32>();
        (0..count).map(|index| at(index) / records.len() as f32).collect()
    };
    let (mut ids, _) = encoded.item_content(item, encoded.true_label(item), template);
    ids.push(template.end());
    ShownItem {
        message: item.message,
        kind: item.kind.to_string(),
        primary: records.values().flatten().any(|record| record.primary),
        tokens: template.pieces(&ids),
        // Reversed, so that of several trainings the first one's text stays.
        written: written.iter().rev().map(|one| (one.arm.clone(), one.text.clone())).collect(),
        nats: records.iter().map(|(arm, records)| ((*arm).to_owned(), mean(records))).collect(),
    }
}
