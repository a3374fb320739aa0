//! The HTML page of a study.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use undertone_stats::UserDifference;

use crate::caterpillar::caterpillar;
use crate::curves::{Curve, curves};
use crate::explorer::Explorer;
use crate::forest::{ForestRow, forest};
use crate::table::Table;

/// A study, ready to be shown.
#[derive(Debug, Clone)]
pub struct Report {
    /// The study's name.
    pub name: String,
    /// What was asked.
    pub question: String,
    /// The result in a sentence.
    pub answer: String,
    /// The number of the answer with its interval, such as `−0.062 (−0.140 to −0.007) nats per token`.
    pub number: String,
    /// Which comparisons are decided, and which are not.
    pub decided: Vec<String>,
    /// Warnings, shown above the first plot.
    pub warnings: Vec<String>,
    /// The comparisons, for the first plot.
    pub forest: Vec<ForestRow>,
    /// The declared margin of a tie, in nats per token.
    pub margin: Option<f64>,
    /// How the study was made, a line each.
    pub setting: Vec<String>,
    /// Sections between the first plot and the explorer, in order.
    pub sections: Vec<Section>,
    /// Sections after the explorer, with the details behind the results.
    pub details: Vec<Section>,
    /// Training loss by step.
    pub curves: Vec<Curve>,
    /// The conversations.
    pub explorer: Explorer,
    /// Program, experiment, data and base model, by hash.
    pub provenance: Vec<String>,
}

/// Tables and plots under one heading.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// A paragraph above the plot and the tables, if there is one.
    pub introduction: String,
    /// The rows of a forest plot, if there is one.
    pub forest: Vec<ForestRow>,
    /// Users' differences, for a caterpillar plot; empty for none.
    pub users: Vec<UserDifference>,
    /// The tables.
    pub tables: Vec<Table>,
}

/// The whole page as HTML: one file, nothing to fetch.
pub fn page(report: &Report) -> String {
    let Report { name, question, answer, number, decided, warnings, setting, sections, details, provenance, .. } =
        report;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is fetched and nothing is sent, whatever the data contain.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
                title { (name) }
                style { (PreEscaped(include_str!("../assets/page.css"))) }
            }
            body {
                header {
                    p.kicker { "Study " b { (name) } }
                    h1 { (marked(question)) }
                    p.answer { (marked(answer)) }
                    p.number { (number) }
                    @for sentence in decided { p.decided { (marked(sentence)) } }
                    @for warning in warnings { p.warning { (marked(warning)) } }
                    (forest(&report.forest, "difference in nats per token; below zero, b is better", report.margin))
                    nav {
                        @for section in sections { (link(section)) }
                        @if !report.curves.is_empty() { a href="#curves" { "Learning curves" } }
                        a href="#explorer" { "Explorer" }
                        @for section in details { (link(section)) }
                        a href="#setting" { "Methods" }
                    }
                }
                main {
                    @for section in sections { (shown_section(section, report.margin)) }
                    @if !report.curves.is_empty() {
                        section #curves { h2 { "Learning curves" } (curves(&report.curves)) }
                    }
                    (explorer(&report.explorer))
                    @for section in details { (shown_section(section, report.margin)) }
                    section #setting {
                        h2 { "Methods" }
                        ul { @for line in setting { li { (marked(line)) } } }
                        ul.provenance { @for line in provenance { li { code { (line) } } } }
                    }
                }
            }
        }
    };
    page.into_string()
}

impl Section {
    /// The title as an anchor or a file name: lower-case letters, digits and hyphens.
    pub fn slug(&self) -> String {
        self.title.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    }
}

fn link(section: &Section) -> Markup {
    html! { a href=(format!("#{}", section.slug())) { (section.title) } }
}

fn shown_section(section: &Section, margin: Option<f64>) -> Markup {
    html! {
        section id=(section.slug()) {
            h2 { (section.title) }
            @if !section.introduction.is_empty() { p { (marked(&section.introduction)) } }
            @if !section.forest.is_empty() { (forest(&section.forest, "difference in nats per token; below zero, b is better", margin)) }
            @if !section.users.is_empty() { (caterpillar(&section.users)) }
            @for table in &section.tables { (shown_table(table)) }
        }
    }
}

fn shown_table(table: &Table) -> Markup {
    let class = |numeric: bool| if numeric { "numeric" } else { "" };
    html! {
        figure {
            figcaption { (marked(&table.title)) }
            .scroll {
                table {
                    thead { tr { @for column in &table.header { th class=(class(column.numeric)) { (column.name) } } } }
                    tbody {
                        @for row in &table.rows {
                            tr {
                                @for (cell, column) in row.iter().zip(&table.header) {
                                    td class=(class(column.numeric)) { (cell) }
                                }
                            }
                        }
                    }
                }
            }
            @for note in &table.notes { p.note { (marked(note)) } }
        }
    }
}

fn explorer(explorer: &Explorer) -> Markup {
    html! {
        section #explorer {
            h2 { "Explorer" }
            @if explorer.left_out > 0 {
                p.warning {
                    "This page shows the " (explorer.conversations.len()) " conversations in which the chosen arms differ most; "
                    (explorer.left_out) " are left out, and are in the records."
                }
            }
            .controls {
                label { "compare " select #arm-b {} }
                label { "with " select #arm-a {} }
                label {
                    "order "
                    select #order {
                        option value="file" { "as in the data" }
                        option value="help" { "largest help first" }
                        option value="harm" { "largest harm first" }
                    }
                }
                span.legend { span.helped { "lower loss" } " " span.hurt { "higher loss" } " in the first of the two arms" }
                span.keys { kbd { "j" } " " kbd { "k" } " next, previous conversation" }
            }
            .columns {
                ol #list tabindex="0" aria-label="Conversations" {}
                article #chat aria-live="polite" {}
            }
            noscript { p.warning { "The explorer needs JavaScript; everything else on this page does not." } }
            script #explorer-data type="application/json" { (PreEscaped(explorer.json())) }
            script { (PreEscaped(include_str!("../assets/explorer.js"))) }
        }
    }
}

/// Text whose backticked parts become `code` elements, as in Markdown.
fn marked(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
