//! Whether one arm predicts better than another: paired, by user, on exactly the same items.
//!
//! In come the records of two arms, out comes one [`Contrast`] for each kind and [`Subset`]: both
//! losses, their difference and its interval, and a [`verdict`](Contrast::verdict) in words. Two
//! sets of records that are not of the same targets are refused with the difference named; nothing
//! is matched, dropped or filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

use crate::bootstrap::{
    BootstrapOptions, ENOUGH_USERS, Interval, UserEstimates, estimate, mean_of_user_means, ratio, sum_by_user,
};
use crate::record::{ItemRecord, RecordFault, check_records};

/// What no interval of a comparison holds.
const SEEDS_NOTE: &str = "Intervals hold the variance between users, not that between training seeds: \
     training again could move either arm.";
/// How many differences an error names.
const NAMED: usize = 3;

/// Two arms on the same items. Every difference is b − a: below zero, `b` predicts better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The name of arm a, that which is subtracted.
    pub arm_a: String,
    /// The name of arm b.
    pub arm_b: String,
    /// How users were resampled.
    pub bootstrap: BootstrapOptions,
    /// What the intervals leave out.
    pub seeds_note: String,
    /// What else a reader must know, one sentence each.
    pub notes: Vec<String>,
    /// For each kind that occurs, each [`Subset`] of its items.
    pub contrasts: Vec<Contrast>,
}

/// Which items of a kind are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// Those that belong to the primary comparison.
    Primary,
    /// All.
    All,
    /// The primary ones, without those that share a 5-gram with a thought visible to either arm.
    PrimaryWithoutQuotes,
}

impl Subset {
    /// Every subset, in the order of a report.
    pub const ALL: [Self; 3] = [Self::Primary, Self::All, Self::PrimaryWithoutQuotes];

    fn holds(self, (a, b): &Pair<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Primary => a.primary || b.primary,
            Self::PrimaryWithoutQuotes => Self::Primary.holds(&(a, b)) && !a.quotes_target && !b.quotes_target,
        }
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::All => "all",
            Self::PrimaryWithoutQuotes => "primary, no quotes",
        })
    }
}

/// Two arms on one subset of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// The kind of target.
    pub kind: TargetKind,
    /// Which of its items.
    pub subset: Subset,
    /// How many targets there are; each counts once, though both arms scored it.
    pub items: usize,
    /// How many users they are from.
    pub users: usize,
    /// Their supervised tokens.
    pub tokens: usize,
    /// The numbers; `None` if the subset has no items.
    pub losses: Option<PairedLosses>,
    /// The result in words.
    pub verdict: String,
}

/// The losses of two arms on the same items, in nats per token.
///
/// With x the nats of an item in arm a, y those in arm b and t its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedLosses {
    /// Σ x / Σ t.
    pub a: f64,
    /// Σ y / Σ t.
    pub b: f64,
    /// The mean over users of each one's Σ x / Σ t.
    pub a_mean_of_user_means: f64,
    /// The mean over users of each one's Σ y / Σ t.
    pub b_mean_of_user_means: f64,
    /// Σ (y − x) / Σ t, the primary estimand, and the mean over users of each one's; both
    /// recomputed in the same resamples of users.
    pub difference: UserEstimates,
}

/// Why two sets of records cannot be compared.
#[derive(Debug, Clone, PartialEq)]
pub enum NotComparable {
    /// A record that no sum may hold.
    Record(RecordFault),
    /// One side has no records.
    Empty,
    /// One side holds more than one arm.
    SeveralArms(Vec<String>),
    /// Both sides are the same arm.
    SameArm(String),
    /// The arms scored different items.
    Items {
        /// The names of arms a and b.
        arms: [String; 2],
        /// The items that only a, and only b, scored.
        alone: [Vec<String>; 2],
    },
    /// Items of the same name are not the same targets: for each what differs, in words.
    Targets(Vec<String>),
}

impl fmt::Display for NotComparable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(fault) => fault.fmt(f),
            Self::Empty => f.write_str("an arm has no item records, so there is nothing to compare"),
            Self::SeveralArms(arms) => {
                write!(f, "one side holds several arms: `{}`", arms.join("`, `"))
            }
            Self::SameArm(arm) => write!(f, "both sides are arm `{arm}`"),
            Self::Items { arms, alone } => {
                let side = |side: usize| match alone[side].as_slice() {
                    [] => format!("none only in `{}`", arms[side]),
                    items => format!("{} only in `{}` (`{}`)", items.len(), arms[side], first(items, "`, `")),
                };
                let (a, b) = (side(0), side(1));
                write!(f, "the arms scored different items: {a}, {b}")
            }
            Self::Targets(differences) => write!(
                f,
                "the arms differ in the targets of {}: {}",
                counted(differences.len(), "item"),
                first(differences, "; ")
            ),
        }
    }
}

/// The first few of a list.
fn first(items: &[String], separator: &str) -> String {
    items[..items.len().min(NAMED)].join(separator)
}

/// `1 item`, `2 items`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl std::error::Error for NotComparable {}

/// The records of one item in arm a and in arm b.
type Pair<'a> = (&'a ItemRecord, &'a ItemRecord);

/// Compares arm `b` with arm `a`; the order of the records does not matter.
///
/// An item counts as primary, or as quoting a thought, if it does so in either arm: an arm that sees
/// no thoughts has none to quote. Where the arms differ in it, a note says for how many items.
///
/// # Errors
///
/// The first reason why the two are no pair: a faulty record, no records, not exactly two arms,
/// different items, or items whose conversation, user, kind, tokens, bytes, fold or true label differ.
///
/// # Panics
///
/// If the options ask for fewer than [`MIN_DRAWS`](crate::bootstrap::MIN_DRAWS) draws.
pub fn compare(a: &[ItemRecord], b: &[ItemRecord], options: BootstrapOptions) -> Result<Comparison, NotComparable> {
    let (arm_a, arm_b) = (only_arm(a)?, only_arm(b)?);
    if arm_a == arm_b {
        return Err(NotComparable::SameArm(arm_a));
    }
    let pairs = pair(a, b, [&arm_a, &arm_b])?;
    let mut notes = Vec::new();
    let mut note = |field: &str, of: fn(&ItemRecord) -> bool| {
        let differ = pairs.iter().filter(|(a, b)| of(a) != of(b)).count();
        if differ > 0 {
            notes.push(format!(
                "`{field}` differs between the arms for {}, and holds if it does in either.",
                counted(differ, "item")
            ));
        }
    };
    note("primary", |record| record.primary);
    note("quotes_target", |record| record.quotes_target);

    let kinds: BTreeSet<TargetKind> = pairs.iter().map(|(a, _)| a.kind).collect();
    let mut contrasts = Vec::new();
    for kind in kinds {
        for subset in Subset::ALL {
            let chosen = |pair: &&Pair<'_>| pair.0.kind == kind && subset.holds(pair);
            let chosen: Vec<Pair<'_>> = pairs.iter().filter(chosen).copied().collect();
            contrasts.push(contrast(kind, subset, &chosen, [&arm_a, &arm_b], options));
        }
    }
    Ok(Comparison { arm_a, arm_b, bootstrap: options, seeds_note: SEEDS_NOTE.to_owned(), notes, contrasts })
}

/// The one arm of checked records.
fn only_arm(records: &[ItemRecord]) -> Result<String, NotComparable> {
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
fn pair<'a>(a: &'a [ItemRecord], b: &'a [ItemRecord], arms: [&str; 2]) -> Result<Vec<Pair<'a>>, NotComparable> {
    let by_item = |records: &'a [ItemRecord]| -> BTreeMap<&'a str, &'a ItemRecord> {
        records.iter().map(|r| (r.item.as_str(), r)).collect()
    };
    let (in_a, in_b) = (by_item(a), by_item(b));
    let missing = |from: &BTreeMap<&str, _>, of: &BTreeMap<&str, _>| -> Vec<String> {
        let missing = of.keys().filter(|item| !from.contains_key(*item));
        missing.map(|item| item.to_string()).collect()
    };
    let alone = [missing(&in_b, &in_a), missing(&in_a, &in_b)];
    if alone.iter().any(|items| !items.is_empty()) {
        let arms = arms.map(str::to_owned);
        return Err(NotComparable::Items { arms, alone });
    }
    let pairs: Vec<Pair<'a>> = in_a.into_values().zip(in_b.into_values()).collect();
    let differences = pairs.iter().filter_map(|pair| difference(pair, arms));
    match differences.collect::<Vec<_>>() {
        none if none.is_empty() => Ok(pairs),
        differences => Err(NotComparable::Targets(differences)),
    }
}

/// The first field in which two records of one item are not of the same target, in words.
fn difference((a, b): &Pair<'_>, [arm_a, arm_b]: [&str; 2]) -> Option<String> {
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
    let mut both = fields(a).into_iter().zip(fields(b));
    let ((field, in_a), (_, in_b)) = both.find(|(a, b)| a != b)?;
    let item = &a.item;
    Some(format!("`{field}` of `{item}` is `{in_a}` in `{arm_a}` and `{in_b}` in `{arm_b}`"))
}

fn or_none(value: Option<usize>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// Compares the arms on the pairs of one subset, which are ordered by item id.
fn contrast(
    kind: TargetKind,
    subset: Subset,
    pairs: &[Pair<'_>],
    arms: [&str; 2],
    options: BootstrapOptions,
) -> Contrast {
    let by_user =
        |nats: fn(&Pair<'_>) -> f64| sum_by_user(pairs.iter().map(|p| (p.0.user.as_str(), nats(p), p.0.tokens)));
    let in_a = by_user(|(a, _)| a.nats);
    let in_b = by_user(|(_, b)| b.nats);
    let differences = by_user(|(a, b)| b.nats - a.nats);
    let losses = || {
        Some(PairedLosses {
            a: ratio(&in_a)?,
            b: ratio(&in_b)?,
            a_mean_of_user_means: mean_of_user_means(&in_a)?,
            b_mean_of_user_means: mean_of_user_means(&in_b)?,
            difference: estimate(&differences, options)?,
        })
    };
    let mut contrast = Contrast {
        kind,
        subset,
        items: pairs.len(),
        users: differences.len(),
        tokens: differences.iter().map(|user| user.tokens).sum(),
        losses: losses(),
        verdict: String::new(),
    };
    contrast.verdict = contrast.in_words(arms);
    contrast
}

impl Contrast {
    fn in_words(&self, [a, b]: [&str; 2]) -> String {
        let (kind, subset) = (self.kind, self.subset);
        let Some(losses) = self.losses else {
            return format!("{kind} ({subset}): no items, so nothing is compared.");
        };
        let difference = losses.difference.ratio;
        let by = match format!("{:.3}", difference.value.abs()) {
            digits if digits == "0.000" => "less than 0.001".to_owned(),
            digits => digits,
        };
        let result = match difference.value {
            0.0 => format!("`{b}` equals `{a}`"),
            below if below < 0.0 => format!("`{b}` is lower than `{a}` by {by} nats per token"),
            _ => format!("`{a}` is lower than `{b}` by {by} nats per token"),
        };
        let items = counted(self.items, "item");
        let users = counted(self.users, "user");
        let mut words = format!("{kind} ({subset}): {result} on {items} of {users}.");
        words += &match difference.bootstrap {
            Some(interval) => {
                format!(" Zero lies {} the 95 % interval of `{b}` − `{a}`, {interval}.", side_of_zero(interval))
            }
            None => " One user gives no interval.".to_owned(),
        };
        if losses.difference.too_few_users {
            words += &format!(" Too few users: fewer than {ENOUGH_USERS} show little about others");
            if let Some(interval) = difference.student_t {
                let side = side_of_zero(interval);
                let freedom = self.users - 1;
                words += &format!("; by Student's t({freedom}) the interval is {interval}, with zero {side}");
            }
            words.push('.');
        }
        words
    }
}

fn side_of_zero(interval: Interval) -> &'static str {
    if interval.contains_zero() { "inside" } else { "outside" }
}

impl Comparison {
    /// The contrast of one kind and subset; `None` if the kind does not occur.
    pub fn contrast(&self, kind: TargetKind, subset: Subset) -> Option<&Contrast> {
        let mut contrasts = self.contrasts.iter();
        contrasts.find(|contrast| (contrast.kind, contrast.subset) == (kind, subset))
    }

    /// The result in words: of the next prompt's primary items, or, where no next prompt is a
    /// target, of the first kind's. It names the lower arm, says whether zero lies inside the
    /// interval, and warns of too few users.
    pub fn verdict(&self) -> &str {
        let headline = self.contrast(TargetKind::NextPrompt, Subset::Primary);
        headline.or(self.contrasts.first()).map_or("Nothing is compared.", |contrast| &contrast.verdict)
    }
}

#[cfg(test)]
mod tests;
