//! Numbers as text for people: rounded, with signs and a true minus sign.

use num_format::{Locale, ToFormattedString};
use undertone_stats::{Inference, Interval};

/// Fills a cell that has no number.
pub(crate) const NOTHING: &str = "–";

/// A difference with three decimals, its sign always shown, unless it rounds to zero.
pub fn signed(value: f64) -> String {
    with_sign(value, format!("{:.3}", value.abs()))
}

/// The sign of a value before its rounded digits; none before zeros.
fn with_sign(value: f64, digits: String) -> String {
    match value {
        _ if digits.bytes().all(|digit| b"0.".contains(&digit)) => digits,
        value if value < 0.0 => format!("−{digits}"),
        _ => format!("+{digits}"),
    }
}

/// A number with three decimals and a true minus sign.
pub fn decimal(value: f64) -> String {
    match signed(value) {
        text if value > 0.0 => text.trim_start_matches('+').to_owned(),
        text => text,
    }
}

/// A count with commas between thousands.
pub fn count(value: usize) -> String {
    value.to_formatted_string(&Locale::en)
}

/// An interval of differences, such as `−0.012 to +0.004`.
pub fn interval(Interval { low, high }: Interval) -> String {
    format!("{} to {}", signed(low), signed(high))
}

/// The interval shown for a difference: over other users and other trainings; with one training of each arm, over other
/// users with these trained models.
pub fn shown_interval(difference: &Inference) -> Option<Interval> {
    difference.ratio.interval.or(difference.ratio.of_models.map(|models| models.student_t))
}

/// A p-value with three decimals.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0005 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// A number from 0 to 100 with one decimal.
pub(crate) fn points(value: f64) -> String {
    format!("{value:.1}")
}

/// A difference of two numbers from 0 to 100 with one decimal, its sign shown unless it rounds to zero.
pub(crate) fn signed_points(value: f64) -> String {
    with_sign(value, format!("{:.1}", value.abs()))
}

/// The text, or the mark of an empty cell.
pub fn or_nothing(text: Option<String>) -> String {
    text.unwrap_or_else(|| NOTHING.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_their_signs_true() {
        assert_eq!([2.3456, -0.5, 0.0, -0.0001].map(decimal), ["2.346", "−0.500", "0.000", "0.000"]);
        assert_eq!([0, 999, 1000, 162_000, 1_234_567].map(count), ["0", "999", "1,000", "162,000", "1,234,567"]);
        let shown = [-0.0124, 0.0036, -0.0001, 0.0, 1.5].map(signed);
        assert_eq!(shown, ["−0.012", "+0.004", "0.000", "0.000", "+1.500"]);
        assert_eq!(interval(Interval { low: -0.012, high: 0.004 }), "−0.012 to +0.004");
        assert_eq!([-0.04, 0.0, -3.25, 12.0].map(signed_points), ["0.0", "0.0", "−3.2", "+12.0"]);
    }
}
