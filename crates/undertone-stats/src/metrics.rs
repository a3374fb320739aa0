//! How well one arm predicts one kind of target: losses in three units, and accuracy for labels.
//!
//! Input: item records. Output: one [`KindMetrics`] for each arm and kind. Kinds are never pooled: the losses
//! of a label of three tokens and a message of fifty are not comparable. Nothing here says which of two arms is
//! better; that takes pairs of the same items, see `compare.rs`. An arm with several trainings has the means over them:
//! losses over all trainings of each item, and label metrics over trainings, each with its number of items as weight.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};
use undertone_data::TargetKind;

use crate::inference::{Cell, mean_of_user_means, sum_by_user};
use crate::record::{ItemRecord, LabelOutcome, RecordFault, check_records};

/// One arm's numbers for one kind of target. Lower losses are better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindMetrics {
    /// The arm.
    pub arm: String,
    /// The kind of target.
    pub kind: TargetKind,
    /// How many targets there are.
    pub items: usize,
    /// How many users they are from.
    pub users: usize,
    /// How many of the targets belong to the primary comparison.
    pub primary_items: usize,
    /// How many of the targets have at least one thought that the arm can see.
    pub items_with_visible_thoughts: usize,
    /// The supervised tokens of all targets.
    pub tokens: usize,
    /// The UTF-8 bytes of all targets' content.
    pub bytes: usize,
    /// Σ nats / Σ tokens. The logarithm of perplexity.
    pub nats_per_token: f64,
    /// Σ nats / (ln 2 · Σ bytes): comparable between tokenizers, which nats per token is not. The end token, whose nats
    /// are in the sum, counts as one byte. `None` if no target has content.
    pub bits_per_byte: Option<f64>,
    /// Σ nats / items: the loss of a whole message, long or short.
    pub nats_per_message: f64,
    /// The mean over users of each user's Σ nats / Σ tokens, so that each user has the same weight.
    pub mean_of_user_means: f64,
    /// For label kinds, how well labels are classified.
    pub labels: Option<LabelMetrics>,
}

/// How one kind of label is classified; means over trainings. The prediction is the most probable candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelMetrics {
    /// How many classifications there are: one per target and training.
    pub items: usize,
    /// The share of predictions that are right.
    pub accuracy: f64,
    /// The accuracy of always predicting the most frequent true label: the baseline.
    pub majority_share: f64,
    /// The unweighted mean of the F1 of the [`LabelMetrics::classes`].
    pub macro_f1: f64,
    /// The unweighted mean over classes of the one-vs-rest area under the ROC curve: the probability that a target of
    /// the class gets a higher probability of that class than another target does. Only classes that are true of some
    /// targets and not of all count; `None` if there are none.
    pub auroc: Option<f64>,
    /// Expected calibration error (Guo et al. 2017): |mean probability of the prediction − accuracy| in each of ten
    /// bins of equal width, averaged with the bins' numbers of targets as weights.
    pub calibration_error: f64,
    /// The classes that enter macro-F1: those that occur among the true or the predicted labels, in
    /// the order of the labels, counted over all trainings. Within one training, this is `sklearn.metrics.f1_score(..., average="macro")` with
    /// `labels=None`. A label that occurs in neither is left out, not counted as 0 or 1.
    pub classes: Vec<ClassMetrics>,
}

/// One class of a label kind, against all others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The index of the label.
    pub class: usize,
    /// How many targets have it as their true label.
    pub truths: usize,
    /// How many targets have it as their predicted label.
    pub predictions: usize,
    /// How many of these predictions are right.
    pub hits: usize,
    /// 2 · hits / (truths + predictions): the harmonic mean of precision and recall.
    pub f1: f64,
}

/// Computes the metrics of each arm and kind: sorted by kind, and within a kind by the arms' first
/// occurrence.
///
/// # Errors
///
/// The first invalid record; see [`check_records`].
pub fn metrics(records: &[ItemRecord]) -> Result<Vec<KindMetrics>, RecordFault> {
    check_records(records)?;
    let mut arms: Vec<&str> = Vec::new();
    let mut kinds: Vec<TargetKind> = Vec::new();
    for record in records {
        if !arms.contains(&record.arm.as_str()) {
            arms.push(&record.arm);
        }
        if !kinds.contains(&record.kind) {
            kinds.push(record.kind);
        }
    }
    kinds.sort_unstable();
    let mut all = Vec::new();
    for kind in kinds {
        for arm in &arms {
            let chosen = |record: &&ItemRecord| record.arm == *arm && record.kind == kind;
            let mut chosen: Vec<&ItemRecord> = records.iter().filter(chosen).collect();
            // Sums of floating-point numbers depend on their order, so it is fixed: by item id and training.
            chosen.sort_unstable_by(|x, y| (&x.item, x.fold, x.seed).cmp(&(&y.item, y.fold, y.seed)));
            all.extend(of_one_kind(arm, kind, &chosen));
        }
    }
    Ok(all)
}

/// The metrics of checked records of one arm and kind; `None` if there are none.
fn of_one_kind(arm: &str, kind: TargetKind, records: &[&ItemRecord]) -> Option<KindMetrics> {
    // Records are sorted by item, and each training has every item of its fold once.
    let items: Vec<&[&ItemRecord]> = records.chunk_by(|one, other| one.item == other.item).collect();
    let mean =
        |trainings: &[&ItemRecord]| trainings.iter().map(|record| record.nats).sum::<f64>() / trainings.len() as f64;
    let cell = |trainings: &[&ItemRecord]| vec![Cell { fold: 0, nats: vec![mean(trainings)] }];
    let sums = sum_by_user(items.iter().map(|one| (one[0].user.as_str(), cell(one), one[0].tokens)));
    let mean_of_user_means = mean_of_user_means(&sums)?;
    let nats = items.iter().map(|trainings| mean(trainings)).sum::<f64>();
    let tokens: usize = items.iter().map(|one| one[0].tokens).sum();
    let bytes: usize = items.iter().map(|one| one[0].bytes).sum();
    let count = |flag: fn(&ItemRecord) -> bool| items.iter().filter(|one| flag(one[0])).count();
    Some(KindMetrics {
        arm: arm.to_owned(),
        kind,
        items: items.len(),
        users: sums.len(),
        primary_items: count(|record| record.primary),
        items_with_visible_thoughts: count(|record| record.visible_thoughts > 0),
        tokens,
        bytes,
        nats_per_token: nats / tokens as f64,
        bits_per_byte: (bytes > 0).then(|| nats / (LN_2 * (bytes + items.len()) as f64)),
        nats_per_message: nats / items.len() as f64,
        mean_of_user_means,
        labels: label_metrics(records),
    })
}

/// The means of the label metrics of each training; `None` without label outcomes.
fn label_metrics(records: &[&ItemRecord]) -> Option<LabelMetrics> {
    let mut trainings: BTreeMap<(Option<usize>, Option<u64>), Vec<&LabelOutcome>> = BTreeMap::new();
    for record in records {
        if let Some(outcome) = &record.label {
            // An untrained model is one model in all folds.
            let fold = record.fold.filter(|_| record.seed.is_some());
            trainings.entry((fold, record.seed)).or_default().push(outcome);
        }
    }
    let all: Vec<LabelMetrics> = trainings.values().filter_map(|outcomes| of_one_training(outcomes)).collect();
    let pooled = of_one_training(&trainings.values().flatten().copied().collect::<Vec<_>>())?;
    let mean = |number: fn(&LabelMetrics) -> Option<f64>| {
        let known = all.iter().filter_map(|one| Some((number(one)?, one.items as f64)));
        let (sum, items) = known.fold((0.0, 0.0), |(sum, all), (value, items)| (sum + value * items, all + items));
        (items > 0.0).then(|| sum / items)
    };
    Some(LabelMetrics {
        items: pooled.items,
        accuracy: mean(|one| Some(one.accuracy))?,
        majority_share: pooled.majority_share,
        macro_f1: mean(|one| Some(one.macro_f1))?,
        auroc: mean(|one| one.auroc),
        calibration_error: mean(|one| Some(one.calibration_error))?,
        classes: pooled.classes,
    })
}

/// The metrics of the label outcomes of one training; `None` without outcomes.
fn of_one_training(outcomes: &[&LabelOutcome]) -> Option<LabelMetrics> {
    let items = outcomes.len();
    let count = outcomes.first()?.probabilities.len();
    let mut classes: Vec<ClassMetrics> =
        (0..count).map(|class| ClassMetrics { class, truths: 0, predictions: 0, hits: 0, f1: 0.0 }).collect();
    for outcome in outcomes {
        let prediction = outcome.prediction();
        classes[outcome.truth].truths += 1;
        classes[prediction].predictions += 1;
        classes[prediction].hits += usize::from(prediction == outcome.truth);
    }
    classes.retain(|class| class.truths + class.predictions > 0);
    for class in &mut classes {
        class.f1 = 2.0 * class.hits as f64 / (class.truths + class.predictions) as f64;
    }
    let most_frequent = classes.iter().map(|class| class.truths).max()?;
    let hits: usize = classes.iter().map(|class| class.hits).sum();
    let f1: f64 = classes.iter().map(|class| class.f1).sum();
    Some(LabelMetrics {
        items,
        accuracy: hits as f64 / items as f64,
        majority_share: most_frequent as f64 / items as f64,
        macro_f1: f1 / classes.len() as f64,
        auroc: auroc(outcomes),
        calibration_error: calibration_error(outcomes),
        classes,
    })
}

/// The unweighted mean over classes of the one-vs-rest area under the ROC curve.
fn auroc(outcomes: &[&LabelOutcome]) -> Option<f64> {
    let areas: Vec<f64> =
        (0..outcomes[0].probabilities.len()).filter_map(|class| area_under_curve(outcomes, class)).collect();
    (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64)
}

/// The area under the ROC curve from ranks; ties share their mean rank (Hanley and McNeil 1982).
fn area_under_curve(outcomes: &[&LabelOutcome], class: usize) -> Option<f64> {
    let mut scored: Vec<(f64, bool)> =
        outcomes.iter().map(|outcome| (outcome.probabilities[class], outcome.truth == class)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let truths = scored.iter().filter(|(_, is_true)| *is_true).count();
    let others = scored.len() - truths;
    if truths == 0 || others == 0 {
        return None;
    }
    let (mut below, mut ranks) = (0, 0.0);
    for equal in scored.chunk_by(|a, b| a.0 == b.0) {
        let middle = below as f64 + (equal.len() + 1) as f64 / 2.0;
        ranks += middle * equal.iter().filter(|(_, is_true)| *is_true).count() as f64;
        below += equal.len();
    }
    let (truths, others) = (truths as f64, others as f64);
    Some((ranks - truths * (truths + 1.0) / 2.0) / (truths * others))
}

/// The number of bins of the prediction's probability.
const CALIBRATION_BINS: usize = 10;

fn calibration_error(outcomes: &[&LabelOutcome]) -> f64 {
    let mut bins = [(0.0, 0.0); CALIBRATION_BINS];
    for outcome in outcomes {
        let prediction = outcome.prediction();
        let confidence = outcome.probabilities[prediction];
        let bin = &mut bins[((confidence * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1)];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(prediction == outcome.truth));
    }
    bins.iter().map(|(confidence, hits): &(f64, f64)| (confidence - hits).abs()).sum::<f64>() / outcomes.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordProblem, example};

    fn record(arm: &str, kind: TargetKind, item: &str, user: &str, nats: f64) -> ItemRecord {
        ItemRecord { kind, arm: arm.into(), nats, primary: false, visible_thoughts: 0, ..example(item, user) }
    }

    /// Records whose classifier gives probability 1 to `predicted`.
    fn labels(classes: usize, truth_and_predicted: &[(usize, usize)]) -> Vec<ItemRecord> {
        let one = |(index, &(truth, predicted)): (usize, &(usize, usize))| {
            let mut probabilities = vec![0.0; classes];
            probabilities[predicted] = 1.0;
            let kind = TargetKind::ReasonLabel;
            ItemRecord {
                label: Some(LabelOutcome { truth, probabilities }),
                ..record("past", kind, &format!("item{index}"), "user1", 1.0)
            }
        };
        truth_and_predicted.iter().enumerate().map(one).collect()
    }

    #[test]
    fn losses_are_ratios_of_sums() {
        // User 1: 6 nats in 10 + 30 tokens; user 2: 10 nats in 20 tokens.
        let prompt = |item, user, nats, tokens, bytes| ItemRecord {
            tokens,
            bytes,
            primary: true,
            visible_thoughts: 1,
            ..record("past", TargetKind::NextPrompt, item, user, nats)
        };
        let records = [
            prompt("a", "user1", 2.0, 10, 30),
            prompt("b", "user1", 4.0, 30, 70),
            prompt("c", "user2", 10.0, 20, 100),
            record("past", TargetKind::Reaction, "d", "user2", 1000.0),
        ];
        let all = metrics(&records).unwrap();
        let prompts = &all[0];
        assert_eq!((all.len(), prompts.items, prompts.users, prompts.tokens), (2, 3, 2, 60));
        assert_eq!((prompts.primary_items, prompts.items_with_visible_thoughts), (3, 3));
        assert_eq!(prompts.nats_per_token, 16.0 / 60.0);
        // 200 bytes and three end tokens.
        assert_eq!(prompts.bits_per_byte, Some(16.0 / (LN_2 * 203.0)));
        assert_eq!(prompts.nats_per_message, 16.0 / 3.0);
        assert_eq!(prompts.mean_of_user_means, (0.15 + 0.5) / 2.0);
        assert_eq!(prompts.labels, None);
        assert_eq!(all[1].nats_per_token, 100.0);
    }

    #[test]
    fn kinds_and_arms_stay_apart_and_in_order() {
        use TargetKind::{NextPrompt, Reason};
        let records = [
            record("none", Reason, "b", "user1", 1.0),
            record("past", NextPrompt, "a", "user1", 2.0),
            record("none", NextPrompt, "a", "user1", 3.0),
            record("base", Reason, "b", "user1", 4.0),
        ];
        let all = metrics(&records).unwrap();
        let shown: Vec<_> = all.iter().map(|m| (m.kind, m.arm.as_str())).collect();
        assert_eq!(shown, [(NextPrompt, "none"), (NextPrompt, "past"), (Reason, "none"), (Reason, "base")]);
        let mut turned = records;
        turned.swap(1, 2);
        assert_eq!(metrics(&turned).unwrap(), all);
        assert_eq!(metrics(&[]).unwrap(), []);
    }

    #[test]
    fn content_without_bytes_has_no_bits_per_byte() {
        let mut empty = record("past", TargetKind::NextPrompt, "a", "user1", 1.0);
        empty.bytes = 0;
        assert_eq!(metrics(&[empty]).unwrap()[0].bits_per_byte, None);
    }

    #[test]
    fn a_loss_that_is_no_number_is_refused() {
        let bad = record("past", TargetKind::NextPrompt, "a", "user1", f64::INFINITY);
        let fault = metrics(&[bad]).unwrap_err();
        assert_eq!(fault.problem, RecordProblem::Nats(f64::INFINITY));
    }

    #[test]
    fn macro_f1_is_that_of_scikit_learn() {
        // The example in the documentation of `sklearn.metrics.f1_score`: macro 0.2666…
        let records = labels(3, &[(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1)]);
        let found = metrics(&records).unwrap()[0].labels.clone().unwrap();
        assert!((found.macro_f1 - 0.8 / 3.0).abs() < 1e-15);
        assert_eq!(found.accuracy, 2.0 / 6.0);
        assert_eq!(found.majority_share, 2.0 / 6.0);
    }

    #[test]
    fn macro_f1_takes_the_classes_that_occur_anywhere() {
        // Of 7 labels, 0 and 1 are true, 4 is only predicted (F1 0), the other four do not occur.
        let records = labels(7, &[(0, 0), (0, 0), (0, 4), (1, 1)]);
        let found = metrics(&records).unwrap()[0].labels.clone().unwrap();
        let classes: Vec<_> = found.classes.iter().map(|c| (c.class, c.f1)).collect();
        assert_eq!(classes, [(0, 0.8), (1, 1.0), (4, 0.0)]);
        assert!((found.macro_f1 - 0.6).abs() < 1e-15);
        assert_eq!((found.accuracy, found.majority_share), (0.75, 0.75));
    }

    #[test]
    fn auroc_is_that_of_scikit_learn_and_calibration_that_of_its_definition() {
        let outcome = |truth, probabilities: [f64; 3]| LabelOutcome { truth, probabilities: probabilities.to_vec() };
        let outcomes = [
            outcome(0, [0.7, 0.2, 0.1]),
            outcome(1, [0.4, 0.35, 0.25]),
            outcome(2, [0.1, 0.3, 0.6]),
            outcome(0, [0.4, 0.5, 0.1]),
            outcome(1, [0.2, 0.6, 0.2]),
        ];
        let found = of_one_training(&outcomes.iter().collect::<Vec<_>>()).unwrap();
        // sklearn 1.9.1: roc_auc_score(truths, probabilities, multi_class="ovr"): the mean of classes 0 (0.9167),
        // 1 (0.8333) and 2 (1.0).
        assert!((found.auroc.unwrap() - 0.916_666_666_7).abs() < 1e-9, "{found:?}");
        // Bins: 0.4 wrong; 0.5 wrong; 0.6 twice, both right; 0.7 right.
        assert!((found.calibration_error - (0.4 + 0.5 + 0.8 + 0.3) / 5.0).abs() < 1e-12, "{found:?}");
        let alone = of_one_training(&[&outcomes[0]]).unwrap();
        assert_eq!(alone.auroc, None);
    }

    #[test]
    fn two_perfect_trainings_are_perfect_together() {
        // Both rank every target of label 0 above every other, the second with lower probabilities for it.
        let outcome = |seed, item, truth, own: f64| ItemRecord {
            label: Some(LabelOutcome { truth, probabilities: vec![own, 1.0 - own] }),
            seed: Some(seed),
            ..record("past", TargetKind::ReactionLabel, item, "user1", 1.0)
        };
        let records =
            [outcome(0, "a", 0, 0.9), outcome(0, "b", 1, 0.6), outcome(1, "a", 0, 0.4), outcome(1, "b", 1, 0.1)];
        let found = metrics(&records).unwrap()[0].labels.clone().unwrap();
        assert_eq!((found.auroc, found.items, found.accuracy), (Some(1.0), 4, 0.5));
        assert_eq!(found.majority_share, 0.5);
    }

    #[test]
    fn losses_are_means_over_trainings_whatever_their_order() {
        let trained = |fold, seed, nats| ItemRecord {
            fold: Some(fold),
            seed: Some(seed),
            ..record("past", TargetKind::NextPrompt, "a", "user1", nats)
        };
        let mut records = vec![trained(0, 0, 1.0), trained(0, 1, 0.1), trained(3, 0, 0.7), trained(3, 1, 0.2)];
        let expected = metrics(&records).unwrap();
        assert_eq!((expected[0].items, expected[0].nats_per_message), (1, 0.5));
        records.reverse();
        assert_eq!(metrics(&records).unwrap(), expected);
    }
}
