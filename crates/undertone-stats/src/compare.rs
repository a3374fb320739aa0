//! Whether one arm predicts better than another: paired, by user, on exactly the same items.
//!
//! Input: the records of pairs of arms. Output: one [`Comparison`] per pair, with both losses, their difference and its
//! [`Inference`], and a decision by a declared rule ([`Evidence`]) for every kind and [`Subset`]. The p-values of one
//! call are corrected together. Records of different targets are an error that names the difference; nothing is
//! matched, dropped or filled in.

mod pairing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

pub use self::pairing::{NotComparable, counted};
use self::pairing::{Pair, only_arm, pair};
use crate::inference::{BootstrapOptions, Evidence, Inference, SignFlip, holm, mean_of_user_means, ratio, sum_by_user};
use crate::record::ItemRecord;

/// Two arms on the same items. Every difference is b − a: below zero, `b` predicts better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The name of arm a, which is subtracted.
    pub arm_a: String,
    /// The name of arm b.
    pub arm_b: String,
    /// Whether it was declared the primary comparison, whose p-values are not corrected.
    pub primary: bool,
    /// The rules that were fixed beforehand.
    pub rules: Rules,
    /// Training seeds of each arm. With at least two, the intervals include the variance between trainings.
    pub seeds: usize,
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
    /// Primary items, without those that share a 5-gram with a thought visible to either arm.
    PrimaryWithoutQuotes,
}

impl Subset {
    /// Every subset, in the order of a report.
    pub const ALL: [Self; 3] = [Self::Primary, Self::All, Self::PrimaryWithoutQuotes];

    fn holds(self, pair: &Pair<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Primary => pair.either(|record| record.primary),
            Self::PrimaryWithoutQuotes => Self::Primary.holds(pair) && !pair.either(|record| record.quotes_target),
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

/// The losses of two arms on the same items, in nats per token; means over training seeds.
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
    /// The decision about b, with the p-value corrected over the comparisons of the same call.
    pub evidence: Evidence,
}

/// Compares pairs of arms as one family; the order of records does not matter.
///
/// The p-values of each kind and subset are corrected over all comparisons but the primary one (Holm). An item
/// counts as primary, or as quoting a thought, if either arm says so: an arm that sees no thoughts has none to
/// quote. [`Comparison::disagreements`] counts the items whose flags differ between the arms.
///
/// # Errors
///
/// The first reason why two arms cannot be compared: an invalid record, no records, not exactly two arms, different
/// training seeds, different items, or items whose conversation, user, kind, tokens, bytes, fold or true
/// label differ.
///
/// # Panics
///
/// If the rules ask for fewer than [`MIN_DRAWS`](crate::MIN_DRAWS) draws.
pub fn compare(family: &[Arms<'_>], rules: Rules) -> Result<Vec<Comparison>, NotComparable> {
    let mut comparisons = family.iter().map(|arms| compare_pair(arms, rules)).collect::<Result<Vec<_>, _>>()?;
    correct(&mut comparisons);
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
    let seeds = pairs[0].a.len();
    Ok(Comparison { arm_a, arm_b, primary: arms.primary, rules, seeds, disagreements, contrasts })
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

/// Compares the arms on the pairs of one subset, which are ordered by item id.
fn contrast(kind: TargetKind, subset: Subset, pairs: &[&Pair<'_>], rules: Rules) -> Contrast {
    let by_user = |nats: fn(&ItemRecord, &ItemRecord) -> f64| {
        let seed_nats = |pair: &Pair<'_>| pair.a.iter().zip(&pair.b).map(|(a, b)| nats(a, b)).collect();
        sum_by_user(pairs.iter().map(|pair| (pair.item().user.as_str(), seed_nats(pair), pair.item().tokens)))
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
            evidence: Evidence::new(&difference, None, rules.margin),
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

/// Corrects the p-values of each kind and subset for the number of comparisons.
fn correct(comparisons: &mut [Comparison]) {
    for kind in TargetKind::ALL {
        for subset in Subset::ALL {
            let mut family: Vec<(bool, Rules, &mut PairedLosses)> = Vec::new();
            for comparison in comparisons.iter_mut() {
                let (primary, rules) = (comparison.primary, comparison.rules);
                let here = |contrast: &&mut Contrast| (contrast.kind, contrast.subset) == (kind, subset);
                let contrast = comparison.contrasts.iter_mut().find(here);
                family.extend(contrast.and_then(|contrast| contrast.losses.as_mut()).map(|l| (primary, rules, l)));
            }
            let p = |losses: &PairedLosses| losses.difference.sign_flip.map(|SignFlip { p, .. }| p);
            let secondary: Vec<f64> =
                family.iter().filter(|(primary, ..)| !primary).filter_map(|(.., losses)| p(losses)).collect();
            let mut corrected = holm(&secondary).into_iter();
            for (primary, rules, losses) in family {
                let raw_p = p(losses);
                let p_adjusted = raw_p.map(|p| if primary { p } else { corrected.next().expect("one for each") });
                losses.evidence = Evidence::new(&losses.difference, p_adjusted, rules.margin);
            }
        }
    }
}

impl Comparison {
    /// The contrast of one kind and subset; `None` if the kind does not occur.
    pub fn contrast(&self, kind: TargetKind, subset: Subset) -> Option<&Contrast> {
        let mut contrasts = self.contrasts.iter();
        contrasts.find(|contrast| (contrast.kind, contrast.subset) == (kind, subset))
    }

    /// The contrast to report first: on the primary next prompts, or on the first kind's primary items if no next
    /// prompt is a target.
    pub fn headline(&self) -> Option<&Contrast> {
        self.contrast(TargetKind::NextPrompt, Subset::Primary).or(self.contrasts.first())
    }
}

#[cfg(test)]
mod tests;
