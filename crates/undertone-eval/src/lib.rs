//! Scores, metrics, paired statistics and reports. Never changes a weight.
//!
//! [`score()`] turns streams into [`ItemRecord`]s, [`metrics()`] sums them up for one arm, and
//! [`compare()`] contrasts two arms on the same items with intervals resampled by user.

#![warn(clippy::unwrap_used)]

mod bootstrap;
mod compare;
mod metrics;
mod record;
mod score;
mod table;

pub use bootstrap::{
    BootstrapOptions, ENOUGH_USERS, Estimate, Interval, MIN_DRAWS, UserEstimates, UserSums, estimate,
    mean_of_user_means, ratio, signed, student_t, sum_by_user,
};
pub use compare::{Comparison, Contrast, NotComparable, PairedLosses, Subset, compare};
pub use metrics::{ClassMetrics, KindMetrics, LabelMetrics, metrics};
pub use record::{ItemRecord, LabelOutcome, RecordFault, RecordProblem, check_records, read_records, write_records};
pub use score::{nats_by_target, score, total_nats};
pub use table::{Column, Table, columns, comparison_table, count, decimal, labels_table, metrics_table, summary_table};
