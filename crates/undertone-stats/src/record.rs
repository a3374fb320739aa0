//! How one arm scored one target: the record that every metric and comparison is computed from.
//!
//! Input: scored targets, or a file of them. Output: JSON Lines, one [`ItemRecord`] per line. A record is
//! checked whenever it is written, read or summed: a loss that is not a finite number, a target without
//! tokens or a duplicate item is an error, never a silent `NaN`.

mod check;
mod collect;
#[cfg(test)]
mod example;
mod files;
mod item;
#[cfg(test)]
mod tests;

pub use self::check::{RecordFault, RecordProblem, check_records};
pub use self::collect::ItemScores;
#[cfg(test)]
pub(crate) use self::example::example;
pub use self::files::{read_records, write_records};
pub use self::item::{Distractor, ItemRecord, LabelOutcome};
