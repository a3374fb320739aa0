//! Tables of the metrics other than losses: ranks, accuracy, similarity, and predictions of the conversation's end.

use std::collections::BTreeSet;

use undertone_data::{END_LABELS, TargetKind};
use undertone_stats::{AttributedGroup, Interval, KindMetrics, Measure, MeasureContrast, MeasureMean};

use crate::numbers::{NOTHING, count, decimal, interval, or_nothing, points, shown_interval, signed, signed_points};
use crate::table::{Table, columns};

/// Each arm's means of every measure of one kind; `None` if nothing was measured.
pub fn means_table(means: &[MeasureMean], kind: TargetKind) -> Option<Table> {
    let kind_means: Vec<&MeasureMean> = means.iter().filter(|mean| mean.kind == kind).collect();
    let measures: BTreeSet<Measure> = kind_means.iter().map(|mean| mean.measure).collect();
    let mut arms: Vec<&str> = Vec::new();
    for mean in &kind_means {
        if !arms.contains(&mean.arm.as_str()) {
            arms.push(&mean.arm);
        }
    }
    let row = |arm: &&str| {
        let cell = |measure: &Measure| {
            let mean = kind_means.iter().find(|mean| mean.arm == *arm && mean.measure == *measure);
            or_nothing(mean.map(|mean| points(mean.mean)))
        };
        let items = kind_means.iter().filter(|mean| mean.arm == *arm).map(|mean| mean.items).max();
        let cells = [(*arm).to_owned(), count(items.unwrap_or_default())];
        cells.into_iter().chain(measures.iter().map(cell)).collect()
    };
    let names: Vec<String> = measures.iter().map(ToString::to_string).collect();
    let numbers: Vec<&str> = ["items"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut notes = Vec::new();
    if measures.contains(&Measure::TopOne) {
        notes.push(
            "Distractors are messages from other users that are about as long as the true one; candidates are ranked by nats per token, lowest first."
                .to_owned(),
        );
    }
    if let Some(written) = kind_means.iter().filter(|mean| mean.measure == Measure::Chrf).map(|mean| mean.items).max() {
        notes.push(format!(
            "Similarity of each arm's message to the true one, over {} messages: 100 × the cosine of \
             sentence vectors if there is an encoder, chrF2 (sacreBLEU) and ROUGE-L F1 (rouge-score).",
            count(written)
        ));
        let most = |measure| kind_means.iter().filter(|mean| mean.measure == measure).map(|mean| mean.items).max();
        let counted = most(Measure::RougeL).unwrap_or_default();
        if counted < written {
            notes.push(format!(
                "ROUGE-L leaves out {} of these messages: it counts only words of ASCII letters and digits, and the true message has none.",
                count(written - counted)
            ));
        }
    }
    (!arms.is_empty()).then(|| Table {
        title: format!("{kind}: other metrics, from 0 to 100; higher is better"),
        header: columns(&["arm"], &numbers),
        rows: arms.iter().map(row).collect(),
        notes,
    })
}

/// The differences between arms in every measure of one kind; `None` if nothing was measured.
pub fn contrasts_table(contrasts: &[MeasureContrast], kind: TargetKind) -> Option<Table> {
    let row = |contrast: &MeasureContrast| {
        let difference = &contrast.difference;
        let interval = |Interval { low, high }: Interval| format!("{} to {}", signed_points(low), signed_points(high));
        vec![
            format!("{} − {}", contrast.arm_b, contrast.arm_a),
            contrast.measure.to_string(),
            count(contrast.items),
            count(difference.users),
            points(contrast.a),
            points(contrast.b),
            signed_points(difference.ratio.value),
            or_nothing(shown_interval(difference).map(interval)),
        ]
    };
    let rows: Vec<Vec<String>> = contrasts.iter().filter(|contrast| contrast.kind == kind).map(row).collect();
    (!rows.is_empty()).then(|| Table {
        title: format!("{kind}: differences in other metrics; above zero, b is better"),
        header: columns(&["b − a", "measure"], &["items", "users", "a", "b", "difference", "95 % interval"]),
        rows,
        notes: vec![
            "Differences of means over items. Intervals: Student's t over other users and other trainings; over other users alone if each \
             arm was trained once. These differences are exploratory: they are neither tested nor corrected."
                .to_owned(),
        ],
    })
}

/// Which thoughts helped, by property; `None` if none was left out.
pub fn attribution_table(groups: &[AttributedGroup]) -> Option<Table> {
    let row = |group: &AttributedGroup| {
        vec![
            group.dimension.to_owned(),
            group.group.clone(),
            count(group.pairs),
            count(group.users),
            signed(group.nats_saved),
            or_nothing(group.interval.map(interval)),
        ]
    };
    (!groups.is_empty()).then(|| Table {
        title: "What one thought does: nats that a target costs more without it; above zero, the thought helps".to_owned(),
        header: columns(&["by", "thoughts"], &["pairs", "users", "nats saved", "95 % interval"]),
        rows: groups.iter().map(row).collect(),
        notes: vec![
            "One thought at a time is left out, and every target after it is scored again. The effects of thoughts that say the same do not add \
             up. Intervals are over other users, with this trained model. None of these means is tested."
                .to_owned(),
        ],
    })
}

/// How well each arm predicts that the user stops; `None` if no conversation's end is a target.
pub fn ends_table(metrics: &[KindMetrics]) -> Option<Table> {
    let ends = END_LABELS.iter().position(|label| label.key == "ends").expect("a label of its own");
    let row = |metrics: &KindMetrics| {
        let labels = metrics.labels.as_ref().filter(|_| metrics.kind == TargetKind::ConversationEnd)?;
        let class = labels.classes.iter().find(|class| class.class == ends);
        let share =
            |all: usize, hits: usize| if all == 0 { NOTHING.to_owned() } else { decimal(hits as f64 / all as f64) };
        let (truths, predictions, hits) =
            class.map_or((0, 0, 0), |class| (class.truths, class.predictions, class.hits));
        Some(vec![
            metrics.arm.clone(),
            count(labels.items),
            count(truths),
            count(predictions),
            share(predictions, hits),
            share(truths, hits),
            or_nothing(class.map(|class| decimal(class.f1))),
            or_nothing(labels.auroc.map(decimal)),
        ])
    };
    let rows: Vec<Vec<String>> = metrics.iter().filter_map(row).collect();
    (!rows.is_empty()).then(|| Table {
        title: "Predicting the end of the conversation".to_owned(),
        header: columns(&["arm"], &["replies", "ends", "predicted", "precision", "recall", "F1", "AUROC"]),
        rows,
        notes: vec!["Predicted after each reply, before the model sees any reaction to it.".to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use undertone_stats::{BootstrapOptions, Measured, measure_contrasts, measure_means};

    use super::*;

    #[test]
    fn each_arm_has_a_row_and_each_measure_a_column() {
        let one = |arm: &str, item: usize, measure, value| Measured {
            arm: arm.into(),
            item: item.to_string(),
            user: format!("user{item}"),
            fold: None,
            seed: None,
            kind: TargetKind::NextPrompt,
            measure,
            value,
        };
        let mut all = Vec::new();
        for item in 0..4 {
            all.push(one("none", item, Measure::Chrf, 10.0));
            all.push(one("past", item, Measure::Chrf, 12.0 + item as f64));
            all.push(one("past", item, Measure::TopOne, 25.0 * item as f64));
        }
        let means = means_table(&measure_means(&all), TargetKind::NextPrompt).unwrap();
        assert_eq!(means.rows, [vec!["past", "4", "37.5", "13.5"], vec!["none", "4", "–", "10.0"]]);
        let contrasts = measure_contrasts(&all, &[["none", "past"]], BootstrapOptions { draws: 1000, seed: 0 });
        let table = contrasts_table(&contrasts, TargetKind::NextPrompt).unwrap();
        assert_eq!(table.rows[0][..7], ["past − none", "chrF", "4", "4", "10.0", "13.5", "+3.5"]);
        assert_eq!(means_table(&[], TargetKind::NextPrompt), None);
    }
}
