//! The conversations of a study with the scores and texts of every arm, for the report's explorer.

use std::collections::BTreeMap;
use std::ops::Range;

use undertone_data::{
    Conversation, Encoded, Item, Message, Placement, Redactor, Role, Source, Speaker, Template, ThoughtAt, View,
};
use undertone_report::{Explorer, SeenThoughts, ShownConversation, ShownItem, ShownMessage, ShownThought};
use undertone_stats::{ItemRecord, Written};

use super::Scores;
use crate::arms::Evaluated;
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
    let seen = Seen::of(study, scores.arms);
    let mut saved: BTreeMap<&str, Vec<(usize, usize, f64)>> = BTreeMap::new();
    for one in scores.attributed {
        saved.entry(&one.item).or_default().push((one.message, one.thought, one.nats_saved));
    }
    let kinds = &study.experiment.data.targets;
    let conversation = |encoded: &Encoded| {
        let items: Vec<ShownItem> = encoded
            .items(0..encoded.messages.len(), kinds)
            .iter()
            .filter_map(|item| {
                let id = item.to_string();
                let written = written_by_item.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                let views = seen.by_item.get(&id).cloned().unwrap_or_default();
                let saved = saved.get(id.as_str()).cloned().unwrap_or_default();
                let shown = shown_item(encoded, item, (by_item.get(id.as_str())?, written, views), template);
                Some(ShownItem { saved, ..shown })
            })
            .collect();
        let words = || words(study, scores.arms, &encoded.conversation.id);
        (!items.is_empty()).then(|| ShownConversation { words: words(), ..shown_conversation(encoded, items) })
    };
    let conversations = study.encoded.iter().filter_map(conversation).collect();
    let place = |name: &str| arms.iter().position(|arm| arm == name).unwrap_or_default();
    let chosen = chosen.map(place);
    let views = arms.iter().map(|arm| seen.of_arm.get(arm).copied()).collect();
    let mut explorer = Explorer { arms, chosen, views, conversations, left_out: 0 };
    explorer.limit(MOST_CONVERSATIONS);
    explorer
}

/// Replaces what identifies people in every text that is shown.
pub(super) fn redact_texts(explorer: &mut Explorer) {
    let mut redactor = Redactor::default();
    let mut replace = |text: &mut String| *text = redactor.redact(text);
    for ShownConversation { messages, items, words, .. } in &mut explorer.conversations {
        for message in messages {
            replace(&mut message.text);
            message.thoughts.iter_mut().for_each(|thought| replace(&mut thought.text));
        }
        items.iter_mut().flat_map(|item| item.written.values_mut()).for_each(&mut replace);
        words.values_mut().flatten().flatten().for_each(&mut replace);
    }
    for item in explorer.conversations.iter_mut().flat_map(|conversation| &mut conversation.items) {
        redactor.redact_pieces(&mut item.tokens);
    }
}

/// Which thoughts each view shows before each target.
struct Seen {
    /// The index of an arm's view; arms without thoughts have none.
    of_arm: BTreeMap<String, usize>,
    /// By item, one for each view.
    by_item: BTreeMap<String, Vec<SeenThoughts>>,
}

impl Seen {
    fn of(study: &Study, arms: &[Evaluated]) -> Self {
        let mut seen = Self { of_arm: BTreeMap::new(), by_item: BTreeMap::new() };
        let mut views: Vec<View> = Vec::new();
        for Evaluated { name, shown: (view, _), .. } in arms.iter().filter(|arm| arm.shown.0.sees_thoughts()) {
            let place = views.iter().position(|known| known == view).unwrap_or_else(|| {
                views.push(*view);
                views.len() - 1
            });
            seen.of_arm.insert(name.clone(), place);
        }
        let conversations: BTreeMap<&str, &Encoded> =
            study.encoded.iter().map(|encoded| (encoded.conversation.id.as_str(), encoded)).collect();
        for (place, view) in views.iter().enumerate() {
            for stream in study.tested_once((*view, Source::Own)) {
                let first = stream.pieces.iter().filter_map(|piece| piece.message).min().unwrap_or_default();
                for target in stream.targets.iter().filter(|target| target.is_truth()) {
                    let all = seen.by_item.entry(target.item.to_string()).or_default();
                    all.resize(views.len(), SeenThoughts::default());
                    let conversation = &conversations[target.item.conversation.as_str()].conversation;
                    let late = not_yet(*view, conversation, first..target.item.message, &target.seen);
                    all[place] = SeenThoughts { seen: target.seen.clone(), late };
                }
            }
        }
        seen
    }
}

/// The thoughts about some messages that a view shows only later, or never because of their time.
fn not_yet(view: View, conversation: &Conversation, messages: Range<usize>, seen: &[ThoughtAt]) -> Vec<ThoughtAt> {
    let on = |message: usize| (0..conversation.messages[message].thoughts.len()).map(move |one| (message, one));
    let is_late = |at: &ThoughtAt| match view.place(conversation, at.0, at.1) {
        Placement::NotInView => false,
        Placement::After(slot) => slot > at.0,
        Placement::TooLate | Placement::UnknownTime => true,
    };
    messages.flat_map(on).filter(|at| !seen.contains(at) && is_late(at)).collect()
}

/// The words that arms see in the place of a conversation's own thoughts, in the first training.
fn words(study: &Study, arms: &[Evaluated], conversation: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let others = arms.iter().filter(|arm| arm.shown.0.sees_thoughts() && arm.shown.1 != Source::Own);
    let words = |arm: &Evaluated| Some((arm.name.clone(), study.shown_words(conversation, arm.shown.1)?));
    others.filter_map(words).collect()
}

fn shown_conversation(encoded: &Encoded, items: Vec<ShownItem>) -> ShownConversation {
    let conversation = &encoded.conversation;
    let messages = (0..conversation.messages.len()).map(|index| shown_message(&conversation.messages, index)).collect();
    ShownConversation {
        id: conversation.id.clone(),
        model: conversation.assistant_model.clone(),
        messages,
        items,
        words: BTreeMap::new(),
    }
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
    (records, written, views): (&BTreeMap<&str, Vec<&ItemRecord>>, &[&Written], Vec<SeenThoughts>),
    template: &Template,
) -> ShownItem {
    let mean = |records: &Vec<&ItemRecord>| -> Vec<f32> {
        let count = records[0].token_nats.len();
        let at = |index: usize| records.iter().map(|record| record.token_nats[index]).sum::<f32>();
        (0..count).map(|index| at(index) / records.len() as f32).collect()
    };
    let (mut ids, _) = encoded.item_content(item, encoded.true_label(item), template);
    ids.push(template.end(Speaker::of(item.kind)));
    ShownItem {
        message: item.message,
        kind: item.kind.to_string(),
        primary: records.values().flatten().any(|record| record.primary),
        tokens: template.pieces(&ids),
        views,
        saved: Vec::new(),
        // Reversed, so that of several trainings the first one's text stays.
        written: written.iter().rev().map(|one| (one.arm.clone(), one.text.clone())).collect(),
        nats: records.iter().map(|(arm, records)| ((*arm).to_owned(), mean(records))).collect(),
    }
}
