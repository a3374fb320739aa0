//! What a study found, for a terminal, as Markdown and as JSON, from one list of tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use undertone_data::{Source, Split, TargetKind, Timing, View};
use undertone_eval::{
    Arms, Comparison, ItemRecord, KindMetrics, Subset, Table, compare, comparison_table, evidence_table, labels_table,
    metrics, metrics_table, summary_table,
};
use undertone_model::MatmulPrecision;

use crate::experiment::{Arm, Declared, Experiment};
use crate::study::{Coverage, Evaluated, FoldData, Study};

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
    warnings: Vec<String>,
    #[serde(skip)]
    question: String,
    #[serde(skip)]
    setting: Vec<String>,
}

impl<'a> Results<'a> {
    /// Compares the arms' records, given in the order of [`Study::evaluated`].
    pub(crate) fn new(
        study: &'a Study,
        base_sha256: &'a str,
        arms: &[Evaluated],
        records: &[Vec<ItemRecord>],
        scored: &[String],
    ) -> anyhow::Result<Self> {
        let experiment = &study.experiment;
        let family = |pairs: Vec<PairOfArms>| {
            let arms = |pair: PairOfArms| Arms { a: &records[pair.a], b: &records[pair.b], primary: pair.primary };
            compare(&pairs.into_iter().map(arms).collect::<Vec<_>>(), experiment.rules())
        };
        let comparisons = family(pairs_of_arms(experiment, arms))?;
        let training_gains = family(pairs_with_base(experiment, arms))?;
        let all: Vec<ItemRecord> = records.concat();
        let unknown_users = study.read.ids_of_other_shape + study.read.ids_missing;
        let shown: Vec<(&str, View)> = experiment.arms.iter().map(|arm| (arm.name.as_str(), arm.shown().0)).collect();
        let first = &records[0];
        let mut coverage: Vec<Coverage> = Vec::new();
        for kind in TargetKind::ALL {
            let of_kind = || first.iter().filter(move |record| record.kind == kind);
            if of_kind().count() > 0 {
                coverage.push(Coverage {
                    kind,
                    items: of_kind().count(),
                    primary: of_kind().filter(|record| record.primary).count(),
                });
            }
        }
        Ok(Self {
            name: &experiment.name,
            synthetic: experiment.data.synthetic,
            experiment_sha256: experiment.hash(),
            base_model_sha256: base_sha256,
            data_sha256: &study.data_sha256,
            read: &study.read,
            overlap: study.folds.iter().map(|fold| &fold.overlap).collect(),
            coverage,
            metrics: metrics(&all)?,
            comparisons,
            training_gains,
            warnings: warnings(experiment.data.synthetic, unknown_users, &shown),
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
                "{}: {} of {} items ({share:.0} %) are primary: they follow an earlier message and have an earlier thought visible in every arm that sees any.",
                coverage.kind, coverage.primary, coverage.items
            )
        };
        self.coverage.iter().map(line).collect()
    }

    /// For a terminal: warnings, the summary, every arm.
    pub(crate) fn terminal(&self) -> String {
        let mut text = format!("\n{}\n\n", self.question);
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
        text += "\n## Every comparison\n\n";
        for comparison in self.comparisons.iter().chain(&self.training_gains) {
            text += &format!("{}\n", comparison_table(comparison).markdown());
            text += &format!("{}\n", evidence_table(comparison).markdown());
        }
        text
    }
}

/// Two arms to compare, by their places among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PairOfArms {
    a: usize,
    b: usize,
    primary: bool,
}

/// Which arms are compared: those the file declares, or the first arm with every other and shuffled thoughts with
/// the user's own, of which the first is primary.
fn pairs_of_arms(experiment: &Experiment, arms: &[Evaluated]) -> Vec<PairOfArms> {
    let index = |name: &str| arms.iter().position(|arm| arm.name == name).expect("every arm is evaluated");
    if !experiment.comparisons.is_empty() {
        let pair = |Declared { a, b, primary }: &Declared| PairOfArms { a: index(a), b: index(b), primary: *primary };
        return experiment.comparisons.iter().map(pair).collect();
    }
    let (first, others) = experiment.arms.split_first().expect("an experiment has an arm");
    let mut pairs: Vec<(usize, usize)> = others.iter().map(|arm| (index(&first.name), index(&arm.name))).collect();
    for arm in experiment.arms.iter().filter(|arm| arm.source != Source::Own) {
        let is_own = |own: &&Arm| own.source == Source::Own && (own.view, own.timing) == (arm.view, arm.timing);
        let own = experiment.arms.iter().filter(is_own).find(|own| own.trained_as.is_none());
        pairs.extend(own.map(|own| (index(&arm.name), index(&own.name))));
    }
    let mut seen = BTreeSet::new();
    pairs.retain(|pair| seen.insert(*pair));
    pairs.into_iter().enumerate().map(|(place, (a, b))| PairOfArms { a, b, primary: place == 0 }).collect()
}

/// Each arm with a training of its own, and before it the untrained model that sees the same.
fn pairs_with_base(experiment: &Experiment, arms: &[Evaluated]) -> Vec<PairOfArms> {
    let trained = experiment.arms.iter().filter(|arm| arm.trained_as.is_none());
    trained
        .filter_map(|arm| {
            let a = arms.iter().position(|base| base.trained.is_none() && base.shown == arm.shown())?;
            let b = arms.iter().position(|other| other.name == arm.name)?;
            Some(PairOfArms { a, b, primary: false })
        })
        .collect()
}

fn question(experiment: &Experiment) -> String {
    let targets: Vec<&str> = experiment.data.targets.iter().map(|kind| kind.key()).collect();
    format!(
        "Study `{}`: how well is {} predicted, in nats per token, by models that see a user's thoughts and models that do not?",
        experiment.name,
        targets.join(", ")
    )
}

/// What a reader must not overlook about these arms and their views.
pub(crate) fn warnings(synthetic: bool, unknown_users: usize, arms: &[(&str, View)]) -> Vec<String> {
    let named = |which: &dyn Fn(&View) -> bool| {
        let names: Vec<&str> = arms.iter().filter(|(_, view)| which(view)).map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let mut warnings = Vec::new();
    if synthetic {
        warnings.push("SYNTHETIC data: this proves the wiring, and nothing about people.".to_owned());
    }
    if unknown_users > 0 {
        warnings.push(format!("UNKNOWN USERS: {unknown_users} conversations have ids that do not name a user, so each counts as a user of its own; splits and intervals are by conversation there."));
    }
    let oracle = named(&View::is_oracle);
    if !oracle.is_empty() {
        warnings.push(format!("ORACLE arms see the target's own reason, which nobody has before the message is written: {oracle}. A ceiling, never a prediction."));
    }
    let anchored = named(&|view| view.sees_thoughts() && view.timing == Timing::Anchored);
    if !anchored.is_empty() {
        warnings.push(format!("ANCHORED arms see thoughts whenever they were written, also after the target: {anchored}. A claim about prediction rests on strict arms."));
    }
    warnings
}

/// What the test conversations hide from an arm, counted.
fn hidden(study: &Study, arm: &Arm) -> String {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for fold in 0..study.folds.len() {
        for stream in study.test_streams(arm.shown(), fold, Split::Test) {
            let counts = serde_json::to_value(stream.hidden).expect("counts are plain data");
            for (name, count) in counts.as_object().into_iter().flatten() {
                *sums.entry(name.replace('_', " ")).or_default() += count.as_u64().unwrap_or_default();
            }
        }
    }
    let shown: Vec<String> =
        sums.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    match shown.is_empty() {
        true => "Nothing is hidden or cut.".into(),
        false => format!("Hidden or cut in testing: {}.", shown.join(", ")),
    }
}

/// What was compared: data, split, cuts, training, and which checkpoint of each arm was scored.
fn setting(study: &Study, scored: &[String]) -> Vec<String> {
    let Study { experiment, stats, read, folds, .. } = study;
    let mut lines = vec![format!(
        "{} conversations of {} users; {} messages of users after their first; {} lines skipped.",
        stats.conversations, stats.users, stats.user_messages_after_first, read.skipped_lines
    )];
    let timing = &stats.timing;
    lines.push(format!(
        "Of {} thoughts that precede a user message, {} were written before it was sent, {} after, {} at an unknown time.",
        timing.precede_a_user_message, timing.before, timing.late, timing.unknown
    ));
    let count = |fold: &FoldData, split| fold.users.get(&split).copied().unwrap_or(0);
    let users = |split| folds.iter().map(|fold| count(fold, split).to_string()).collect::<Vec<_>>().join(", ");
    lines.push(format!(
        "{} users train, {} validate, {} test{}; no user, task or conversation id is in two of them (checked).",
        users(Split::Train),
        users(Split::Validation),
        users(Split::Test),
        if folds.len() > 1 { " (by fold; every user is tested exactly once)" } else { "" }
    ));
    let (windows, short) = folds[0].corpus.window_counts();
    lines.push(format!(
        "{windows} windows of at most {} tokens, shared by all arms; in {short} of them a long message leaves some target less than half a context of history. Assistant messages are context of at most {} tokens, shortened in the middle.",
        experiment.data.context_tokens, experiment.data.assistant_tokens
    ));
    let too_long: BTreeSet<&String> = folds.iter().flat_map(|fold| fold.corpus.too_long()).collect();
    if !too_long.is_empty() {
        let ids: Vec<&str> = too_long.iter().take(5).map(|id| id.as_str()).collect();
        lines.push(format!(
            "Left out because a target is longer than the context in some arm{}: {} conversation{} ({}{}).",
            if folds.len() > 1 { " of at least one fold" } else { "" },
            too_long.len(),
            if too_long.len() == 1 { "" } else { "s" },
            ids.join(", "),
            if too_long.len() > ids.len() { ", …" } else { "" }
        ));
    }
    let lossy = folds[0].corpus.lossy_texts();
    if lossy > 0 {
        lines.push(format!(
            "{lossy} messages or thoughts hold bytes that the model's vocabulary lacks; those bytes are lost."
        ));
    }
    lines.push(format!(
        "{} pairs of near-duplicate tasks of different users{}.",
        stats.near_duplicate_tasks.pairs,
        if stats.near_duplicate_tasks.complete { "" } else { " (the search stopped early: at least so many)" }
    ));
    let training = &experiment.training;
    lines.push(format!(
        "{} epochs of {} windows a step, peak learning rate {:.1e}, {}, from the same weights in every arm.",
        training.epochs,
        training.conversations_per_step,
        training.learning_rate,
        match experiment.training_seeds().as_slice() {
            [seed] => format!("seed {seed}"),
            seeds => format!("seeds {seeds:?}, each arm trained with each"),
        }
    ));
    let precision = experiment.model.matmul_precision;
    if precision != MatmulPrecision::Highest {
        let instead = if precision.is_supported() { "" } else { "; this CPU has no quicker ones, so they were in f32" };
        lines.push(format!("`matmul_precision` is `{}`{instead}.", format!("{precision:?}").to_lowercase()));
    }
    let own_targets = experiment.arms.iter().any(|arm| arm.targets.is_some());
    lines.push(match own_targets || training.patience_validations > 0 {
        false => "Every trained arm takes the same steps over the same windows in the same order.".into(),
        true => "Arms may differ in their steps: some train on targets of their own, or stop early.".into(),
    });
    lines.extend(scored.iter().cloned());
    for arm in &experiment.arms {
        let (view, source) = arm.shown();
        let shuffled = if source == Source::Shuffled { "; the thoughts are other users' (shuffled)" } else { "" };
        let trained = match &arm.trained_as {
            Some(other) if source == Source::Shuffled => {
                format!("; the model trained as `{other}`: its reliance on thoughts, not a placebo it was trained with")
            }
            Some(other) => format!("; the model trained as `{other}`"),
            None => String::new(),
        };
        lines.push(format!("Arm `{}`: sees {view}{shuffled}{trained}. {}", arm.name, hidden(study, arm)));
    }
    lines
}
