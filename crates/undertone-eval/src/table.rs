//! Tables that people read and publish: the same cells as GitHub Markdown and for a terminal.
//!
//! In come metrics and comparisons, out comes a [`Table`] of finished text. Numbers are rounded here
//! and nowhere else; whoever computes with them reads the JSON.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement};
use undertone_data::TargetKind;

use crate::bootstrap::{Estimate, Interval, signed};
use crate::compare::{Comparison, Contrast, Subset};
use crate::metrics::KindMetrics;

/// What stands in a cell that has no number.
const NOTHING: &str = "–";
/// What marks a number of users that is too small.
const FEW: char = '†';

/// A title, a header, rows of cells and notes below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What the table shows, and in which unit.
    pub title: String,
    /// The columns.
    pub header: Vec<Column>,
    /// The cells, each row as long as the header.
    pub rows: Vec<Vec<String>>,
    /// What a reader must know, one paragraph each.
    pub notes: Vec<String>,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub name: String,
    /// Whether it holds numbers, which are aligned on the right.
    pub numeric: bool,
}

/// Columns of words, then columns of numbers.
pub fn columns(words: &[&str], numbers: &[&str]) -> Vec<Column> {
    let column = |name: &&str, numeric| Column { name: (*name).to_owned(), numeric };
    let words = words.iter().map(|name| column(name, false));
    words.chain(numbers.iter().map(|name| column(name, true))).collect()
}

impl Table {
    /// The table in GitHub's Markdown, its columns padded so that the source is readable too.
    pub fn markdown(&self) -> String {
        let cell = |text: &str| one_line(text).replace('|', "\\|");
        let header: Vec<String> = self.header.iter().map(|c| cell(&c.name)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].chars().count(), 3]).max()
        };
        let widths: Vec<usize> = (0..header.len()).filter_map(width).collect();
        let line = |cells: &[String]| {
            let mut line = String::from("|");
            for ((text, column), &width) in cells.iter().zip(&self.header).zip(&widths) {
                line += &match column.numeric {
                    true => format!(" {text:>width$} |"),
                    false => format!(" {text:<width$} |"),
                };
            }
            line + "\n"
        };
        let rule = |(column, &width): (&Column, &usize)| match column.numeric {
            true => "-".repeat(width - 1) + ":",
            false => ":".to_owned() + &"-".repeat(width - 1),
        };
        let rule: Vec<String> = self.header.iter().zip(&widths).map(rule).collect();

        let mut text = format!("### {}\n\n", one_line(&self.title));
        text += &line(&header);
        text += &line(&rule);
        for row in &rows {
            text += &line(row);
        }
        for note in &self.notes {
            text += &format!("\n{}\n", one_line(note));
        }
        text
    }

    /// The table for a terminal, as wide as it needs to be, without colours.
    pub fn terminal(&self) -> String {
        let cell = |(text, column): (&String, &Column)| {
            Cell::new(one_line(text)).set_alignment(match column.numeric {
                true => CellAlignment::Right,
                false => CellAlignment::Left,
            })
        };
        let mut table = comfy_table::Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(self.header.iter().map(|column| cell((&column.name, column))));
        for row in &self.rows {
            table.add_row(row.iter().zip(&self.header).map(cell));
        }
        let mut text = format!("{}\n{}\n", one_line(&self.title), table);
        for note in &self.notes {
            text += &format!("  {}\n", one_line(note));
        }
        text
    }
}

/// Text without line breaks or other control characters, which names from outside may hold.
fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect()
}

/// A number with three decimals and a true minus sign.
pub fn decimal(value: f64) -> String {
    match signed(value) {
        text if value > 0.0 => text.trim_start_matches('+').to_owned(),
        text => text,
    }
}

/// A count, its thousands parted by commas.
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn interval(interval: Option<Interval>) -> String {
    interval.map_or_else(|| NOTHING.to_owned(), |interval| interval.to_string())
}

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
            m.bits_per_byte.map_or_else(|| NOTHING.to_owned(), decimal),
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
            "The mean of user means is in nats per token. Kinds are never pooled; whether two arms \
             differ is a question for a paired comparison."
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
            count(labels.classes.len()),
        ])
    };
    let rows: Vec<Vec<String>> = metrics.iter().filter_map(row).collect();
    (!rows.is_empty()).then(|| Table {
        title: "Labels by arm; higher is better".to_owned(),
        header: columns(&["kind", "arm"], &["items", "accuracy", "majority", "macro-F1", "classes"]),
        rows,
        notes: vec![
            "Majority is the accuracy of always saying the most frequent label. Macro-F1 is the mean \
             over the classes that occur among the true or the predicted labels."
                .to_owned(),
        ],
    })
}

/// One comparison: a row for each kind and subset that has items.
pub fn comparison_table(comparison: &Comparison) -> Table {
    let Comparison { arm_a, arm_b, .. } = comparison;
    let (mut rows, mut empty) = (Vec::new(), Vec::new());
    for contrast in &comparison.contrasts {
        let (kind, subset) = (contrast.kind, contrast.subset);
        match contrast_cells(contrast) {
            Some(cells) => {
                let names = [kind.to_string(), subset.to_string()];
                rows.push(names.into_iter().chain(cells).collect());
            }
            None => empty.push(format!("{kind} ({subset})")),
        }
    }
    let mut notes = vec![comparison.verdict().to_owned()];
    if !empty.is_empty() {
        let empty = empty.join(", ");
        notes.push(format!("No items, so nothing is compared: {empty}."));
    }
    notes.extend(common_notes(&[comparison], &rows));
    Table {
        title: format!("`{arm_b}` − `{arm_a}`, nats per token; below zero, `{arm_b}` is better"),
        header: contrast_columns(&["kind", "subset"], arm_a, arm_b),
        rows,
        notes,
    }
}

/// How many of a contrast's cells a summary shows: up to the interval of the difference.
const SUMMARY_CELLS: usize = 7;

/// Several comparisons on one kind and subset: a row for each that has items. The difference between
/// user means stands in [`comparison_table`].
pub fn summary_table(comparisons: &[Comparison], kind: TargetKind, subset: Subset) -> Table {
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for comparison in comparisons {
        let name = format!("{} − {}", comparison.arm_b, comparison.arm_a);
        let contrast = comparison.contrast(kind, subset);
        match contrast.and_then(contrast_cells) {
            Some(mut cells) => {
                cells.truncate(SUMMARY_CELLS);
                cells.insert(0, name);
                rows.push(cells);
            }
            None => notes.push(format!("{name}: no items of {kind} ({subset}).")),
        }
    }
    let all: Vec<&Comparison> = comparisons.iter().collect();
    notes.extend(common_notes(&all, &rows));
    let mut header = contrast_columns(&["b − a"], "a", "b");
    header.truncate(1 + SUMMARY_CELLS);
    Table { title: format!("{kind} ({subset}), nats per token; below zero, b is better"), header, rows, notes }
}

/// Columns of words, and those that [`contrast_cells`] fills.
fn contrast_columns(words: &[&str], arm_a: &str, arm_b: &str) -> Vec<Column> {
    let of_total = ["difference", "95 % interval"];
    let of_users = ["user means", "95 % interval"];
    let numbers = [&["items", "users", "tokens", arm_a, arm_b][..], &of_total, &of_users];
    columns(words, &numbers.concat())
}

/// The cells of a contrast; `None` if it has no items.
fn contrast_cells(contrast: &Contrast) -> Option<Vec<String>> {
    let losses = contrast.losses.as_ref()?;
    let both = |estimate: Estimate| match estimate.student_t {
        Some(t) => format!("{} (t: {t})", interval(estimate.bootstrap)),
        None => interval(estimate.bootstrap),
    };
    let total = losses.difference.ratio;
    let by_user = losses.difference.mean_of_user_means;
    let mut users = count(contrast.users);
    users.extend(losses.difference.too_few_users.then_some(FEW));
    Some(vec![
        count(contrast.items),
        users,
        count(contrast.tokens),
        decimal(losses.a),
        decimal(losses.b),
        signed(total.value),
        both(total),
        signed(by_user.value),
        both(by_user),
    ])
}

/// What must be said below any table of these comparisons, of which `rows` are shown.
fn common_notes(comparisons: &[&Comparison], rows: &[Vec<String>]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    if rows.iter().flatten().any(|cell| cell.ends_with(FEW)) {
        notes.push(format!("{FEW} Too few users: beside the bootstrap stands the interval of Student's t."));
    }
    let mut add = |note: String| {
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    for comparison in comparisons {
        comparison.notes.iter().cloned().for_each(&mut add);
        let draws = count(comparison.bootstrap.draws);
        let seed = comparison.bootstrap.seed;
        add(format!(
            "Intervals: percentile bootstrap over users, {draws} resamples, seed {seed}; user means \
             are the same difference with each user counting alike."
        ));
        add(comparison.seeds_note.clone());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::BootstrapOptions;
    use crate::compare::compare;
    use crate::metrics::metrics;
    use crate::record::{ItemRecord, LabelOutcome};

    fn record(arm: &str, item: usize, nats: f64) -> ItemRecord {
        ItemRecord {
            item: format!("item{item}"),
            conversation: format!("user{item}_task1_conversation1"),
            user: format!("user{item}"),
            kind: TargetKind::NextPrompt,
            arm: arm.into(),
            nats,
            tokens: 1000,
            bytes: 4000,
            label: None,
            primary: item > 0,
            quotes_target: item == 1,
            visible_thoughts: 1,
            fold: None,
        }
    }

    fn arm(name: &str, nats: &[f64]) -> Vec<ItemRecord> {
        let records = nats.iter().enumerate();
        records.map(|(i, nats)| record(name, i, *nats)).collect()
    }

    #[test]
    fn numbers_are_short_and_their_signs_true() {
        assert_eq!([2.3456, -0.5, 0.0, -0.0001].map(decimal), ["2.346", "−0.500", "0.000", "0.000"]);
        assert_eq!([0, 999, 1000, 162_000, 1_234_567].map(count), ["0", "999", "1,000", "162,000", "1,234,567"]);
    }

    #[test]
    fn markdown_and_terminal_show_the_same_cells() {
        let table = Table {
            title: "Loss".into(),
            header: columns(&["arm"], &["nats/token"]),
            rows: vec![vec!["past".into(), "2.312".into()], vec!["a|b\n\u{1b}[31m".into(), "−0.012".into()]],
            notes: vec!["A note.".into()],
        };
        assert_eq!(
            table.markdown(),
            "### Loss\n\n\
             | arm        | nats/token |\n\
             | :--------- | ---------: |\n\
             | past       |      2.312 |\n\
             | a\\|b  [31m |     −0.012 |\n\
             \nA note.\n"
        );
        assert_eq!(
            table.terminal(),
            "Loss\n\
             ┌────────────────────────┐\n\
             │ arm         nats/token │\n\
             ╞════════════════════════╡\n\
             │ past             2.312 │\n\
             │ a|b  [31m       −0.012 │\n\
             └────────────────────────┘\n  A note.\n"
        );
    }

    #[test]
    fn a_comparison_is_shown_with_its_warnings() {
        let a = arm("none", &[2000.0, 2100.0, 2200.0]);
        let b = arm("past", &[1900.0, 2050.0, 2200.0]);
        let comparison = compare(&a, &b, BootstrapOptions::default()).unwrap();
        let table = comparison_table(&comparison);
        assert_eq!(
            table.rows[0].join(" | "),
            "next_prompt | primary | 2 | 2† | 2,000 | 2.150 | 2.125 \
             | −0.025 | −0.050 to 0.000 (t: −0.343 to +0.293) \
             | −0.025 | −0.050 to 0.000 (t: −0.343 to +0.293)"
        );
        assert_eq!(
            table.rows[2].join(" | "),
            "next_prompt | primary, no quotes | 1 | 1† | 1,000 | 2.200 | 2.200 | 0.000 | – | 0.000 | –"
        );
        assert_eq!(table.notes[0], comparison.verdict());
        assert!(table.notes[1].starts_with("† Too few users"));
        assert_eq!(table.notes.last(), Some(&comparison.seeds_note));
        let summary = summary_table(&[comparison], TargetKind::NextPrompt, Subset::Primary);
        assert_eq!(summary.rows[0][0], "past − none");
        assert_eq!(summary.rows[0][1..], table.rows[0][2..2 + SUMMARY_CELLS]);
    }

    #[test]
    fn empty_subsets_are_said_not_shown() {
        let alone = |name: &str| vec![ItemRecord { primary: false, ..record(name, 0, 2000.0) }];
        let comparison = compare(&alone("none"), &alone("past"), BootstrapOptions::default()).unwrap();
        let table = comparison_table(&comparison);
        assert_eq!(table.rows.len(), 1);
        assert_eq!(
            table.notes[1],
            "No items, so nothing is compared: next_prompt (primary), next_prompt (primary, no quotes)."
        );
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
        assert_eq!(labels.rows[0].join(" "), "reaction_label past 1 1.000 1.000 1.000 1");
        assert_eq!(labels_table(&metrics[..1]), None);
        for table in [&losses, &labels] {
            assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        }
    }
}
