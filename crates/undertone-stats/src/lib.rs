//! Item records and their statistics: metrics per arm, paired comparisons of two arms, text similarity. No tensors.
//!
//! [`metrics()`] summarises the [`ItemRecord`]s of each arm. [`compare()`] compares two arms on the same items, with
//! intervals from a bootstrap over users. [`measure_contrasts`] does the same for measures other than losses.

#![warn(clippy::unwrap_used)]

mod attribution;
mod compare;
mod heterogeneity;
mod inference;
mod measures;
mod metrics;
mod parquet;
mod record;
mod text;
mod unigram;
mod written;

pub use attribution::{Attributed, AttributedGroup, attributed_groups, attributed_lines, read_attributed};
pub use compare::{
    Arms, Comparison, Contrast, Disagreement, NotComparable, PairedLosses, Rules, Subset, by_group, compare, counted,
    item_differences,
};
pub use heterogeneity::{Heterogeneity, ItemDifference, UserDifference, heterogeneity};
pub use inference::{
    ALPHA, BootstrapOptions, Cell, Components, Decision, Design, ENOUGH_USERS, Estimate, Evidence, Inference, Interval,
    MIN_DRAWS, OfModels, Question, SignFlip, Simulation, StandardError, UserSums, WithTrainings, holm,
    mean_of_user_means, ratio, sum_by_user,
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
