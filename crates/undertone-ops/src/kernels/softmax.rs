//! Softmax of a row, and cross entropy.

use super::{LANES, exp, sum};

/// The largest element; −∞ of an empty row.
#[inline(always)]
pub(crate) fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// Writes e^(x − `shift`) over a row, and returns the sum.
#[inline(always)]
pub(crate) fn exponentials(row: &mut [f32], shift: f32) -> f32 {
    for x in row.iter_mut() {
        *x = exp(*x - shift);
    }
    sum(row.len(), |i| row[i])
}

/// Multiplies a row by a number.
#[inline(always)]
pub(crate) fn scale(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}
