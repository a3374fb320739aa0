//! What a study found, for a terminal, as Markdown, as JSON and as a page, from one list of tables.

mod breakdown;
mod explorer;
mod html;
mod pairs;
#[cfg(test)]
mod rehearsal;
mod setting;

use serde::Serialize;
use undertone_data::{TargetKind, View};
use undertone_eval::{
    Arms, Comparison, ItemRecord, KindMetrics, MeasureContrast, MeasureMean, Subset, Table, Written, columns, compare,
    comparison_table, contrasts_table, count, decided_in_words, ends_table, evidence_table, labels_table, means_table,
    measure_contrasts, measure_means, measured, metrics, metrics_table, summary_table,
};

use self::breakdown::Breakdown;
pub(crate) use self::pairs::primary_pair;
use self::pairs::{PairOfArms, pairs_of_arms, pairs_with_base};
use self::setting::setting;
pub(crate) use self::setting::warnings;
use crate::amendments::Amendment;
use crate::experiment::Experiment;
use crate::study::{Coverage, Evaluated, Failed, Study};
use crate::writing::{FirstMessages, MadeUp, first_message_diversity};

/// What every arm made of the study.
#[derive(Clone, Copy)]
pub(crate) struct Scores<'a> {
    /// The arms, in order.
    pub(crate) arms: &'a [Evaluated],
    /// Their records in the same order; further ones are of yardsticks.
    pub(crate) records: &'a [Vec<ItemRecord>],
    /// What they wrote.
    pub(crate) written: &'a [Written],
    /// First messages that each model made up.
    pub(crate) made_up: &'a [(String, Vec<MadeUp>)],
}

/// How the study went.
#[derive(Clone, Copy, Default)]
pub(crate) struct Course<'a> {
    /// After which step each training was scored, in words.
    pub(crate) scored: &'a [String],
    /// Arms that did not come to their end.
    pub(crate) failed: &'a [Failed],
    /// What was changed after there were results.
    pub(crate) amendments: &'a [Amendment],
}

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
    /// What is measured besides losses: the mean of each arm.
    measures: Vec<MeasureMean>,
    /// What thoughts add to that.
    measure_contrasts: Vec<MeasureContrast>,
    first_messages: Vec<FirstMessages>,
    warnings: Vec<String>,
    /// What was changed after there were results.
    amendments: &'a [Amendment],
    #[serde(skip)]
    question: String,
    #[serde(skip)]
    setting: Vec<String>,
}

impl<'a> Results<'a> {
    /// Compares what the arms made of the study.
    pub(crate) fn new(
        study: &'a Study,
        base_sha256: &'a str,
        scores: Scores<'_>,
        course: Course<'a>,
    ) -> anyhow::Result<Self> {
        let Scores { arms, records, written, made_up } = scores;
        let Course { scored, failed, amendments } = course;
        let experiment = &study.experiment;
        let family = |pairs: Vec<PairOfArms>| {
            // What became primary when there were results is corrected like the others.
            let is_fixed = !amendments.iter().any(Amendment::is_of_primary);
            let arms =
                |pair: PairOfArms| Arms { a: &records[pair.a], b: &records[pair.b], primary: pair.primary && is_fixed };
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
        let others = measured(&all, written);
        let pairs: Vec<[&str; 2]> = comparisons.iter().map(|one| [one.arm_a.as_str(), one.arm_b.as_str()]).collect();
        let contrasts = measure_contrasts(&others, &pairs, experiment.rules().bootstrap);
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
            measures: measure_means(&others),
            measure_contrasts: contrasts,
            first_messages: first_message_diversity(study, made_up),
            warnings: failed
                .iter()
                .map(|Failed { arm, error }| format!("FAILED: the arm `{arm}` is in no comparison: {error:#}"))
                .chain(amended(amendments))
                .chain(warnings(experiment.data.synthetic, unknown_users, &shown))
                .collect(),
            amendments,
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

    /// What is measured besides losses, kind by kind.
    fn other_measures(&self) -> Vec<Table> {
        let kinds = || self.coverage.iter().map(|coverage| coverage.kind);
        let means = kinds().filter_map(|kind| means_table(&self.measures, kind));
        let contrasts = kinds().filter_map(|kind| contrasts_table(&self.measure_contrasts, kind));
        means.chain(contrasts).chain(ends_table(&self.metrics)).chain(self.first_messages_table()).collect()
    }

    fn first_messages_table(&self) -> Option<Table> {
        let row = |one: &FirstMessages| vec![one.arm.clone(), count(one.messages), format!("{:.1}", one.diversity)];
        (!self.first_messages.is_empty()).then(|| Table {
            title: "First messages that each model makes up".to_owned(),
            header: columns(&["arm"], &["messages", "diversity"]),
            rows: self.first_messages.iter().map(row).collect(),
            notes: vec![
                "Diversity is 100 less the mean Jaccard index of the words of every two messages of a model, the mean over \
                 trainings; sampled as likely as the model holds them. Real users' first messages stand last."
                    .to_owned(),
            ],
        })
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
        for table in labels_table(&self.metrics).into_iter().chain(self.other_measures()) {
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
        for sentence in decided_in_words(&self.comparisons) {
            text += &format!("\n{sentence}\n");
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
        let others = self.other_measures();
        if !others.is_empty() {
            text += "\n## Besides losses\n";
        }
        for table in others {
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

fn amended(amendments: &[Amendment]) -> Option<String> {
    let all: Vec<String> = amendments.iter().map(ToString::to_string).collect();
    (!all.is_empty()).then(|| {
        format!(
            "CHANGED after there were results: {}. What was not fixed beforehand decides nothing by itself.",
            all.join("; ")
        )
    })
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
        TargetKind::ConversationEnd => "last words",
    };
    let targets: Vec<&str> = experiment.data.targets.iter().map(in_words).collect();
    format!(
        "How well are users' {} predicted by models that see the users' thoughts, and by models that do not?",
        targets.join(", ")
    )
}
