//! Cross entropy over rows of logits, in place.

use rayon::prelude::*;

use super::softmax::{exponentials, maximum, scale};
use super::vectorised;

/// The nats of each row's target. Overwrites the logits.
pub(crate) fn nats(logits: &mut [f32], vocabulary: usize, targets: &[u32]) -> Vec<f32> {
    let rows = logits.par_chunks_exact_mut(vocabulary).zip(targets);
    rows.map(|(row, &target)| {
        vectorised(
            #[inline(always)]
            || {
                let (highest, at_target) = (maximum(row), row[target as usize]);
                exponentials(row, highest, 1.0).ln() - (at_target - highest)
            },
        )
    })
    .collect()
}

/// The nats of each row's target. Turns the logits into the gradient of `factor` times the sum of nats:
/// factor · (softmax − onehot).
pub(crate) fn nats_and_gradient(logits: &mut [f32], vocabulary: usize, targets: &[u32], factor: f32) -> Vec<f32> {
    let rows = logits.par_chunks_exact_mut(vocabulary).zip(targets);
    rows.map(|(row, &target)| {
        vectorised(
            #[inline(always)]
            || {
                let (highest, at_target) = (maximum(row), row[target as usize]);
                let total = exponentials(row, highest, 1.0);
                scale(row, factor / total);
                row[target as usize] -= factor;
                total.ln() - (at_target - highest)
            },
        )
    })
    .collect()
}
