//! Results for people: tables, sentences, plots, and a study as one HTML page that needs no network.
//!
//! The page shows the question, the answer and its forest plot first, then tables, learning curves and
//! breakdowns, then every conversation with each token shaded by the effect of thoughts on its loss. Input: a
//! [`Report`], plain data. Output: HTML and SVG as text. Everything that comes from data is escaped: by maud in the
//! markup, by the browser's `textContent` in the explorer. Numbers are rounded here and nowhere else; `results.json`
//! has them exactly.

#![warn(clippy::unwrap_used)]

mod caterpillar;
mod curves;
#[cfg(test)]
mod example;
mod explorer;
mod forest;
mod measure_tables;
mod numbers;
mod page;
mod scale;
mod table;
mod tables;
mod words;

pub use caterpillar::caterpillar;
pub use curves::{Curve, curves};
pub use explorer::{Explorer, SeenThoughts, ShownConversation, ShownItem, ShownMessage, ShownThought};
pub use forest::{ForestRow, forest};
pub use measure_tables::{attribution_table, contrasts_table, ends_table, means_table};
pub use numbers::{count, decimal, interval, or_nothing, shown_interval, signed};
pub use page::{Report, Section, page};
pub use table::{Column, Table, columns, one_line};
pub use tables::{comparison_table, evidence_table, labels_table, metrics_table, summary_table};
pub use words::{decisions_in_words, heterogeneity_in_words, scope_note, verdict};
