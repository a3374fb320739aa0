//! The tables of a study: metrics and comparisons as text for people.
//!
//! Cells hold rounded numbers; `results.json` has the exact ones.

use undertone_data::TargetKind;
use undertone_stats::{
    BootstrapOptions, Comparison, Contrast, ENOUGH_USERS, Estimate, Inference, Interval, Intervals, KindMetrics,
    PairedLosses, Subset,
};

use crate::numbers::{count, decimal, interval, or_nothing, p_value, signed};
use crate::table::{Table, columns};
use crate::words::{disagreements_in_words, seeds_note};

/// Marks a number of users that is too small.
const FEW: char = '†';
/// Marks the primary comparison.
const PRIMARY: char = '★';

/// The losses of each arm, kind by kind. Lower is better.
pub fn metrics_table(metrics: &[KindMetrics]) -> Table {
    let row = |m: &KindMetrics| {
        vec![
            m.kind.to_string(),
            m.arm.clone(),
            count(m.items),
            count(m.users),
            count(m.tokens),
            decimal(m.nats_per_token),
            or_nothing(m.bits_per_byte.map(decimal)),
            decimal(m.nats_per_message),
            decimal(m.mean_of_user_means),
        ]
    };
    Table {
        title: "Loss by arm; lower is better".to_owned(),
        header: columns(
            &["kind", "arm"],
            &["items", "users", "tokens", "nats/token", "bits/byte", "nats/message", "mean of user means"],
        ),
        rows: metrics.iter().map(row).collect(),
        notes: vec![
            "The mean of user means is in nats per token. Each kind of target is counted apart. `base-X` is the \
             untrained model under the view of arm X; `unigram` knows only how frequent each token is in the targets of the \
             training users. To tell whether two arms differ, see the paired comparisons."
                .to_owned(),
        ],
    }
}

/// How well each arm classifies labels; `None` if no candidates were scored.
pub fn labels_table(metrics: &[KindMetrics]) -> Option<Table> {
    let row = |m: &KindMetrics| {
        let labels = m.labels.as_ref()?;
        Some(vec![
            m.kind.to_string(),
            m.arm.clone(),
            count(labels.items),
            decimal(labels.accuracy),
            decimal(labels.majority_share),
            decimal(labels.macro_f1),
            or_nothing(labels.auroc.map(decimal)),
            decimal(labels.calibration_error),
            count(labels.classes.len()),
        ])
    };
    let rows: Vec<Vec<String>> = metrics.iter().filter_map(row).collect();
    (!rows.is_empty()).then(|| Table {
        title: "Labels by arm; higher is better, except for the calibration error".to_owned(),
        header: columns(
            &["kind", "arm"],
            &["items", "accuracy", "majority accuracy", "macro-F1", "AUROC", "calibration error", "classes"],
        ),
        rows,
        notes: vec![
            "Majority accuracy is that of always predicting the most frequent label. Macro-F1 is the mean \
             over the classes that occur among the true or the predicted labels. AUROC is the one-vs-rest mean over \
             classes; the calibration error is the expected one over ten bins."
                .to_owned(),
        ],
    })
}

/// One comparison: a row for each kind and subset that has items, with every interval; the verdict is the first note.
pub fn comparison_table(comparison: &Comparison, verdict: &str) -> Table {
    let Comparison { arm_a, arm_b, .. } = comparison;
    let mut table = by_subset(comparison, |contrast, losses| {
        let Inference { ratio, mean_of_user_means, .. } = &losses.difference;
        let interval_of = |estimate: &Estimate, which: fn(Intervals) -> Interval| {
            or_nothing(estimate.intervals.map(which).map(interval))
        };
        vec![
            count(contrast.items),
            users(contrast.users, losses),
            count(contrast.tokens),
            decimal(losses.a),
            decimal(losses.b),
            signed(ratio.value),
            interval_of(ratio, |intervals| intervals.bca),
            interval_of(ratio, |intervals| intervals.percentile),
            interval_of(ratio, |intervals| intervals.student_t),
            signed(mean_of_user_means.value),
            interval_of(mean_of_user_means, |intervals| intervals.bca),
        ]
    });
    table.title = format!("`{arm_b}` − `{arm_a}`, nats per token; below zero, `{arm_b}` is better");
    let numbers = ["items", "users", "tokens", arm_a, arm_b, "difference", "BCa", "percentile", "Student's t"];
    table.header = columns(&["kind", "subset"], &[&numbers[..], &["mean of user means", "BCa"]].concat());
    table.notes.insert(0, verdict.to_owned());
    let empty: Vec<String> = comparison
        .contrasts
        .iter()
        .filter(|contrast| contrast.losses.is_none())
        .map(|contrast| format!("{} ({})", contrast.kind, contrast.subset))
        .collect();
    if !empty.is_empty() {
        table.notes.push(format!("No items, so nothing is compared: {}.", empty.join(", ")));
    }
    table.notes.extend(common_notes(&[comparison], &table.rows));
    table
}

/// The evidence behind one comparison's decisions: tests, effect sizes, and what a study of this size can detect.
pub fn evidence_table(comparison: &Comparison) -> Table {
    let Comparison { arm_a, arm_b, rules, primary, .. } = comparison;
    let mut table = by_subset(comparison, |_, losses| {
        let PairedLosses { difference, evidence, .. } = losses;
        let error = difference.standard_error;
        vec![
            or_nothing(difference.sign_flip.map(|test| p_value(test.p))),
            or_nothing(evidence.p_adjusted.map(p_value)),
            or_nothing(evidence.p_tied.map(p_value)),
            evidence.decision.to_string(),
            or_nothing(error.map(|error| decimal(error.total))),
            or_nothing(error.and_then(|error| error.of_seeds).map(decimal)),
            or_nothing(difference.effect_size().map(signed)),
            or_nothing(error.map(|error| decimal(error.minimum_detectable()))),
            or_nothing(difference.users_needed().map(count)),
        ]
    });
    table.title = format!("Tests and effect sizes of `{arm_b}` − `{arm_a}`");
    let tests = ["p", "p adjusted", "p of equivalence", "result"];
    let sizes = ["standard error", "standard error of seeds", "effect size", "minimum detectable", "users needed"];
    table.header = columns(&["kind", "subset"], &[&tests[..], &sizes].concat());
    let corrected = match primary {
        true => "This comparison was declared primary, so its p is not adjusted.",
        false => {
            "p adjusted is Holm's, over the other comparisons of the same kind and subset, without the primary one; comparisons with the untrained model are corrected among themselves."
        }
    };
    let margin = match rules.margin {
        Some(margin) => {
            format!(
                "The p of equivalence is from two one-sided tests against the declared margin of {margin} nats per token."
            )
        }
        None => "No margin was declared, so no comparison can be tied.".to_owned(),
    };
    table.notes = vec![
        format!("p is from a two-sided sign-flip test over users. {corrected} {margin}"),
        "The subset `primary, no quotes` leaves out primary items that share five consecutive words with a thought that either arm sees. Standard errors are of the difference; with several seeds they include the variance between trainings. The \
         effect size is the difference divided by the standard deviation between users. Minimum detectable is the smallest \
         true difference that a study of this size finds with a power of 80 %; users needed is how many users make the \
         observed difference detectable."
            .to_owned(),
    ];
    table
}

/// A table with a row for each kind and subset of a comparison that has items. The caller sets its title, header and
/// notes.
fn by_subset(comparison: &Comparison, cells: impl Fn(&Contrast, &PairedLosses) -> Vec<String>) -> Table {
    let row = |contrast: &Contrast| {
        let names = [contrast.kind.to_string(), contrast.subset.to_string()];
        let cells = cells(contrast, contrast.losses.as_ref()?);
        Some(names.into_iter().chain(cells).collect())
    };
    let rows = comparison.contrasts.iter().filter_map(row).collect();
    Table { title: String::new(), header: Vec::new(), rows, notes: Vec::new() }
}

/// Several comparisons on one kind and subset: a row for each that has items.
pub fn summary_table(comparisons: &[Comparison], kind: TargetKind, subset: Subset) -> Table {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for comparison in comparisons {
        let name = format!("{} − {}", comparison.arm_b, comparison.arm_a);
        let contrast = comparison.contrast(kind, subset);
        match contrast.and_then(summary_cells) {
            Some(cells) => {
                let name = if comparison.primary { format!("{name} {PRIMARY}") } else { name };
                rows.push([vec![name], cells].concat());
            }
            None => notes.push(format!("{name}: no items of {kind} ({subset}).")),
        }
    }
    if rows.iter().any(|row: &Vec<String>| row[0].ends_with(PRIMARY)) {
        notes.push(format!("{PRIMARY} Primary comparison: its p-value is not corrected. The other p-values of this table are corrected together (Holm)."));
    }
    let all: Vec<&Comparison> = comparisons.iter().collect();
    notes.extend(common_notes(&all, &rows));
    let numbers = ["items", "users", "tokens", "a", "b", "difference", "95 % interval", "p", "b is"];
    let title = format!("{kind} ({subset}), nats per token; below zero, b is better");
    Table { title, header: columns(&["b − a"], &numbers), rows, notes }
}

/// The cells of a contrast in a summary; `None` if it has no items.
fn summary_cells(contrast: &Contrast) -> Option<Vec<String>> {
    let losses = contrast.losses.as_ref()?;
    let PairedLosses { a, b, difference, evidence, .. } = losses;
    let shown = match difference.ratio.intervals {
        Some(Intervals { bca, student_t, .. }) if difference.too_few_users => {
            format!("{} (t: {})", interval(bca), interval(student_t))
        }
        intervals => or_nothing(intervals.map(|intervals| interval(intervals.bca))),
    };
    Some(vec![
        count(contrast.items),
        users(contrast.users, losses),
        count(contrast.tokens),
        decimal(*a),
        decimal(*b),
        signed(difference.ratio.value),
        shown,
        or_nothing(evidence.p_adjusted.map(p_value)),
        evidence.decision.to_string(),
    ])
}

/// How many users there are, marked if they are too few.
fn users(users: usize, losses: &PairedLosses) -> String {
    let mut shown = count(users);
    shown.extend(losses.difference.too_few_users.then_some(FEW));
    shown
}

/// The notes that every table of these comparisons needs; `rows` are the table's cells.
fn common_notes(comparisons: &[&Comparison], rows: &[Vec<String>]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    if rows.iter().flatten().any(|cell| cell.ends_with(FEW)) {
        notes.push(format!(
            "{FEW} Too few users: with fewer than {ENOUGH_USERS}, only Student's t interval keeps its coverage."
        ));
    }
    let mut add = |note: String| {
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    for comparison in comparisons {
        disagreements_in_words(comparison).for_each(&mut add);
        let BootstrapOptions { draws, seed } = comparison.rules.bootstrap;
        let draws = count(draws);
        add(format!("Intervals: BCa bootstrap over users, {draws} resamples, seed {seed}; `t`: Student's t."));
        add(seeds_note(comparison));
    }
    notes
}

#[cfg(test)]
mod tests {
    use undertone_stats::{Arms, ItemRecord, LabelOutcome, Rules, compare, metrics};

    use super::*;
    use crate::example::example;

    fn record(arm: &str, item: usize, nats: f64) -> ItemRecord {
        ItemRecord {
            arm: arm.into(),
            nats,
            tokens: 1000,
            bytes: 4000,
            primary: item > 0,
            quotes_target: item == 1,
            ..example(&format!("item{item}"), &format!("user{item}"))
        }
    }

    fn arm(name: &str, nats: &[f64]) -> Vec<ItemRecord> {
        let records = nats.iter().enumerate();
        records.map(|(i, nats)| record(name, i, *nats)).collect()
    }

    #[test]
    fn a_comparison_is_shown_with_its_warnings() {
        let a = arm("none", &[2000.0, 2100.0, 2200.0]);
        let b = arm("past", &[1900.0, 2050.0, 2200.0]);
        let comparison = compare(&[Arms { a: &a, b: &b, primary: true }], Rules::default()).unwrap().remove(0);
        let table = comparison_table(&comparison, "A verdict.");
        assert_eq!(
            table.rows[0].join(" | "),
            "next_prompt | primary | 2 | 2† | 2,000 | 2.150 | 2.125 \
             | −0.025 | −0.050 to 0.000 | −0.050 to 0.000 | −0.343 to +0.293 | −0.025 | −0.050 to 0.000"
        );
        assert_eq!(
            table.rows[2].join(" | "),
            "next_prompt | primary, no quotes | 1 | 1† | 1,000 | 2.200 | 2.200 | 0.000 | – | – | – | 0.000 | –"
        );
        assert_eq!(table.notes[0], "A verdict.");
        assert!(table.notes[1].starts_with("† Too few users"));
        assert_eq!(table.notes.last(), Some(&seeds_note(&comparison)));
        let evidence = evidence_table(&comparison);
        // Two users at −0.05 and 0: error 0.025, t(1) = 12.706 and 1.376.
        assert_eq!(
            evidence.rows[0].join(" | "),
            "next_prompt | primary | 1.000 | 1.000 | – | undecided | 0.025 | – | −0.707 | 0.352 | 18"
        );
        assert!(evidence.notes[0].contains("declared primary") && evidence.notes[0].contains("No margin"));
        let summary = summary_table(&[comparison], TargetKind::NextPrompt, Subset::Primary);
        assert_eq!(
            summary.rows[0].join(" | "),
            "past − none ★ | 2 | 2† | 2,000 | 2.150 | 2.125 | −0.025 | −0.050 to 0.000 (t: −0.343 to +0.293) \
             | 1.000 | undecided"
        );
        for table in [table, evidence, summary] {
            assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        }
    }

    #[test]
    fn empty_subsets_are_said_not_shown() {
        let alone = |name: &str| vec![ItemRecord { primary: false, ..record(name, 0, 2000.0) }];
        let (a, b) = (alone("none"), alone("past"));
        let comparison = compare(&[Arms { a: &a, b: &b, primary: false }], Rules::default()).unwrap().remove(0);
        let table = comparison_table(&comparison, "A verdict.");
        assert_eq!(table.rows.len(), 1);
        assert_eq!(
            table.notes[1],
            "No items, so nothing is compared: next_prompt (primary), next_prompt (primary, no quotes)."
        );
        assert!(evidence_table(&comparison).rows.len() == 1);
        let summary = summary_table(&[comparison], TargetKind::NextPrompt, Subset::Primary);
        assert!(summary.rows.is_empty());
        assert_eq!(summary.notes[0], "past − none: no items of next_prompt (primary).");
        assert!(!format!("{}{}", table.terminal(), summary.markdown()).contains("NaN"));
    }

    #[test]
    fn metrics_fill_their_tables() {
        let label = ItemRecord {
            kind: TargetKind::ReactionLabel,
            label: Some(LabelOutcome { truth: 0, probabilities: vec![0.75, 0.25] }),
            ..record("past", 9, 250.0)
        };
        let metrics = metrics(&[record("past", 0, 2000.0), label]).unwrap();
        let losses = metrics_table(&metrics);
        assert_eq!(losses.rows[0].join(" "), "next_prompt past 1 1 1,000 2.000 0.721 2000.000 2.000");
        let labels = labels_table(&metrics).unwrap();
        assert_eq!(labels.rows[0].join(" "), "reaction_label past 1 1.000 1.000 1.000 – 0.250 1");
        assert_eq!(labels_table(&metrics[..1]), None);
        for table in [&losses, &labels] {
            assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        }
    }
}
