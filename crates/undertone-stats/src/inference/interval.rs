//! An interval.

use serde::{Deserialize, Serialize};

/// A 95 % interval, in the unit of its estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether zero lies inside, ends included.
    pub fn contains_zero(self) -> bool {
        (self.low..=self.high).contains(&0.0)
    }
}

/// The two-sided significance level of every decision.
pub const ALPHA: f64 = 0.05;

/// The nominal two-sided coverage of every interval.
pub(super) const LEVEL: f64 = 1.0 - ALPHA;
