//! Whether one arm predicts better than another: paired, by user, on exactly the same items.
//!
//! Input: the records of pairs of arms. Output: one [`Comparison`] per pair, with both losses, their difference and its
//! [`Inference`] for every kind and [`Subset`]. For one subset of each kind there is also a decision by a declared rule
//! ([`Evidence`]); the p-values of all decisions of one call are corrected together. Records of different targets are an error that names the difference; nothing is
//! matched, dropped or filled in.

mod pairing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

pub use self::pairing::{NotComparable, counted};
use self::pairing::{Pair, only_arm, pair};
use crate::heterogeneity::ItemDifference;
use crate::inference::{
    BootstrapOptions, Evidence, Inference, Question, RawP, holm, mean_of_user_means, ratio, sum_by_user,
};
use crate::record::ItemRecord;

/// Two arms on the same items. Every difference is b − a: below zero, `b` predicts better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The name of arm a, which is subtracted.
    pub arm_a: String,
    /// The name of arm b.
    pub arm_b: String,
    /// Whether it was declared the primary comparison. The p-value of its headline is not corrected.
    pub primary: bool,
    /// The rules that were fixed beforehand.
    pub rules: Rules,
    /// Training seeds of each arm.
    pub seeds: usize,
    /// Folds, of all divisions together.
    pub folds: usize,
    /// Items that are in no contrast, because an arm sees a thought without words for which there is no donor.
    pub without_words: usize,
    /// Flags of items that differ between the arms.
    pub disagreements: Vec<Disagreement>,
    /// One contrast for each kind that occurs and each [`Subset`] of its items.
    pub contrasts: Vec<Contrast>,
}

/// A flag that differs between two arms for some items; the comparison treats it as set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    /// The field of the records.
    pub field: String,
    /// For how many items it differs.
    pub items: usize,
}

/// How comparisons are decided.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rules {
    /// How users are resampled.
    pub bootstrap: BootstrapOptions,
    /// A difference shown to be below this, in nats per token, is a tie; without a margin there are no ties.
    pub margin: Option<f64>,
    /// What decisions are about.
    #[serde(default)]
    pub question: Question,
}

/// Two arms to compare.
#[derive(Debug, Clone, Copy)]
pub struct Arms<'a> {
    /// Records of arm a.
    pub a: &'a [ItemRecord],
    /// Records of arm b.
    pub b: &'a [ItemRecord],
    /// Whether this is the primary comparison.
    pub primary: bool,
}

/// Which items of a kind are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subset {
    /// Items that belong to the primary comparison.
    Primary,
    /// All items.
    All,
    /// Primary items, without those that quote a thought visible to either arm.
    PrimaryWithoutQuotes,
}

impl Subset {
    /// Every subset, in the order of a report.
    pub const ALL: [Self; 3] = [Self::Primary, Self::All, Self::PrimaryWithoutQuotes];

    fn holds(self, pair: &Pair<'_>) -> bool {
        !pair.either(|record| record.lacks_words) && self.has(pair)
    }

    fn has(self, pair: &Pair<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Primary => pair.either(|record| record.primary),
            Self::PrimaryWithoutQuotes => Self::Primary.has(pair) && !pair.either(|record| record.quotes_target),
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
    /// Which items of that kind.
    pub subset: Subset,
    /// How many targets there are; a target counts once, although both arms scored it.
    pub items: usize,
    /// How many users they are from.
    pub users: usize,
    /// Their supervised tokens.
    pub tokens: usize,
    /// The numbers; `None` if the subset has no items.
    pub losses: Option<PairedLosses>,
}

/// The losses of two arms on the same items, in nats per token; means over trainings.
///
/// x are the nats of an item in arm a, y those in arm b, and t its tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedLosses {
    /// Σ x / Σ t.
    pub a: f64,
    /// Σ y / Σ t.
    pub b: f64,
    /// The mean over users of each user's Σ x / Σ t.
    pub a_mean_of_user_means: f64,
    /// The mean over users of each user's Σ y / Σ t.
    pub b_mean_of_user_means: f64,
    /// Σ (y − x) / Σ t, the primary estimand, and the mean over users of each user's ratio, both
    /// from the same resamples of users.
    pub difference: Inference,
    /// The decision about b; `None` for a subset about which nothing is decided.
    pub evidence: Option<Evidence>,
}

/// Compares pairs of arms as one family; the order of records does not matter.
///
/// A decision is made about the primary items of each kind, or about all its items if none is primary. Exactly one
/// decision is primary: that about the headline of the primary comparison. The p-values of all other decisions of the
/// call, ties included, are corrected together (Holm). An item counts as primary, or as quoting a thought, if either arm
/// says so: an arm that sees no thoughts has none to quote. [`Comparison::disagreements`] counts the items whose flags
/// differ between the arms.
///
/// # Errors
///
/// The first reason why two arms cannot be compared: an invalid record, no records, not exactly two arms, different
/// trainings, different items, or items whose conversation, user, kind, tokens, bytes or true label differ.
///
/// # Panics
///
/// If the rules ask for fewer than [`MIN_DRAWS`](crate::MIN_DRAWS) draws.
pub fn compare(family: &[Arms<'_>], rules: Rules) -> Result<Vec<Comparison>, NotComparable> {
    let mut comparisons = family.iter().map(|arms| compare_pair(arms, rules)).collect::<Result<Vec<_>, _>>()?;
    decide(&mut comparisons);
    Ok(comparisons)
}

/// One comparison, before its p-values are corrected.
fn compare_pair(arms: &Arms<'_>, rules: Rules) -> Result<Comparison, NotComparable> {
    let (arm_a, arm_b) = (only_arm(arms.a)?, only_arm(arms.b)?);
    if arm_a == arm_b {
        return Err(NotComparable::SameArm(arm_a));
    }
    let pairs = pair(arms.a, arms.b, [&arm_a, &arm_b])?;
    let disagreement = |field: &str, flag: fn(&ItemRecord) -> bool| {
        let items = pairs.iter().filter(|pair| pair.differs(flag)).count();
        (items > 0).then(|| Disagreement { field: field.to_owned(), items })
    };
    let primary = disagreement("primary", |record| record.primary);
    let quotes = disagreement("quotes_target", |record| record.quotes_target);
    let disagreements = primary.into_iter().chain(quotes).collect();

    let kinds: BTreeSet<TargetKind> = pairs.iter().map(|pair| pair.item().kind).collect();
    let mut contrasts = Vec::new();
    for kind in kinds {
        for subset in Subset::ALL {
            let chosen = |pair: &&Pair<'_>| pair.item().kind == kind && subset.holds(pair);
            let chosen: Vec<&Pair<'_>> = pairs.iter().filter(chosen).collect();
            contrasts.push(contrast(kind, subset, &chosen, rules));
        }
    }
    let without_words = pairs.iter().filter(|pair| pair.either(|record| record.lacks_words)).count();
    let seeds = pairs[0].cells(|_, _| 0.0)[0].nats.len();
    let folds = pairs.iter().flat_map(|pair| pair.folds()).collect::<BTreeSet<usize>>().len();
    Ok(Comparison { arm_a, arm_b, primary: arms.primary, rules, seeds, folds, without_words, disagreements, contrasts })
}

/// Compares two arms within each group of items of one kind and subset; items without a group are left out. Groups are
/// sorted by name. Their p-values are not corrected: groups are exploratory.
///
/// # Errors
/// As [`compare`].
pub fn by_group(
    arms: &Arms<'_>,
    rules: Rules,
    (kind, subset): (TargetKind, Subset),
    group_of: impl Fn(&ItemRecord) -> Option<String>,
) -> Result<Vec<(String, Contrast)>, NotComparable> {
    let (arm_a, arm_b) = (only_arm(arms.a)?, only_arm(arms.b)?);
    let pairs = pair(arms.a, arms.b, [&arm_a, &arm_b])?;
    let mut groups: BTreeMap<String, Vec<&Pair<'_>>> = BTreeMap::new();
    for pair in pairs.iter().filter(|pair| pair.item().kind == kind && subset.holds(pair)) {
        if let Some(group) = group_of(pair.item()) {
            groups.entry(group).or_default().push(pair);
        }
    }
    Ok(groups.into_iter().map(|(group, pairs)| (group, contrast(kind, subset, &pairs, rules))).collect())
}

/// The difference of each item of one kind and subset, the mean over trainings; ordered by item id.
///
/// # Errors
/// As [`compare`].
pub fn item_differences(
    arms: &Arms<'_>,
    (kind, subset): (TargetKind, Subset),
) -> Result<Vec<ItemDifference>, NotComparable> {
    let (arm_a, arm_b) = (only_arm(arms.a)?, only_arm(arms.b)?);
    let pairs = pair(arms.a, arms.b, [&arm_a, &arm_b])?;
    let difference = |pair: &Pair<'_>| {
        let nats: f64 = pair.a.iter().zip(&pair.b).map(|(a, b)| b.nats - a.nats).sum();
        let item = pair.item();
        ItemDifference { user: item.user.clone(), nats: nats / pair.a.len() as f64, tokens: item.tokens }
    };
    Ok(pairs.iter().filter(|pair| pair.item().kind == kind && subset.holds(pair)).map(difference).collect())
}

/// Compares the arms on the pairs of one subset, which are ordered by item id.
fn contrast(kind: TargetKind, subset: Subset, pairs: &[&Pair<'_>], rules: Rules) -> Contrast {
    let by_user = |nats: fn(&ItemRecord, &ItemRecord) -> f64| {
        sum_by_user(pairs.iter().map(|pair| (pair.item().user.as_str(), pair.cells(nats), pair.item().tokens)))
    };
    let in_a = by_user(|a, _| a.nats);
    let in_b = by_user(|_, b| b.nats);
    let differences = by_user(|a, b| b.nats - a.nats);
    let losses = || {
        let difference = Inference::new(&differences, rules.bootstrap)?;
        Some(PairedLosses {
            a: ratio(&in_a)?,
            b: ratio(&in_b)?,
            a_mean_of_user_means: mean_of_user_means(&in_a)?,
            b_mean_of_user_means: mean_of_user_means(&in_b)?,
            evidence: None,
            difference,
        })
    };
    Contrast {
        kind,
        subset,
        items: pairs.len(),
        users: differences.len(),
        tokens: differences.iter().map(|user| user.tokens).sum(),
        losses: losses(),
    }
}

/// Decides about the primary items of each kind, and corrects all p-values together but that of the primary decision.
fn decide(comparisons: &mut [Comparison]) {
    let mut primary: Vec<(Rules, &mut PairedLosses)> = Vec::new();
    let mut others: Vec<(Rules, &mut PairedLosses)> = Vec::new();
    for comparison in comparisons {
        let headline = comparison.headline().map(|headline| (headline.kind, headline.subset));
        let decided: BTreeSet<(TargetKind, Subset)> = comparison.decided().map(|one| (one.kind, one.subset)).collect();
        let (rules, is_primary) = (comparison.rules, comparison.primary);
        for contrast in &mut comparison.contrasts {
            let place = (contrast.kind, contrast.subset);
            let Some(losses) = contrast.losses.as_mut().filter(|_| decided.contains(&place)) else { continue };
            let family = if is_primary && headline == Some(place) { &mut primary } else { &mut others };
            family.push((rules, losses));
        }
    }
    let raw =
        |(rules, losses): &(Rules, &mut PairedLosses)| RawP::new(&losses.difference, rules.question, rules.margin);
    let all: Vec<f64> = others.iter().map(raw).flat_map(|p| [p.different, p.tied]).flatten().collect();
    let mut corrected = holm(&all).into_iter();
    for one in &mut primary {
        one.1.evidence = Some(Evidence::new(&one.1.difference, one.0.question, raw(one)));
    }
    for one in &mut others {
        let mut next = |p: Option<f64>| p.map(|_| corrected.next().expect("one for each"));
        let RawP { different, tied } = raw(one);
        let p = RawP { different: next(different), tied: next(tied) };
        one.1.evidence = Some(Evidence::new(&one.1.difference, one.0.question, p));
    }
}

impl Comparison {
    /// The contrast of one kind and subset; `None` if the kind does not occur.
    pub fn contrast(&self, kind: TargetKind, subset: Subset) -> Option<&Contrast> {
        let mut contrasts = self.contrasts.iter();
        contrasts.find(|contrast| (contrast.kind, contrast.subset) == (kind, subset))
    }

    /// The contrasts about which a decision is made: the primary items of each kind, or all its items if none is primary.
    pub fn decided(&self) -> impl Iterator<Item = &Contrast> {
        TargetKind::ALL.into_iter().filter_map(|kind| {
            let primary = self.contrast(kind, Subset::Primary)?;
            if primary.losses.is_some() { Some(primary) } else { self.contrast(kind, Subset::All) }
        })
    }

    /// The contrast to report first: the one that is decided about next prompts, or about the first kind if no next prompt
    /// is a target.
    pub fn headline(&self) -> Option<&Contrast> {
        self.decided().next()
    }
}

#[cfg(test)]
mod tests;
