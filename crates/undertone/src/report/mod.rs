//! What a study found, for a terminal, as Markdown, as JSON and as a page, from one list of tables.

mod breakdown;
mod explorer;
mod html;
mod pairs;
mod setting;

use serde::Serialize;
use undertone_data::{TargetKind, View};
use undertone_eval::{
    Arms, Comparison, ItemRecord, KindMetrics, Subset, Table, compare, comparison_table, evidence_table, labels_table,
    metrics, metrics_table, summary_table,
};

use self::breakdown::Breakdown;
pub(crate) use self::pairs::primary_pair;
use self::pairs::{PairOfArms, pairs_of_arms, pairs_with_base};
use self::setting::setting;
pub(crate) use self::setting::warnings;
use crate::experiment::Experiment;
use crate::study::{Coverage, Evaluated, Failed, Study};

/// The whole result, as `results.json` holds it.
#[derive(Serialize)]
pub(crate) struct Results<'a> {
    name: &'a str,
    synthetic: bool,
    experiment_sha256: String,
    base_model_sha256: &'a str,
    data_sha256: &'a str,
    read: &'a undertone_data::ReadReport,
    overlap: Vec<&'a undertone_data::OverlapReport>,
    coverage: Vec<Coverage>,
    metrics: Vec<KindMetrics>,
    /// What thoughts add: arms against arms.
    comparisons: Vec<Comparison>,
    /// What training adds: each trained arm against the untrained model that sees the same.
    training_gains: Vec<Comparison>,
    /// Where thoughts help: the leading comparison in groups of its items.
    breakdowns: Vec<Breakdown>,
    warnings: Vec<String>,
    #[serde(skip)]
    question: String,
    #[serde(skip)]
    setting: Vec<String>,
}

impl<'a> Results<'a> {
    /// Compares the arms' records, which stand in the order of `arms`; further records are yardsticks.
    pub(crate) fn new(
        study: &'a Study,
        base_sha256: &'a str,
        arms: &[Evaluated],
        records: &[Vec<ItemRecord>],
        scored: &[String],
        failed: &[Failed],
    ) -> anyhow::Result<Self> {
        let experiment = &study.experiment;
        let family = |pairs: Vec<PairOfArms>| {
            let arms = |pair: PairOfArms| Arms { a: &records[pair.a], b: &records[pair.b], primary: pair.primary };
            compare(&pairs.into_iter().map(arms).collect::<Vec<_>>(), experiment.rules())
        };
        let comparisons = family(pairs_of_arms(experiment, arms))?;
        let training_gains = family(pairs_with_base(experiment, arms))?;
        let leading = leading(&comparisons).map(|comparison| {
            let of = |name: &str| {
                let place = arms.iter().position(|arm| arm.name == name).expect("every arm is evaluated");
                &records[place][..]
            };
            Arms { a: of(&comparison.arm_a), b: of(&comparison.arm_b), primary: false }
        });
        let breakdowns = leading.map_or_else(|| Ok(Vec::new()), |arms| breakdown::breakdowns(study, &arms))?;
        let all: Vec<ItemRecord> = records.concat();
        let unknown_users = study.read.ids_of_other_shape + study.read.ids_missing;
        let shown: Vec<(&str, View)> = experiment.arms.iter().map(|arm| (arm.name.as_str(), arm.shown().0)).collect();
        Ok(Self {
            name: &experiment.name,
            synthetic: experiment.data.synthetic,
            experiment_sha256: experiment.hash(),
            base_model_sha256: base_sha256,
            data_sha256: &study.data_sha256,
            read: &study.read,
            overlap: study.folds.iter().map(|fold| &fold.overlap).collect(),
            coverage: coverage(&records[0]),
            metrics: metrics(&all)?,
            comparisons,
            training_gains,
            breakdowns,
            warnings: failed
                .iter()
                .map(|Failed { arm, error }| format!("FAILED: the arm `{arm}` is in no comparison: {error:#}"))
                .chain(warnings(experiment.data.synthetic, unknown_users, &shown))
                .collect(),
            question: question(experiment),
            setting: setting(study, scored),
        })
    }

    /// What thoughts add, in words.
    pub(crate) fn verdicts(&self) -> Vec<&str> {
        self.comparisons.iter().map(Comparison::verdict).collect()
    }

    /// One table a kind for each of the two questions.
    fn summaries(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for coverage in &self.coverage {
            let subset = if coverage.primary > 0 { Subset::Primary } else { Subset::All };
            for (question, comparisons) in
                [("What thoughts add", &self.comparisons), ("What training adds", &self.training_gains)]
            {
                let mut table = summary_table(comparisons, coverage.kind, subset);
                table.title = format!("{question}: {}", table.title);
                tables.extend((!table.rows.is_empty()).then_some(table));
            }
        }
        tables
    }

    fn coverage_lines(&self) -> Vec<String> {
        let line = |coverage: &Coverage| {
            let share = 100.0 * coverage.primary as f64 / coverage.items as f64;
            format!(
                "{}: {} of {} items ({share:.0} %) are primary: they follow an earlier message and have an earlier thought visible in every arm that sees all earlier ones.",
                coverage.kind, coverage.primary, coverage.items
            )
        };
        self.coverage.iter().map(line).collect()
    }

    /// For a terminal: warnings, the summary, every arm.
    pub(crate) fn terminal(&self) -> String {
        let mut text = format!("\n{}: {}\n\n", self.name, self.question);
        for warning in &self.warnings {
            text += &format!("! {warning}\n");
        }
        for line in self.coverage_lines() {
            text += &format!("{line}\n");
        }
        text += "\n";
        for table in self.summaries() {
            text += &format!("{}\n", table.terminal());
        }
        let table = metrics_table(&self.metrics);
        text += &format!("{}\n", table.terminal());
        if let Some(table) = labels_table(&self.metrics) {
            text += &format!("{}\n", table.terminal());
        }
        text
    }

    /// `report.md`
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.name, self.question);
        for warning in &self.warnings {
            text += &format!("> **{warning}**\n\n");
        }
        for (comparison, verdict) in self.comparisons.iter().zip(self.verdicts()) {
            text += &format!("- `{}` − `{}`: {verdict}\n", comparison.arm_b, comparison.arm_a);
        }
        text += "\n## Setting\n\n";
        for line in self.setting.iter().chain(&self.coverage_lines()) {
            text += &format!("- {line}\n");
        }
        text += "\n## Comparisons\n\n";
        for table in self.summaries() {
            text += &format!("{}\n", table.markdown());
        }
        text += "## Every arm\n\n";
        text += &metrics_table(&self.metrics).markdown();
        if let Some(table) = labels_table(&self.metrics) {
            text += &format!("\n{}", table.markdown());
        }
        text += "\n## Where thoughts help\n\n";
        for breakdown in &self.breakdowns {
            text += &format!("{}\n", breakdown.table().markdown());
        }
        text += "\n## Every comparison\n\n";
        for comparison in self.comparisons.iter().chain(&self.training_gains) {
            text += &format!("{}\n", comparison_table(comparison).markdown());
            text += &format!("{}\n", evidence_table(comparison).markdown());
        }
        text
    }
}

/// The kinds that occur, with how many of their items are primary; every arm has the same.
fn coverage(records: &[ItemRecord]) -> Vec<Coverage> {
    let of_kind = |kind: TargetKind| {
        let of_kind = records.iter().filter(|record| record.kind == kind);
        let primary = of_kind.clone().filter(|record| record.primary).count();
        Coverage { kind, items: of_kind.count(), primary }
    };
    TargetKind::ALL.into_iter().map(of_kind).filter(|coverage| coverage.items > 0).collect()
}

/// The comparison that a study was made for: the primary one, or the first.
fn leading(comparisons: &[Comparison]) -> Option<&Comparison> {
    comparisons.iter().find(|comparison| comparison.primary).or(comparisons.first())
}

fn question(experiment: &Experiment) -> String {
    let in_words = |kind: &TargetKind| match kind {
        TargetKind::NextPrompt => "next messages",
        TargetKind::Reaction => "reactions to replies",
        TargetKind::ReactionLabel => "kinds of reaction",
        TargetKind::Reason => "reasons for messages",
        TargetKind::ReasonLabel => "kinds of reason",
    };
    let targets: Vec<&str> = experiment.data.targets.iter().map(in_words).collect();
    format!(
        "How well are users' {} predicted by models that see the users' thoughts, and by models that do not?",
        targets.join(", ")
    )
}
