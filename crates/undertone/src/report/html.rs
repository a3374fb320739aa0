//! The study as a page.

use undertone_eval::{
    Comparison, comparison_table, decided_in_words, evidence_table, labels_table, metrics_table, signed,
};
use undertone_report::{Curve, ForestRow, Report, Section, curves, forest, page};

use super::breakdown::many_comparisons;
use super::explorer::explorer;
use super::{Results, Scores, leading};
use crate::keys::PROGRAM;
use crate::study::Study;

/// A file of the report: its name and what it holds.
pub(crate) type File = (String, String);

impl Results<'_> {
    /// `report.html`, and every plot as an SVG file.
    pub(crate) fn html(&self, study: &Study, scores: Scores<'_>, curves_of_arms: Vec<Curve>) -> Vec<File> {
        let report = self.report(study, scores, curves_of_arms);
        let unit = "difference in nats per token; below zero is better";
        let svg = |name: &str, plot: String| (format!("plots/{name}.svg"), plot);
        let mut files = vec![("report.html".to_owned(), page(&report))];
        files.push(svg("comparisons", forest(&report.forest, unit, report.margin).into_string()));
        for section in report.sections.iter().filter(|section| !section.forest.is_empty()) {
            files.push(svg(&section.slug(), forest(&section.forest, unit, report.margin).into_string()));
        }
        if !report.curves.is_empty() {
            files.push(svg("learning-curves", curves(&report.curves).into_string()));
        }
        files
    }

    fn report(&self, study: &Study, scores: Scores<'_>, curves: Vec<Curve>) -> Report {
        let lead = leading(&self.comparisons);
        let headline = lead.and_then(Comparison::headline);
        let number = headline.and_then(|contrast| {
            let ratio = contrast.losses.as_ref()?.difference.ratio;
            let interval = shown_interval(contrast)?;
            Some(format!("{} nats per token, 95 % interval {interval}", signed(ratio.value)))
        });
        let chosen = lead.map_or(["", ""], |comparison| [&comparison.arm_a, &comparison.arm_b]);
        let mut sections = vec![Section {
            title: "Comparisons".into(),
            introduction: String::new(),
            forest: Vec::new(),
            tables: self.summaries(),
        }];
        let others = self.other_measures();
        if !others.is_empty() {
            let (title, introduction) = ("Besides losses".into(), String::new());
            sections.push(Section { title, introduction, forest: Vec::new(), tables: others });
        }
        for (place, breakdown) in self.breakdowns.iter().enumerate() {
            let is_first = place == 0;
            sections.push(Section {
                title: format!("By {}", breakdown.dimension()),
                introduction: if is_first { many_comparisons(&self.breakdowns) } else { String::new() },
                forest: breakdown.forest(),
                tables: vec![breakdown.table()],
            });
        }
        let mut arms = vec![metrics_table(&self.metrics)];
        arms.extend(labels_table(&self.metrics));
        let every_arm =
            Section { title: "Every arm".into(), introduction: String::new(), forest: Vec::new(), tables: arms };
        let all = self.comparisons.iter().chain(&self.training_gains);
        let every_comparison = Section {
            title: "Every comparison".into(),
            introduction: "All intervals, tests and sizes of each comparison, on each subset of items.".into(),
            forest: Vec::new(),
            tables: all.flat_map(|comparison| [comparison_table(comparison), evidence_table(comparison)]).collect(),
        };
        Report {
            name: self.name.to_owned(),
            question: self.question.clone(),
            answer: lead.map_or_else(|| "Nothing is compared.".to_owned(), |lead| lead.verdict().to_owned()),
            number: number.unwrap_or_default(),
            decided: decided_in_words(&self.comparisons),
            warnings: self.warnings.clone(),
            forest: self.comparisons.iter().filter_map(forest_row).collect(),
            margin: study.experiment.evaluation.margin,
            setting: self.setting.iter().cloned().chain(self.coverage_lines()).collect(),
            sections,
            details: vec![every_arm, every_comparison],
            curves,
            explorer: explorer(study, scores, chosen),
            provenance: vec![
                PROGRAM.to_owned(),
                format!("experiment sha256 {}", self.experiment_sha256),
                format!("data sha256 {}", self.data_sha256),
                format!("base model sha256 {}", self.base_model_sha256),
            ],
        }
    }
}

/// The interval that is shown of a contrast: Student's t where users are few.
fn shown_interval(contrast: &undertone_eval::Contrast) -> Option<undertone_eval::Interval> {
    let difference = &contrast.losses.as_ref()?.difference;
    let intervals = difference.ratio.intervals?;
    Some(if difference.too_few_users { intervals.student_t } else { intervals.bca })
}

/// The leading contrast of a comparison as a line of the plot.
fn forest_row(comparison: &Comparison) -> Option<ForestRow> {
    let contrast = comparison.headline()?;
    let losses = contrast.losses.as_ref()?;
    let value = losses.difference.ratio.value;
    Some(ForestRow {
        name: format!("{} − {}", comparison.arm_b, comparison.arm_a),
        value,
        interval: shown_interval(contrast),
        decision: losses.evidence.decision,
        numbers: format!("{} · {}", signed(value), losses.evidence.decision),
        primary: comparison.primary,
    })
}
