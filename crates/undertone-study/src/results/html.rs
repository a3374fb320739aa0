//! The results as an HTML page.

use undertone_report::{
    Curve, ForestRow, Report, Section, attribution_table, caterpillar, comparison_table, curves, decisions_in_words,
    evidence_table, forest, heterogeneity_in_words, interval, labels_table, metrics_table, page, shown_interval,
    signed,
};
use undertone_stats::{Comparison, Decision};

use super::breakdowns::many_comparisons;
use super::explorer::{explorer, redact_texts};
use super::{Results, Scores, leading};
use crate::fingerprint::PROGRAM;
use crate::study::Study;

/// A file of the report: its name and its content.
pub(crate) type File = (String, String);

impl Results {
    /// `report.html`, and every plot as an SVG file.
    pub(crate) fn html(
        &self,
        study: &Study,
        scores: Scores<'_>,
        curves_of_arms: Vec<Curve>,
        redact: bool,
    ) -> Vec<File> {
        let mut report = self.report(study, scores, curves_of_arms);
        if redact {
            redact_texts(&mut report.explorer);
        }
        let unit = "difference in nats per token; below zero, b is better";
        let svg = |name: &str, plot: String| (format!("plots/{name}.svg"), plot);
        let mut files = vec![("report.html".to_owned(), page(&report))];
        files.push(svg("comparisons", forest(&report.forest, unit, report.margin).into_string()));
        for section in report.sections.iter().filter(|section| !section.forest.is_empty()) {
            files.push(svg(&section.slug(), forest(&section.forest, unit, report.margin).into_string()));
        }
        if let Some(users) = &self.heterogeneity {
            files.push(svg("users", caterpillar(&users.users).into_string()));
        }
        if !report.curves.is_empty() {
            files.push(svg("learning-curves", curves(&report.curves).into_string()));
        }
        files
    }

    fn report(&self, study: &Study, scores: Scores<'_>, curves: Vec<Curve>) -> Report {
        let place = leading(&self.comparisons);
        let lead = place.map(|place| &self.comparisons[place]);
        let headline = lead.and_then(Comparison::headline);
        let number = headline.and_then(|contrast| {
            let difference = &contrast.losses.as_ref()?.difference;
            let shown = interval(shown_interval(difference)?);
            let scope = if difference.ratio.interval.is_some() {
                "over other users and trainings"
            } else {
                "of these trained models"
            };
            Some(format!("{} nats per token, 95 % interval {scope} {shown}", signed(difference.ratio.value)))
        });
        let chosen = lead.map_or(["", ""], |comparison| [&comparison.arm_a, &comparison.arm_b]);
        Report {
            name: self.name.to_owned(),
            question: self.question.clone(),
            answer: place.map_or_else(|| "Nothing is compared.".to_owned(), |place| self.verdicts[place].clone()),
            number: number.unwrap_or_default(),
            decided: decisions_in_words(&self.comparisons),
            warnings: self.warnings.clone(),
            forest: self.comparisons.iter().filter_map(forest_row).collect(),
            margin: study.experiment.evaluation.margin,
            setting: self.setting.iter().cloned().chain(self.coverage_lines()).collect(),
            sections: self.sections(),
            details: self.details(),
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

    /// The sections between the first plot and the explorer.
    fn sections(&self) -> Vec<Section> {
        let mut sections =
            vec![Section { title: "Comparisons".into(), tables: self.summaries(), ..Section::default() }];
        let others = self.other_metrics();
        if !others.is_empty() {
            sections.push(Section { title: "Other metrics".into(), tables: others, ..Section::default() });
        }
        sections.extend(self.sensitivities.iter().map(|sensitivity| Section {
            title: format!("By {}", sensitivity.setting()),
            forest: sensitivity.forest(),
            tables: vec![sensitivity.table()],
            ..Section::default()
        }));
        if let Some(table) = attribution_table(&self.attribution) {
            sections.push(Section { title: "Which thought helped".into(), tables: vec![table], ..Section::default() });
        }
        if let Some(users) = &self.heterogeneity {
            sections.push(Section {
                title: "By user".into(),
                introduction: heterogeneity_in_words(users),
                users: users.users.clone(),
                ..Section::default()
            });
        }
        sections.extend(self.breakdowns.iter().enumerate().map(|(place, breakdown)| Section {
            title: format!("By {}", breakdown.dimension()),
            introduction: if place == 0 { many_comparisons(&self.breakdowns) } else { String::new() },
            forest: breakdown.forest(),
            tables: vec![breakdown.table()],
            ..Section::default()
        }));
        sections
    }

    /// The sections after the explorer.
    fn details(&self) -> Vec<Section> {
        let mut arms = vec![metrics_table(&self.metrics)];
        arms.extend(labels_table(&self.metrics));
        let tables = |(comparison, verdict): (&Comparison, &String)| {
            [comparison_table(comparison, verdict), evidence_table(comparison)]
        };
        vec![
            Section { title: "Every arm".into(), tables: arms, ..Section::default() },
            Section {
                title: "Every comparison".into(),
                introduction: "All intervals, tests and variances of each comparison, for each subset of items.".into(),
                tables: self.all_comparisons().flat_map(tables).collect(),
                ..Section::default()
            },
        ]
    }
}

/// The headline contrast of a comparison as a row of the forest plot.
fn forest_row(comparison: &Comparison) -> Option<ForestRow> {
    let contrast = comparison.headline()?;
    let losses = contrast.losses.as_ref()?;
    let difference = &losses.difference;
    let value = difference.ratio.value;
    Some(ForestRow {
        name: format!("{} − {}", comparison.arm_b, comparison.arm_a),
        value,
        interval: shown_interval(difference),
        decision: losses.evidence.map_or(Decision::Undecided, |evidence| evidence.decision),
        numbers: losses
            .evidence
            .map_or_else(|| signed(value), |evidence| format!("{} · {}", signed(value), evidence.decision)),
        primary: comparison.primary,
    })
}
