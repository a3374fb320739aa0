//! Scores, metrics, paired statistics and reports. Never changes a weight.
//!
//! [`score()`] turns streams into [`ItemRecord`]s, [`metrics()`] sums them up for one arm, and
//! [`compare()`] contrasts two arms on the same items with intervals resampled by user.

#![warn(clippy::unwrap_used)]

mod columns;
mod compare;
mod inference;
mod measure_tables;
mod measures;
mod metrics;
mod record;
mod score;
mod table;
mod tables;
mod text;
mod unigram;
mod written;

pub use columns::parquet;
pub use compare::{
    Arms, Comparison, Contrast, NotComparable, PairedLosses, Rules, Subset, by_group, compare, decided_in_words,
};
pub use inference::{
    ALPHA, BootstrapOptions, Decision, ENOUGH_USERS, Estimate, Evidence, Inference, Interval, Intervals, MIN_DRAWS,
    SignFlip, StandardError, UserSums, holm, mean_of_user_means, ratio, signed, sum_by_user,
};
pub use measure_tables::{contrasts_table, ends_table, means_table};
pub use measures::{Measure, MeasureContrast, MeasureMean, Measured, measure_contrasts, measure_means, measured};
pub use metrics::{ClassMetrics, KindMetrics, LabelMetrics, metrics};
pub use record::{
    Distractor, ItemRecord, LabelOutcome, RecordFault, RecordProblem, check_records, read_records, write_records,
};
pub use score::{KnownRows, score, total_nats};
pub use table::{Column, Table, columns, count, decimal};
pub use tables::{comparison_table, evidence_table, labels_table, metrics_table, summary_table};
pub use text::{chrf, diversity, rouge_l};
pub use unigram::unigram;
pub use written::{Likeness, Written, read_written, sample_of_items, write, written_lines};
