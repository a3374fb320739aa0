//! Steps of the softmax of a row, for attention and cross entropy.

use super::{LANES, exp, fold_lanes};

/// The largest element, ignoring NaN; −∞ for an empty row.
#[inline(always)]
pub(crate) fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *x);
        }
    }
    chunks.remainder().iter().fold(fold_lanes(lanes, larger), |highest, x| larger(highest, *x))
}

/// One vector instruction; `f32::max` would check for NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Writes e^(`factor` · (x − `shift`)) over a row, and returns the sum.
#[inline(always)]
pub(crate) fn exponentials(row: &mut [f32], shift: f32, factor: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, x) in lanes.iter_mut().zip(chunk) {
            *x = exp((*x - shift) * factor);
            *sum += *x;
        }
    }
    let mut total = fold_lanes(lanes, |a, b| a + b);
    for x in chunks.into_remainder() {
        *x = exp((*x - shift) * factor);
        total += *x;
    }
    total
}

/// Multiplies a row by a number.
#[inline(always)]
pub(crate) fn scale(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}
