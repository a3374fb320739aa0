//! Pairs the records of two arms by item, or says why they cannot be compared.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The arms were trained with different seeds.
    #[error("the arms were trained with different seeds: `{}` with {:?}, `{}` with {:?}", arms[0], seeds[0], arms[1], seeds[1])]
    Seeds {
        /// The names of arms a and b.
        arms: [String; 2],
        /// The seeds of arms a and b.
        seeds: [Vec<u64>; 2],
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

/// One item as both arms scored it: a record for each training seed. An untrained arm, which has no seed, is paired
/// with every seed of the other.
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
}

/// The records of one arm, by seed and then by item.
type BySeed<'a> = BTreeMap<Option<u64>, BTreeMap<&'a str, &'a ItemRecord>>;

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
    let by_seed = |records: &'a [ItemRecord]| {
        let mut all = BySeed::new();
        for record in records {
            all.entry(record.seed).or_default().insert(&record.item, record);
        }
        all
    };
    let [in_a, in_b] = [a, b].map(by_seed);
    let is_untrained = |all: &BySeed<'_>| all.keys().eq(&[None]);
    let seeds = |all: &BySeed<'_>| -> Vec<u64> { all.keys().copied().flatten().collect() };
    if in_a.keys().ne(in_b.keys()) && !is_untrained(&in_a) && !is_untrained(&in_b) {
        let seeds = [seeds(&in_a), seeds(&in_b)];
        return Err(NotComparable::Seeds { arms: arms.map(str::to_owned), seeds });
    }
    let count = in_a.len().max(in_b.len());
    let mut pairs: BTreeMap<&str, Pair<'a>> = BTreeMap::new();
    for (a, b) in in_a.values().cycle().zip(in_b.values().cycle()).take(count) {
        let missing = |from: &BTreeMap<&str, _>, wanted: &BTreeMap<&str, _>| -> Vec<String> {
            let missing = wanted.keys().filter(|item| !from.contains_key(*item));
            missing.map(|item| item.to_string()).collect()
        };
        let alone = [missing(b, a), missing(a, b)];
        if alone.iter().any(|items| !items.is_empty()) {
            return Err(NotComparable::Items { arms: arms.map(str::to_owned), alone });
        }
        for (item, (a, b)) in a.iter().zip(b.values()).map(|((item, a), b)| (*item, (*a, *b))) {
            let pair = pairs.entry(item).or_insert_with(|| Pair { a: Vec::new(), b: Vec::new() });
            pair.a.push(a);
            pair.b.push(b);
        }
    }
    let differences = pairs.values().filter_map(|pair| difference(pair, arms));
    match differences.collect::<Vec<_>>() {
        differences if !differences.is_empty() => Err(NotComparable::Targets(differences)),
        _ if pairs.values().any(|pair| pair.a.len() != count) => {
            let items = pairs.iter().filter(|(_, pair)| pair.a.len() != count).map(|(item, _)| item.to_string());
            Err(NotComparable::Items { arms: arms.map(str::to_owned), alone: [items.collect(), Vec::new()] })
        }
        _ => Ok(pairs.into_values().collect()),
    }
}

/// The first field in which two records of one item describe different targets, in words.
fn difference(pair: &Pair<'_>, [arm_a, arm_b]: [&str; 2]) -> Option<String> {
    let fields = |record: &ItemRecord| {
        let label = record.label.as_ref();
        [
            ("conversation", record.conversation.clone()),
            ("user", record.user.clone()),
            ("kind", record.kind.to_string()),
            ("tokens", record.tokens.to_string()),
            ("bytes", record.bytes.to_string()),
            ("fold", or_none(record.fold)),
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
