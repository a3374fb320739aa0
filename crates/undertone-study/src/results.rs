//! The results of a study for a terminal, as Markdown, as JSON and as HTML, from one list of tables.

mod breakdowns;
mod explorer;
mod html;
mod markdown;
#[cfg(test)]
mod rehearsal;
mod sensitivity;
mod setting;

use serde::Serialize;
use undertone_data::{OverlapReport, ReadReport, TargetKind, View};
use undertone_report::{
    Table, columns, contrasts_table, count, ends_table, labels_table, means_table, metrics_table, summary_table,
    verdict,
};
use undertone_stats::{
    Arms, Attributed, AttributedGroup, Comparison, Heterogeneity, ItemRecord, KindMetrics, MeasureContrast,
    MeasureMean, Subset, Written, attributed_groups, compare, heterogeneity, item_differences, measure_contrasts,
    measure_means, measured, metrics,
};

use self::breakdowns::{Breakdown, breakdowns};
use self::sensitivity::{Sensitivity, by_reply_length, by_timing_margin, decomposition};
use self::setting::setting;
pub(crate) use self::setting::warnings;
use crate::amendments::Amendment;
use crate::arms::{Evaluated, Failed};
use crate::comparisons::{PairOfArms, pairs_of_arms, pairs_with_base};
use crate::error::StudyError;
use crate::experiment::Experiment;
use crate::jobs::first_messages::{Diversity, FirstMessages, first_message_diversity};
use crate::replies::OtherReplies;
use crate::study::Study;

/// The scores and texts of every arm.
#[derive(Clone, Copy)]
pub(crate) struct Scores<'a> {
    /// The arms, in order.
    pub(crate) arms: &'a [Evaluated],
    /// Their records in the same order, then those of baselines.
    pub(crate) records: &'a [Vec<ItemRecord>],
    /// Messages that they wrote.
    pub(crate) written: &'a [Written],
    /// What single thoughts did.
    pub(crate) attributed: &'a [Attributed],
    /// First messages from each model.
    pub(crate) first_messages: &'a [(String, Vec<FirstMessages>)],
    /// The primary comparison with other lengths of replies.
    pub(crate) other_replies: &'a [OtherReplies],
}

/// How the study went.
#[derive(Clone, Copy, Default)]
pub(crate) struct Course<'a> {
    /// One sentence per training: after which step it was scored.
    pub(crate) scored: &'a [String],
    /// Arms that failed.
    pub(crate) failed: &'a [Failed],
    /// Why the judge failed.
    pub(crate) judge_failed: Option<&'a StudyError>,
    /// Changes made after there were results.
    pub(crate) amendments: &'a [Amendment],
    /// Whether the study was registered, in sentences.
    pub(crate) registration: &'a [String],
}

/// The number of items of a kind, and how many of them are primary.
#[derive(Debug, Clone, Serialize)]
struct Coverage {
    kind: TargetKind,
    items: usize,
    primary: usize,
}

/// All results, as in `results.json`.
#[derive(Debug, Serialize)]
pub struct Results {
    name: String,
    synthetic: bool,
    experiment_sha256: String,
    base_model_sha256: String,
    data_sha256: String,
    read: ReadReport,
    overlap: Vec<OverlapReport>,
    coverage: Vec<Coverage>,
    metrics: Vec<KindMetrics>,
    /// What thoughts add: arms against arms.
    comparisons: Vec<Comparison>,
    /// Each comparison in words.
    verdicts: Vec<String>,
    /// What training adds: each trained arm against the untrained model under the same view.
    training_gains: Vec<Comparison>,
    /// Each training gain in words.
    training_verdicts: Vec<String>,
    /// Where thoughts help: the leading comparison by groups of items.
    breakdowns: Vec<Breakdown>,
    /// The leading comparison under other settings, and its parts.
    sensitivities: Vec<Sensitivity>,
    /// Which thoughts helped, by property.
    attribution: Vec<AttributedGroup>,
    /// Whether users differ in the leading comparison.
    heterogeneity: Option<Heterogeneity>,
    /// Metrics other than losses: the mean of each arm.
    measures: Vec<MeasureMean>,
    /// What thoughts add to these metrics.
    measure_contrasts: Vec<MeasureContrast>,
    first_messages: Vec<Diversity>,
    warnings: Vec<String>,
    /// Changes made after there were results.
    amendments: Vec<Amendment>,
    /// Whether the study was registered before it was scored, and what differs.
    registration: Vec<String>,
    #[serde(skip)]
    question: String,
    #[serde(skip)]
    setting: Vec<String>,
}

impl Results {
    /// Compares the arms.
    pub(crate) fn new(
        study: &Study,
        base_sha256: &str,
        scores: Scores<'_>,
        course: Course<'_>,
    ) -> Result<Self, StudyError> {
        let Scores { arms, records, written, attributed, first_messages, other_replies } = scores;
        let Course { scored, failed, judge_failed, amendments, registration } = course;
        let experiment = &study.experiment;
        // A comparison that became primary after there were results is corrected like the others, and a margin that was
        // changed then makes no ties.
        let may_be_primary = !amendments.iter().any(Amendment::is_of_primary);
        let mut rules = experiment.decision_rules();
        rules.margin = rules.margin.filter(|_| !amendments.iter().any(Amendment::is_of_margin));
        let pairs = [pairs_of_arms(experiment, arms), pairs_with_base(experiment, arms)];
        let of_arms = pairs[0].len();
        let pairs = pairs.concat();
        let arms_of = |pair: &PairOfArms| Arms {
            a: &records[pair.a],
            b: &records[pair.b],
            primary: pair.primary && may_be_primary,
        };
        let mut comparisons = compare(&pairs.iter().map(arms_of).collect::<Vec<_>>(), rules)?;
        let mut verdicts: Vec<String> =
            comparisons.iter().zip(&pairs).map(|(one, pair)| verdict(one, &pair.change)).collect();
        let (training_gains, training_verdicts) = (comparisons.split_off(of_arms), verdicts.split_off(of_arms));
        let leading = leading(&comparisons).map(|place| {
            let comparison = &comparisons[place];
            let records_of = |name: &str| {
                let place = arms.iter().position(|arm| arm.name == name).expect("every arm is evaluated");
                &records[place][..]
            };
            Arms { a: records_of(&comparison.arm_a), b: records_of(&comparison.arm_b), primary: false }
        });
        let heterogeneity = match (&leading, comparisons.iter().find_map(Comparison::headline)) {
            (Some(arms), Some(headline)) => {
                heterogeneity(&item_differences(arms, (headline.kind, headline.subset))?, rules.bootstrap)
            }
            _ => None,
        };
        let breakdowns = leading.map_or_else(|| Ok(Vec::new()), |arms| breakdowns(study, &arms))?;
        let sensitivities = [
            decomposition(experiment, arms, records, rules)?,
            by_reply_length(experiment, arms, records, other_replies, rules)?,
            by_timing_margin(experiment, arms, records, rules)?,
        ];
        let others = measured(records, written);
        let pairs: Vec<[&str; 2]> = comparisons.iter().map(|one| [one.arm_a.as_str(), one.arm_b.as_str()]).collect();
        let contrasts = measure_contrasts(&others, &pairs, experiment.decision_rules().bootstrap);
        let unknown_users = study.read.ids_of_other_shape + study.read.ids_missing;
        let shown: Vec<(&str, View)> = experiment.arms.iter().map(|arm| (arm.name.as_str(), arm.shown().0)).collect();
        Ok(Self {
            name: experiment.name.clone(),
            synthetic: experiment.data.synthetic,
            experiment_sha256: experiment.hash(),
            base_model_sha256: base_sha256.to_owned(),
            data_sha256: study.data_sha256.clone(),
            read: study.read.clone(),
            overlap: study.folds.iter().map(|fold| fold.overlap).collect(),
            coverage: coverage(&records[0]),
            metrics: metrics_by_kind(records)?,
            comparisons,
            verdicts,
            training_gains,
            training_verdicts,
            breakdowns,
            attribution: attributed_groups(attributed),
            heterogeneity,
            sensitivities: sensitivities.into_iter().flatten().collect(),
            measures: measure_means(&others),
            measure_contrasts: contrasts,
            first_messages: first_message_diversity(study, first_messages),
            warnings: failed
                .iter()
                .map(|Failed { arm, error }| {
                    format!("FAILED: the arm `{arm}` is left out of every comparison: {error}")
                })
                .chain(judge_failed.map(|error| format!("FAILED: the judge's ratings are left out: {error}")))
                .chain(amendments_in_words(amendments))
                .chain(warnings(experiment.data.synthetic, unknown_users, &study.stats.look_alike_users, &shown))
                .collect(),
            amendments: amendments.to_vec(),
            registration: registration.to_vec(),
            question: question(experiment),
            setting: registration.iter().cloned().chain(setting(study, scored)).collect(),
        })
    }

    /// What thoughts add, one sentence per comparison.
    pub fn verdicts(&self) -> &[String] {
        &self.verdicts
    }

    /// Every comparison, of arms and of training, with its verdict.
    fn all_comparisons(&self) -> impl Iterator<Item = (&Comparison, &String)> {
        let arm_comparisons = self.comparisons.iter().zip(&self.verdicts);
        arm_comparisons.chain(self.training_gains.iter().zip(&self.training_verdicts))
    }

    /// One table per kind and question.
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

    /// Metrics other than losses, kind by kind.
    fn other_metrics(&self) -> Vec<Table> {
        let kinds = || self.coverage.iter().map(|coverage| coverage.kind);
        let means = kinds().filter_map(|kind| means_table(&self.measures, kind));
        let contrasts = kinds().filter_map(|kind| contrasts_table(&self.measure_contrasts, kind));
        means.chain(contrasts).chain(ends_table(&self.metrics)).chain(self.first_messages_table()).collect()
    }

    fn first_messages_table(&self) -> Option<Table> {
        let row = |one: &Diversity| vec![one.arm.clone(), count(one.messages), format!("{:.1}", one.diversity)];
        (!self.first_messages.is_empty()).then(|| Table {
            title: "Generated first messages".to_owned(),
            header: columns(&["arm"], &["messages", "diversity"]),
            rows: self.first_messages.iter().map(row).collect(),
            notes: vec![
                "Diversity is 100 × (1 − the mean Jaccard index of the words of two messages) over all pairs of messages of one model, averaged over \
                 trainings; messages are sampled at temperature 1. Last row: real users."
                    .to_owned(),
            ],
        })
    }

    fn coverage_lines(&self) -> Vec<String> {
        let line = |coverage: &Coverage| {
            let share = 100.0 * coverage.primary as f64 / coverage.items as f64;
            format!(
                "{}: {} of {} items ({share:.0} %) are primary items: they follow an earlier user message, and before them each arm of the primary comparison that may see thoughts sees at least one.",
                coverage.kind, coverage.primary, coverage.items
            )
        };
        self.coverage.iter().map(line).collect()
    }

    /// For a terminal: warnings, the summary, every arm.
    pub fn terminal(&self) -> String {
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
        for table in labels_table(&self.metrics).into_iter().chain(self.other_metrics()) {
            text += &format!("{}\n", table.terminal());
        }
        text
    }
}

/// The metrics of every arm, kind by kind.
fn metrics_by_kind(records: &[Vec<ItemRecord>]) -> Result<Vec<KindMetrics>, StudyError> {
    let of_arm = |records: &Vec<ItemRecord>| metrics(records).map_err(|fault| StudyError::Scores(fault.to_string()));
    let mut all = records.iter().map(of_arm).collect::<Result<Vec<_>, _>>()?.concat();
    all.sort_by_key(|metrics| metrics.kind);
    Ok(all)
}

fn amendments_in_words(amendments: &[Amendment]) -> Option<String> {
    let all: Vec<String> = amendments.iter().map(ToString::to_string).collect();
    (!all.is_empty()).then(|| {
        format!(
            "CHANGED after there were results: {}. Results that depend on such a change are exploratory: confirm them on other users.",
            all.join("; ")
        )
    })
}

/// The kinds that occur, with their numbers of items, which are the same in every arm.
fn coverage(records: &[ItemRecord]) -> Vec<Coverage> {
    let covered = |kind: TargetKind| {
        let items = records.iter().filter(|record| record.kind == kind);
        let primary = items.clone().filter(|record| record.primary).count();
        Coverage { kind, items: items.count(), primary }
    };
    TargetKind::ALL.into_iter().map(covered).filter(|coverage| coverage.items > 0).collect()
}

/// The place of the leading comparison: the primary one, or the first if none is primary.
fn leading(comparisons: &[Comparison]) -> Option<usize> {
    let primary = comparisons.iter().position(|comparison| comparison.primary);
    primary.or((!comparisons.is_empty()).then_some(0))
}

fn question(experiment: &Experiment) -> String {
    let in_words = |kind: &TargetKind| match kind {
        TargetKind::NextPrompt => "next messages",
        TargetKind::Reaction => "reactions to replies",
        TargetKind::ReactionLabel => "kinds of reaction",
        TargetKind::Reason => "reasons for messages",
        TargetKind::ReasonLabel => "kinds of reason",
        TargetKind::ConversationEnd => "ends of conversations",
    };
    let targets: Vec<&str> = experiment.data.targets.iter().map(in_words).collect();
    format!(
        "How well are users' {} predicted by models that see the users' thoughts, and by models that do not?",
        targets.join(", ")
    )
}
