//! The tables of a study: metrics and comparisons as text for people.
//!
//! Cells hold rounded numbers; `results.json` has the exact ones.

use undertone_data::TargetKind;
use undertone_stats::{
    BootstrapOptions, Comparison, Contrast, ENOUGH_USERS, Inference, KindMetrics, OfModels, PairedLosses, Question,
    SignFlip, Subset,
};

use crate::numbers::{count, decimal, interval, or_nothing, p_value, signed};
use crate::table::{Table, columns};
use crate::words::{decision_name, disagreements_in_words, scope_note};

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
             untrained model under the view of arm X, and `staged-X` the model after the stages; `unigram` knows only how frequent each token is in the targets of the \
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
        let of_models = |which: fn(OfModels) -> _| or_nothing(ratio.of_models.map(which).map(interval));
        vec![
            count(contrast.items),
            users(contrast.users, losses),
            count(contrast.tokens),
            decimal(losses.a),
            decimal(losses.b),
            signed(ratio.value),
            or_nothing(ratio.interval.map(interval)),
            of_models(|models| models.student_t),
            of_models(|models| models.bca),
            signed(mean_of_user_means.value),
            or_nothing(mean_of_user_means.interval.map(interval)),
        ]
    });
    table.title = format!("`{arm_b}` − `{arm_a}`, nats per token; below zero, `{arm_b}` is better");
    let numbers = ["items", "users", "tokens", arm_a, arm_b, "difference"];
    let intervals =
        ["users and trainings", "these models", "these models: BCa", "mean of user means", "users and trainings"];
    table.header = columns(&["kind", "subset"], &[&numbers[..], &intervals].concat());
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

/// The evidence behind one comparison's decisions: tests, variance components, and what a study of this size can detect.
pub fn evidence_table(comparison: &Comparison) -> Table {
    let Comparison { arm_a, arm_b, rules, primary, .. } = comparison;
    let mut table = by_subset(comparison, |_, losses| {
        let PairedLosses { difference, evidence, .. } = losses;
        let error = difference.standard_error;
        let with = error.and_then(|error| error.with_trainings);
        let parts = with.map(|with| with.components);
        vec![
            or_nothing(evidence.and_then(|evidence| evidence.p_different).map(p_value)),
            or_nothing(evidence.and_then(|evidence| evidence.p_tied).map(p_value)),
            or_nothing(evidence.as_ref().map(decision_name)),
            or_nothing(with.map(|with| decimal(with.total))),
            or_nothing(difference.degrees_of_freedom.map(|freedom| format!("{freedom:.1}"))),
            or_nothing(parts.map(|parts| decimal(parts.user))),
            or_nothing(parts.map(|parts| decimal(parts.training))),
            or_nothing(parts.and_then(|parts| parts.rest).map(decimal)),
            or_nothing(error.map(|error| format!("{:.1}", error.effective_users))),
            or_nothing(difference.sign_flip.map(sign_flip)),
            or_nothing(difference.effect_size().map(signed)),
            or_nothing(error.and_then(|error| error.minimum_detectable()).map(decimal)),
            or_nothing(difference.users_needed().map(count)),
        ]
    });
    table.title = format!("Tests and variance of `{arm_b}` − `{arm_a}`");
    let tests = ["p", "p of equivalence", "result", "standard error", "degrees of freedom"];
    let parts = ["sd users", "sd trainings", "sd rest", "effective users"];
    let sizes = ["p of sign flips", "effect size", "minimum detectable", "users needed"];
    table.header = columns(&["kind", "subset"], &[&tests[..], &parts, &sizes].concat());
    let corrected = match primary {
        true => "The first p of this comparison is primary and not corrected; the others are.",
        false => {
            "All p-values about which a verdict is given, those of the primary comparison's headline excepted, are corrected together (Holm)."
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
        format!("{corrected} {margin}"),
        "p, standard error and degrees of freedom are over other users and other trainings. The standard deviations (sd) are those of \
         the random effects on one user's difference: between users, between trainings, and the rest; if each user is tested in one \
         training, the users' holds the rest. Effective users is (Σ tokens)² / Σ tokens². The p of sign flips is \
         over other users, with these trained models. The effect size is the difference divided by the standard deviation between users. Minimum \
         detectable is the smallest true difference that a study of this size finds with a power of 80 %; users needed is how many users, \
         with the same trainings, make the observed difference detectable. The subset `primary, no quotes` leaves out primary items that share five \
         consecutive words, or all words of a shorter message, with a thought that either arm sees."
            .to_owned(),
    ];
    table
}

/// The p-value of sign flips, with its Monte Carlo error if it is not exact.
fn sign_flip(SignFlip { p, monte_carlo_error }: SignFlip) -> String {
    match monte_carlo_error {
        0.0 => p_value(p),
        error => format!("{} ± {error:.4}", p_value(p)),
    }
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
        notes.push(format!("{PRIMARY} Primary comparison: its headline's p-value is not corrected. All other p-values with a verdict are corrected together (Holm)."));
    }
    let all: Vec<&Comparison> = comparisons.iter().collect();
    notes.extend(common_notes(&all, &rows));
    let numbers = ["items", "users", "tokens", "a", "b", "difference", "95 % interval", "these models", "p", "b is"];
    let title = format!("{kind} ({subset}), nats per token; below zero, b is better");
    Table { title, header: columns(&["b − a"], &numbers), rows, notes }
}

/// The cells of a contrast in a summary; `None` if it has no items.
fn summary_cells(contrast: &Contrast) -> Option<Vec<String>> {
    let losses = contrast.losses.as_ref()?;
    let PairedLosses { a, b, difference, evidence, .. } = losses;
    Some(vec![
        count(contrast.items),
        users(contrast.users, losses),
        count(contrast.tokens),
        decimal(*a),
        decimal(*b),
        signed(difference.ratio.value),
        or_nothing(difference.ratio.interval.map(interval)),
        or_nothing(difference.ratio.of_models.map(|models| interval(models.student_t))),
        or_nothing(evidence.and_then(|evidence| evidence.p_different).map(p_value)),
        or_nothing(evidence.as_ref().map(decision_name)),
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
        notes.push(format!("{FEW} Fewer than {ENOUGH_USERS} users are too few to say much about other users."));
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
        add(scope_note(comparison));
        if comparison.rules.question == Question::WayOfTraining {
            add(format!(
                "Two 95 % intervals: over other users and other trainings, on which the verdict rests, and over other users with these \
                 trained models. Both are Student's t with CR2; BCa is a bootstrap over users, {draws} resamples, seed {seed}."
            ));
        }
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
        let twice = |records: Vec<ItemRecord>| -> Vec<ItemRecord> {
            let trained = |seed| records.iter().cloned().map(move |record| ItemRecord { seed: Some(seed), ..record });
            trained(0).chain(trained(1)).collect()
        };
        let a = twice(arm("none", &[2000.0, 2100.0, 2200.0]));
        let b = twice(arm("past", &[1900.0, 2050.0, 2200.0]));
        let comparison = compare(&[Arms { a: &a, b: &b, primary: true }], Rules::default()).unwrap().remove(0);
        let table = comparison_table(&comparison, "A verdict.");
        assert_eq!(
            table.rows[0].join(" | "),
            "next_prompt | primary | 2 | 2† | 2,000 | 2.150 | 2.125 \
             | −0.025 | −0.343 to +0.293 | −0.343 to +0.293 | −0.050 to 0.000 | −0.025 | −0.343 to +0.293"
        );
        assert_eq!(
            table.rows[2].join(" | "),
            "next_prompt | primary, no quotes | 1 | 1† | 1,000 | 2.200 | 2.200 | 0.000 | – | – | – | 0.000 | –"
        );
        assert_eq!(table.notes[0], "A verdict.");
        assert!(table.notes[1].starts_with("† Fewer than 10 users"));
        assert!(table.notes.contains(&scope_note(&comparison)));
        let evidence = evidence_table(&comparison);
        // Two users at −0.05 and 0: error 0.025, t(1) = 12.706 and 1.376; the trainings do not differ.
        assert_eq!(
            evidence.rows[0].join(" | "),
            "next_prompt | primary | 0.500 | – | undecided | 0.025 | 1.0 | 0.035 | 0.000 | 0.000 | 2.0 | 1.000 | −0.707 | 0.352 | 18"
        );
        assert!(evidence.notes[0].contains("not corrected") && evidence.notes[0].contains("No margin"));
        let summary = summary_table(&[comparison], TargetKind::NextPrompt, Subset::Primary);
        assert_eq!(
            summary.rows[0].join(" | "),
            "past − none ★ | 2 | 2† | 2,000 | 2.150 | 2.125 | −0.025 | −0.343 to +0.293 | −0.343 to +0.293 \
             | 0.500 | undecided"
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
