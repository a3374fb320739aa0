//! An interval, and how differences are written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A 95 % interval, in the unit of its estimate; shown with signs, as `−0.012 to +0.004`.
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

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", signed(self.low), signed(self.high))
    }
}

/// A difference with three decimals, its sign always shown, unless it rounds to zero.
pub fn signed(value: f64) -> String {
    let digits = format!("{:.3}", value.abs());
    match value {
        _ if digits == "0.000" => digits,
        v if v < 0.0 => format!("−{digits}"),
        _ => format!("+{digits}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn signs_are_shown_unless_nothing_is_left_of_the_number() {
        let shown = [-0.0124, 0.0036, -0.0001, 0.0, 1.5].map(super::signed);
        assert_eq!(shown, ["−0.012", "+0.004", "0.000", "0.000", "+1.500"]);
    }
}
