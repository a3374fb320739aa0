//! Measures of items other than losses: means by arm, and paired differences with intervals.
//!
//! Input: ranks among distractors, label hits, and the likeness of written messages. Output: for each comparison and
//! [`Measure`], the difference of means over items, with intervals from the same bootstrap over users as for losses.
//! None of these differences is tested: a study is designed for losses, and measures show how far its result carries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

use crate::inference::{BootstrapOptions, Cell, Inference, ratio, sum_by_user};
use crate::record::ItemRecord;
use crate::written::{Likeness, Written};

/// A measure of an item, from 0 to 100; higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Whether the true message was more likely than all its distractors.
    TopOne,
    /// 100 / the rank of the true message among its distractors; the mean is the mean reciprocal rank.
    ReciprocalRank,
    /// Whether the most probable label is the true one.
    Accuracy,
    /// 100 times the cosine of the sentence vectors of the written and the true message.
    Similarity,
    /// chrF2 of the written message.
    Chrf,
    /// ROUGE-L of the written message.
    RougeL,
    /// A judge's score of the written message.
    Judged,
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TopOne => "top-1 among distractors",
            Self::ReciprocalRank => "reciprocal rank",
            Self::Accuracy => "accuracy",
            Self::Similarity => "similarity",
            Self::Chrf => "chrF",
            Self::RougeL => "ROUGE-L",
            Self::Judged => "judge",
        })
    }
}

/// One measure of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The arm.
    pub arm: String,
    /// The item.
    pub item: String,
    /// Its user.
    pub user: String,
    /// The fold that tested the item.
    pub fold: Option<usize>,
    /// The training seed of the arm.
    pub seed: Option<u64>,
    /// What kind of item it is.
    pub kind: TargetKind,
    /// What is measured.
    pub measure: Measure,
    /// The number.
    pub value: f64,
}

/// The measures of all primary items of each kind, or of all its items if none is primary. `records` are those of each
/// arm.
pub fn measured(records: &[Vec<ItemRecord>], written: &[Written]) -> Vec<Measured> {
    let records = || records.iter().flatten();
    let has_primary: BTreeSet<TargetKind> =
        records().filter(|record| record.primary).map(|record| record.kind).collect();
    let counts = |kind: TargetKind, primary: bool| primary || !has_primary.contains(&kind);
    let mut all = Vec::new();
    for record in records().filter(|record| counts(record.kind, record.primary)) {
        let ItemRecord { arm, item, user, fold, seed, kind, .. } = record;
        let place = ([arm, item, user], *fold, *seed, *kind);
        all.extend(values_of_record(record).into_iter().filter_map(|one| measured_value(place, one)));
    }
    for one in written.iter().filter(|one| counts(TargetKind::NextPrompt, one.primary)) {
        let Written { arm, item, user, fold, seed, .. } = one;
        let place = ([arm, item, user], *fold, *seed, TargetKind::NextPrompt);
        all.extend(values_of_written(one).into_iter().filter_map(|one| measured_value(place, one)));
    }
    all
}

/// Arm, item and user; fold, seed and kind.
type MeasuredPlace<'a> = ([&'a String; 3], Option<usize>, Option<u64>, TargetKind);

fn measured_value(
    ([arm, item, user], fold, seed, kind): MeasuredPlace<'_>,
    (measure, value): (Measure, Option<f64>),
) -> Option<Measured> {
    let [arm, item, user] = [arm, item, user].map(Clone::clone);
    Some(Measured { arm, item, user, fold, seed, kind, measure, value: value? })
}

fn values_of_record(record: &ItemRecord) -> [(Measure, Option<f64>); 3] {
    let hit = |is_hit: bool| if is_hit { 100.0 } else { 0.0 };
    let (rank, label) = (record.rank(), record.label.as_ref());
    [
        (Measure::TopOne, rank.map(|rank| hit(rank == 1))),
        (Measure::ReciprocalRank, rank.map(|rank| 100.0 / rank as f64)),
        (Measure::Accuracy, label.map(|label| hit(label.prediction() == label.truth))),
    ]
}

fn values_of_written(written: &Written) -> [(Measure, Option<f64>); 4] {
    let Likeness { chrf, rouge_l, similarity, judged } = written.likeness;
    [
        (Measure::Similarity, similarity),
        (Measure::Chrf, Some(chrf)),
        (Measure::RougeL, rouge_l),
        (Measure::Judged, judged),
    ]
}

/// The mean of a measure over the items of one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureMean {
    /// The arm.
    pub arm: String,
    /// What kind of items.
    pub kind: TargetKind,
    /// What is measured.
    pub measure: Measure,
    /// How many items.
    pub items: usize,
    /// The mean over items, and over training seeds.
    pub mean: f64,
}

/// The difference between two arms in one measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasureContrast {
    /// The arm that is subtracted.
    pub arm_a: String,
    /// The arm that it is subtracted from.
    pub arm_b: String,
    /// What kind of items.
    pub kind: TargetKind,
    /// What is measured.
    pub measure: Measure,
    /// How many items both arms have.
    pub items: usize,
    /// The mean of arm a.
    pub a: f64,
    /// The mean of arm b.
    pub b: f64,
    /// b − a: above zero, b is better. Its "nats" are points of the measure, its "tokens" items.
    pub difference: Inference,
}

/// The values of one item: its user, and fold, seed and value of each training.
struct Values<'a> {
    user: &'a str,
    trainings: Vec<(Option<usize>, Option<u64>, f64)>,
}

impl Values<'_> {
    fn count(&self) -> usize {
        self.trainings.len()
    }
}

type ByItem<'a> = BTreeMap<&'a str, Values<'a>>;

/// The values of one arm, kind and measure, in the order of folds and then of seeds.
fn by_item<'a>(all: &'a [Measured], arm: &str, kind: TargetKind, measure: Measure) -> ByItem<'a> {
    let mut items = ByItem::new();
    let mut chosen: Vec<&Measured> =
        all.iter().filter(|one| one.arm == arm && one.kind == kind && one.measure == measure).collect();
    chosen.sort_by_key(|one| (one.fold, one.seed));
    for one in chosen {
        let item = items.entry(&one.item).or_insert_with(|| Values { user: &one.user, trainings: Vec::new() });
        item.trainings.push((one.fold, one.seed, one.value));
    }
    items
}

/// The values of an item in two arms by fold: an untrained arm is paired with every training of the other.
fn cells(a: &Values<'_>, b: &Values<'_>, combine: fn(f64, f64) -> f64) -> Vec<Cell> {
    let is_trained = |values: &Values<'_>| values.trainings.iter().any(|(_, seed, _)| seed.is_some());
    let trained = if is_trained(a) { a } else { b };
    let mut cells: Vec<Cell> = Vec::new();
    let both = a.trainings.iter().cycle().zip(b.trainings.iter().cycle());
    for ((fold, ..), ((_, _, in_a), (_, _, in_b))) in trained.trainings.iter().zip(both) {
        let (fold, value) = (fold.unwrap_or_default(), combine(*in_a, *in_b));
        match cells.last_mut() {
            Some(cell) if cell.fold == fold => cell.nats.push(value),
            _ => cells.push(Cell { fold, nats: vec![value] }),
        }
    }
    cells
}

fn kinds_and_measures(all: &[Measured]) -> BTreeSet<(TargetKind, Measure)> {
    all.iter().map(|one| (one.kind, one.measure)).collect()
}

/// The mean of each kind, measure and arm; arms are ordered by first occurrence.
pub fn measure_means(all: &[Measured]) -> Vec<MeasureMean> {
    let mut arms: Vec<&str> = Vec::new();
    for one in all {
        if !arms.contains(&one.arm.as_str()) {
            arms.push(&one.arm);
        }
    }
    let mut means = Vec::new();
    for (kind, measure) in kinds_and_measures(all) {
        for arm in &arms {
            let items = by_item(all, arm, kind, measure);
            let values: Vec<f64> = items.values().flat_map(|item| &item.trainings).map(|(.., value)| *value).collect();
            if !values.is_empty() {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                means.push(MeasureMean { arm: (*arm).to_owned(), kind, measure, items: items.len(), mean });
            }
        }
    }
    means
}

/// Compares pairs of arms in every measure that both have, on the items that both have. An untrained arm, which has no
/// seed, is paired with every training of the other.
pub fn measure_contrasts(all: &[Measured], pairs: &[[&str; 2]], options: BootstrapOptions) -> Vec<MeasureContrast> {
    let mut contrasts = Vec::new();
    for (kind, measure) in kinds_and_measures(all) {
        for [arm_a, arm_b] in pairs {
            let [in_a, in_b] = [arm_a, arm_b].map(|arm| by_item(all, arm, kind, measure));
            // An item that was not measured in every training of an arm is left out.
            let [all_a, all_b] =
                [&in_a, &in_b].map(|items| items.values().map(Values::count).max().unwrap_or_default());
            let is_whole = |(a, b): &(&Values<'_>, &Values<'_>)| (a.count(), b.count()) == (all_a, all_b);
            let both = in_a.iter().filter_map(|(item, a)| Some((a, in_b.get(item)?)));
            let common: Vec<(&Values<'_>, &Values<'_>)> = both.filter(is_whole).collect();
            let sums = |combine: fn(f64, f64) -> f64| {
                sum_by_user(common.iter().map(|(a, b)| (a.user, cells(a, b, combine), 1)))
            };
            let Some(difference) = Inference::new(&sums(|a, b| b - a), options) else { continue };
            contrasts.push(MeasureContrast {
                arm_a: (*arm_a).to_owned(),
                arm_b: (*arm_b).to_owned(),
                kind,
                measure,
                items: common.len(),
                a: ratio(&sums(|a, _| a)).expect("there are items"),
                b: ratio(&sums(|_, b| b)).expect("there are items"),
                difference,
            });
        }
    }
    contrasts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(arm: &str, item: usize, user: usize, seed: Option<u64>, value: f64) -> Measured {
        Measured {
            arm: arm.into(),
            item: format!("item{item}"),
            user: format!("user{user}"),
            fold: None,
            seed,
            kind: TargetKind::NextPrompt,
            measure: Measure::Chrf,
            value,
        }
    }

    #[test]
    fn arms_are_compared_on_the_items_of_both_and_over_seeds() {
        let mut all = Vec::new();
        for item in 0..6 {
            for seed in 0..2 {
                all.push(one("b", item, item / 2, Some(seed), 10.0 + item as f64 + 2.0 * seed as f64));
            }
            all.push(one("a", item, item / 2, None, 10.0));
        }
        // An item that only arm a has.
        all.push(one("a", 99, 9, None, 90.0));
        let contrasts = measure_contrasts(&all, &[["a", "b"]], BootstrapOptions { draws: 1000, seed: 1 });
        let [contrast] = &contrasts[..] else { panic!("{contrasts:?}") };
        assert_eq!((contrast.items, contrast.a, contrast.b), (6, 10.0, 13.5));
        assert!((contrast.difference.ratio.value - 3.5).abs() < 1e-12);
        assert_eq!((contrast.difference.users, contrast.difference.trainings), (3, 2));
        let means = measure_means(&all);
        assert_eq!(means.iter().map(|mean| (mean.arm.as_str(), mean.items)).collect::<Vec<_>>(), [("b", 6), ("a", 7)]);
    }

    #[test]
    fn an_item_that_one_training_did_not_measure_is_left_out() {
        let mut all = Vec::new();
        for item in 0..5 {
            for (arm, more) in [("a", 0.0), ("b", 1.0)] {
                all.extend((0..3).map(|seed| one(arm, item, item, Some(seed), item as f64 + more)));
            }
        }
        // A judge gave no number for the second training of one message, and for the third of another.
        all.retain(|one| !(one.item == "item1" && one.arm == "a" && one.seed == Some(1)));
        all.retain(|one| !(one.item == "item2" && one.arm == "b" && one.seed == Some(2)));
        let contrasts = measure_contrasts(&all, &[["a", "b"]], BootstrapOptions { draws: 100, seed: 1 });
        assert_eq!((contrasts[0].items, contrasts[0].difference.ratio.value), (3, 1.0));
    }
}
