//! Item records, and statistics of them: metrics of an arm, paired comparisons of arms, agreement of texts. No tensors.
//!
//! [`metrics()`] sums up the [`ItemRecord`]s of one arm, [`compare()`] contrasts two arms on the same items with
//! intervals resampled by user, and [`measure_contrasts`] does so for numbers that are not losses.

#![warn(clippy::unwrap_used)]

mod compare;
mod inference;
mod measures;
mod metrics;
mod parquet;
mod record;
mod text;
mod unigram;
mod written;

pub use compare::{
    Arms, Comparison, Contrast, Disagreement, NotComparable, PairedLosses, Rules, Subset, by_group, compare, counted,
};
pub use inference::{
    ALPHA, BootstrapOptions, Decision, ENOUGH_USERS, Estimate, Evidence, Inference, Interval, Intervals, MIN_DRAWS,
    SignFlip, StandardError, UserSums, holm, mean_of_user_means, ratio, sum_by_user,
};
pub use measures::{Measure, MeasureContrast, MeasureMean, Measured, measure_contrasts, measure_means, measured};
pub use metrics::{ClassMetrics, KindMetrics, LabelMetrics, metrics};
pub use parquet::parquet;
pub use record::{
    Distractor, ItemRecord, ItemScores, LabelOutcome, RecordFault, RecordProblem, check_records, read_records,
    write_records,
};
pub use text::{chrf, diversity, rouge_l};
pub use unigram::unigram;
pub use written::{Likeness, Written, read_written, written_lines};
