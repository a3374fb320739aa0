//! Where thoughts help: the leading comparison by groups of items.

use std::collections::BTreeMap;

use serde::Serialize;
use undertone_data::{Encoded, Item, Role, TargetKind};
use undertone_report::{ForestRow, Table, columns, count, decimal, interval, shown_interval, signed};
use undertone_stats::{Arms, Contrast, Decision, ItemRecord, NotComparable, Subset, by_group};

use crate::study::Study;

/// Items grouped by one property, and the difference in each group.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Breakdown {
    /// The property that forms the groups.
    dimension: &'static str,
    arm_a: String,
    arm_b: String,
    /// The groups in the order of their names.
    groups: Vec<(String, Contrast)>,
}

/// What is known about an item besides its scores.
struct About<'a> {
    conversation: &'a Encoded,
    message: usize,
    tokens: usize,
}

/// A property that groups items: its name, and the group of an item, if it has one.
type Dimension = (&'static str, fn(&About<'_>) -> Option<String>);

const DIMENSIONS: [Dimension; 10] = [
    ("reason of the message", reason),
    ("reaction to the reply before", reaction_before),
    ("turn", turn),
    ("stage of the conversation", stage),
    ("length of the target", length),
    ("assistant", |about| about.conversation.conversation.assistant_model.clone()),
    ("user's age", age),
    ("user's gender", |about| about.conversation.conversation.survey.gender.clone()),
    ("user's education", |about| about.conversation.conversation.survey.education.clone()),
    ("how often the user talks to assistants (1 to 5)", |about| {
        about.conversation.conversation.survey.frequency.clone()
    }),
];

/// Groups the primary next prompts of two arms, or all next prompts if none is primary.
pub(super) fn breakdowns(study: &Study, arms: &Arms<'_>) -> Result<Vec<Breakdown>, NotComparable> {
    let conversations: BTreeMap<&str, &Encoded> =
        study.encoded.iter().map(|encoded| (encoded.conversation.id.as_str(), encoded)).collect();
    let messages: BTreeMap<String, usize> = study
        .encoded
        .iter()
        .flat_map(|encoded| encoded.items(0..encoded.messages.len(), &[TargetKind::NextPrompt]))
        .map(|item: Item| (item.to_string(), item.message))
        .collect();
    let subset = if arms.a.iter().chain(arms.b).any(|record| record.primary) { Subset::Primary } else { Subset::All };
    let break_down = |(dimension, group_of): Dimension| {
        let group = |record: &ItemRecord| {
            let message = *messages.get(&record.item)?;
            group_of(&About {
                conversation: conversations[record.conversation.as_str()],
                message,
                tokens: record.tokens,
            })
        };
        let groups = by_group(arms, study.experiment.decision_rules(), (TargetKind::NextPrompt, subset), group)?;
        let name = |records: &[ItemRecord]| records[0].arm.clone();
        Ok(Breakdown { dimension, arm_a: name(arms.a), arm_b: name(arms.b), groups })
    };
    let all: Result<Vec<Breakdown>, NotComparable> = DIMENSIONS.into_iter().map(break_down).collect();
    Ok(all?.into_iter().filter(|breakdown| breakdown.groups.len() > 1).collect())
}

/// The label of the first thought on a message, in the paper's words.
fn label(about: &About<'_>, message: usize) -> String {
    let message = &about.conversation.conversation.messages[message];
    match message.thoughts.first() {
        None => "none given".to_owned(),
        Some(thought) => {
            thought.label.map_or("without a label", |label| message.thought_kind().labels()[label].name).to_owned()
        }
    }
}

fn reason(about: &About<'_>) -> Option<String> {
    Some(label(about, about.message))
}

fn reaction_before(about: &About<'_>) -> Option<String> {
    let before = about.message.checked_sub(1)?;
    (about.conversation.conversation.messages[before].role == Role::Assistant).then(|| label(about, before))
}

/// The number of user messages before this one, and in the whole conversation.
fn place(about: &About<'_>) -> (usize, usize) {
    let messages = &about.conversation.conversation.messages;
    let turns = |messages: &[undertone_data::Message]| messages.iter().filter(|one| one.role == Role::User).count();
    (turns(&messages[..about.message]), turns(messages))
}

fn turn(about: &About<'_>) -> Option<String> {
    Some(match place(about).0 {
        0 => "1st".into(),
        1 => "2nd".into(),
        2 => "3rd".into(),
        3..=5 => "4th to 6th".into(),
        _ => "7th and later".into(),
    })
}

fn stage(about: &About<'_>) -> Option<String> {
    let (before, all) = place(about);
    let third = 3 * before / all.max(1);
    Some(["1. first third", "2. middle third", "3. last third"][third.min(2)].to_owned())
}

fn length(about: &About<'_>) -> Option<String> {
    Some(
        match about.tokens {
            ..=8 => "1. up to 8 tokens",
            9..=16 => "2. 9 to 16 tokens",
            17..=32 => "3. 17 to 32 tokens",
            33..=64 => "4. 33 to 64 tokens",
            _ => "5. more than 64 tokens",
        }
        .to_owned(),
    )
}

fn age(about: &About<'_>) -> Option<String> {
    Some(
        match about.conversation.conversation.survey.age? {
            ..25 => "below 25",
            25..35 => "25 to 34",
            35..45 => "35 to 44",
            45.. => "from 45",
        }
        .to_owned(),
    )
}

impl Breakdown {
    /// The property that forms the groups.
    pub(super) fn dimension(&self) -> &str {
        self.dimension
    }

    /// The groups as a table.
    pub(super) fn table(&self) -> Table {
        let row = |(name, contrast): &(String, Contrast)| {
            let losses = contrast.losses.as_ref()?;
            Some(vec![
                name.clone(),
                count(contrast.items),
                count(contrast.users),
                count(contrast.tokens),
                decimal(losses.a),
                decimal(losses.b),
                signed(losses.difference.ratio.value),
                shown_interval(&losses.difference).map_or_else(|| "–".to_owned(), interval),
            ])
        };
        let Self { dimension, arm_a, arm_b, groups } = self;
        Table {
            title: format!("`{arm_b}` − `{arm_a}` by {dimension}, nats per token"),
            header: columns(&["group"], &["items", "users", "tokens", arm_a, arm_b, "difference", "95 % interval"]),
            rows: groups.iter().filter_map(row).collect(),
            notes: Vec::new(),
        }
    }

    /// The groups for a forest plot.
    pub(super) fn forest(&self) -> Vec<ForestRow> {
        let row = |(name, contrast): &(String, Contrast)| {
            let losses = contrast.losses.as_ref()?;
            let ratio = losses.difference.ratio;
            Some(ForestRow {
                name: name.clone(),
                value: ratio.value,
                interval: shown_interval(&losses.difference),
                decision: Decision::Undecided,
                numbers: format!("{} · {} items, {} users", signed(ratio.value), contrast.items, contrast.users),
                primary: false,
            })
        };
        self.groups.iter().filter_map(row).collect()
    }
}

/// The caution about many groups.
pub(super) fn many_comparisons(breakdowns: &[Breakdown]) -> String {
    let groups: usize = breakdowns.iter().map(|breakdown| breakdown.groups.len()).sum();
    format!(
        "The report shows {groups} groups, fixed before the data were seen. None is tested: if no group had a difference, about {} of \
         the intervals would still exclude zero. Use them to choose what to test next, on other users.",
        (0.05 * groups as f64).round().max(1.0)
    )
}
