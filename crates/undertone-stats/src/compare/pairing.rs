//! Pairs the records of two arms by item, or says why they cannot be compared.

use std::collections::{BTreeMap, BTreeSet};

use crate::inference::Cell;
use crate::record::{ItemRecord, RecordFault, check_records};

/// How many differences an error names.
const NAMED: usize = 3;

/// Why two sets of records cannot be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotComparable {
    /// A record is invalid.
    #[error(transparent)]
    Record(RecordFault),
    /// One side has no records.
    #[error("an arm has no item records, so there is nothing to compare")]
    Empty,
    /// One side holds more than one arm.
    #[error("one side holds several arms: `{}`", .0.join("`, `"))]
    SeveralArms(Vec<String>),
    /// Both sides are the same arm.
    #[error("both sides are arm `{0}`")]
    SameArm(String),
    /// The arms scored different items.
    #[error("the arms scored different items: {}", only_in_one(arms, alone))]
    Items {
        /// The names of arms a and b.
        arms: [String; 2],
        /// The items that only a, and only b, scored.
        alone: [Vec<String>; 2],
    },
    /// The arms were trained with different seeds, or tested in different folds.
    #[error("the arms have different {what}: `{}` {:?}, `{}` {:?}", arms[0], values[0], arms[1], values[1])]
    Trainings {
        /// Seeds or folds.
        what: &'static str,
        /// The names of arms a and b.
        arms: [String; 2],
        /// The seeds or folds of arms a and b.
        values: [Vec<u64>; 2],
    },
    /// An item was not scored in as many trainings as the others.
    #[error("arm `{arm}` scored {} in fewer trainings than the others: `{}`", counted(.items.len(), "item"), first(.items, "`, `"))]
    Unbalanced {
        /// The arm.
        arm: String,
        /// The items.
        items: Vec<String>,
    },
    /// Items of the same id are different targets; for each, a sentence on what differs.
    #[error("the arms differ in the targets of {}: {}", counted(.0.len(), "item"), first(.0, "; "))]
    Targets(Vec<String>),
}

/// The items that only one of two arms scored, in words.
fn only_in_one([arm_a, arm_b]: &[String; 2], [alone_a, alone_b]: &[Vec<String>; 2]) -> String {
    let side = |arm: &str, alone: &[String]| match alone {
        [] => format!("none only in `{arm}`"),
        items => format!("{} only in `{arm}` (`{}`)", items.len(), first(items, "`, `")),
    };
    format!("{}, {}", side(arm_a, alone_a), side(arm_b, alone_b))
}

/// The first few of a list.
fn first(items: &[String], separator: &str) -> String {
    items[..items.len().min(NAMED)].join(separator)
}

/// `1 item`, `2 items`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// One item as both arms scored it: a record of each arm for each training, in the order of folds and then of seeds. An
/// untrained arm, which has no seed, is paired with every training of the other.
pub(super) struct Pair<'a> {
    pub(super) a: Vec<&'a ItemRecord>,
    pub(super) b: Vec<&'a ItemRecord>,
}

impl Pair<'_> {
    /// One record of the item, for the fields that do not depend on the arm.
    pub(super) fn item(&self) -> &ItemRecord {
        self.a[0]
    }

    /// Whether `flag` holds for the item in either arm.
    pub(super) fn either(&self, flag: impl Fn(&ItemRecord) -> bool) -> bool {
        self.a.iter().chain(&self.b).any(|record| flag(record))
    }

    /// Whether the arms differ in `flag`.
    pub(super) fn differs(&self, flag: impl Fn(&ItemRecord) -> bool) -> bool {
        flag(self.a[0]) != flag(self.b[0])
    }

    /// The folds that test the item, one for each training. Two models that no arm has trained are the same in all folds: they
    /// count as one training.
    pub(super) fn folds(&self) -> impl Iterator<Item = usize> {
        let is_untrained = |records: &[&ItemRecord]| records.iter().all(|record| record.seed.is_none());
        // An untrained arm may have been scored in one fold for all.
        let trained = if is_untrained(&self.a) { &self.b } else { &self.a };
        let is_one = is_untrained(trained);
        trained.iter().map(move |record| record.fold.filter(|_| !is_one).unwrap_or_default())
    }

    /// A number of each training, by fold.
    pub(super) fn cells(&self, number: impl Fn(&ItemRecord, &ItemRecord) -> f64) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for (fold, (a, b)) in self.folds().zip(self.a.iter().zip(&self.b)) {
            match cells.last_mut() {
                Some(cell) if cell.fold == fold => cell.nats.push(number(a, b)),
                _ => cells.push(Cell { fold, nats: vec![number(a, b)] }),
            }
        }
        cells
    }
}

/// The records of one arm: by item, and then by fold and seed.
type ByItem<'a> = BTreeMap<&'a str, BTreeMap<(Option<usize>, Option<u64>), &'a ItemRecord>>;

/// Checks the records and returns their only arm.
pub(super) fn only_arm(records: &[ItemRecord]) -> Result<String, NotComparable> {
    check_records(records).map_err(NotComparable::Record)?;
    let arms: BTreeSet<&str> = records.iter().map(|record| record.arm.as_str()).collect();
    let mut arms: Vec<String> = arms.into_iter().map(str::to_owned).collect();
    match (arms.pop(), arms.is_empty()) {
        (None, _) => Err(NotComparable::Empty),
        (Some(arm), true) => Ok(arm),
        (Some(last), false) => {
            arms.push(last);
            Err(NotComparable::SeveralArms(arms))
        }
    }
}

/// Both arms' records of each item, ordered by item id.
pub(super) fn pair<'a>(
    a: &'a [ItemRecord],
    b: &'a [ItemRecord],
    arms: [&str; 2],
) -> Result<Vec<Pair<'a>>, NotComparable> {
    let names = || arms.map(str::to_owned);
    let by_item = |records: &'a [ItemRecord]| {
        let mut all = ByItem::new();
        for record in records {
            all.entry(&record.item).or_default().insert((record.fold, record.seed), record);
        }
        all
    };
    let [in_a, in_b] = [a, b].map(by_item);
    let missing = |from: &ByItem<'_>, wanted: &ByItem<'_>| -> Vec<String> {
        wanted.keys().filter(|item| !from.contains_key(*item)).map(|item| item.to_string()).collect()
    };
    let alone = [missing(&in_b, &in_a), missing(&in_a, &in_b)];
    if alone.iter().any(|items| !items.is_empty()) {
        return Err(NotComparable::Items { arms: names(), alone });
    }
    // An untrained arm has one score of an item, whatever the trainings.
    let is_untrained = |records: &[ItemRecord]| records.iter().all(|record| record.seed.is_none());
    let untrained = [a, b].map(is_untrained);
    if untrained == [false, false] {
        let seeds = |records: &[ItemRecord]| records.iter().filter_map(|record| record.seed).collect::<BTreeSet<u64>>();
        let folds = |records: &[ItemRecord]| records.iter().filter_map(|one| Some(one.fold? as u64)).collect();
        for (what, values) in [("seeds", [a, b].map(seeds)), ("folds", [a, b].map(folds))] {
            if values[0] != values[1] {
                let values = values.map(Vec::from_iter);
                return Err(NotComparable::Trainings { what, arms: names(), values });
            }
        }
    }
    let [trained, other] =
        if untrained[0] { [(&in_b, arms[1]), (&in_a, arms[0])] } else { [(&in_a, arms[0]), (&in_b, arms[1])] };
    let expected = trained.0.values().map(BTreeMap::len).max().unwrap_or_default();
    for (all, arm) in [trained, other] {
        let expected = if all.values().all(|records| records.len() == 1) { 1 } else { expected };
        let items = all.iter().filter(|(_, records)| records.len() != expected);
        let items: Vec<String> = items.map(|(item, _)| item.to_string()).collect();
        if !items.is_empty() {
            return Err(NotComparable::Unbalanced { arm: arm.to_owned(), items });
        }
    }
    let pairs = in_a.into_values().zip(in_b.into_values()).map(|(a, b)| {
        let count = a.len().max(b.len());
        let [a, b] = [a, b].map(|records| {
            let records: Vec<&ItemRecord> = records.into_values().collect();
            records.iter().copied().cycle().take(count).collect()
        });
        Pair { a, b }
    });
    let pairs: Vec<Pair<'_>> = pairs.collect();
    let differences: Vec<String> = pairs.iter().filter_map(|pair| difference(pair, arms)).collect();
    if differences.is_empty() { Ok(pairs) } else { Err(NotComparable::Targets(differences)) }
}

/// The first field in which two records of one item describe different targets, in words.
fn difference(pair: &Pair<'_>, [arm_a, arm_b]: [&str; 2]) -> Option<String> {
    let is_trained = !pair.either(|record| record.seed.is_none());
    let fields = |record: &ItemRecord| {
        let label = record.label.as_ref();
        [
            ("conversation", record.conversation.clone()),
            ("user", record.user.clone()),
            ("kind", record.kind.to_string()),
            ("tokens", record.tokens.to_string()),
            ("bytes", record.bytes.to_string()),
            ("fold", or_none(record.fold.filter(|_| is_trained))),
            ("label.truth", or_none(label.map(|l| l.truth))),
            ("label.probabilities.len()", or_none(label.map(|l| l.probabilities.len()))),
        ]
    };
    pair.a.iter().zip(&pair.b).find_map(|(a, b)| {
        let mut both = fields(a).into_iter().zip(fields(b));
        let ((field, in_a), (_, in_b)) = both.find(|(a, b)| a != b)?;
        let item = &a.item;
        Some(format!("`{field}` of `{item}` is `{in_a}` in `{arm_a}` and `{in_b}` in `{arm_b}`"))
    })
}

fn or_none(value: Option<usize>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
