//! Norm, rotation, gates and AdamW: one pass over memory each.

#![allow(unsafe_code)]

use rayon::prelude::*;

use super::{exp, sum, vectorised};
use crate::types::{Activation, AdamWStep};

/// GELU by a hyperbolic tangent is x σ(`GELU_LINEAR` · x (1 + `GELU_CUBIC` x²)); this is 2 √(2/π).
pub(crate) const GELU_LINEAR: f32 = 1.595_769_2;
/// See [`GELU_LINEAR`].
pub(crate) const GELU_CUBIC: f32 = 0.044_715;

/// Least number of elements in a task: fewer are not worth a thread.
const TASK_ELEMENTS: usize = 1 << 14;

/// Rows of `width` elements in one task.
fn rows_per_task(width: usize) -> usize {
    TASK_ELEMENTS.div_ceil(width.max(1))
}

#[inline(always)]
fn inverse_root_mean_square(row: &[f32], epsilon: f32) -> f32 {
    let squares = sum([row], |[x]| x * x);
    1.0 / (squares / row.len() as f32 + epsilon).sqrt()
}

/// x / √(mean x² + ε) ∘ w, row by row.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let width = weight.len();
    let chunk = rows_per_task(width) * width;
    assert!(x.len().is_multiple_of(width), "whole rows");
    let mut out = Box::new_uninit_slice(x.len());
    out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let inverse = inverse_root_mean_square(x, epsilon);
                    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                        out.write(x * inverse * weight);
                    }
                }
            },
        );
    });
    // SAFETY: `out` and `x` have the same chunks of whole rows, and every element of a row was written.
    unsafe { out.assume_init() }.into_vec()
}

/// Adds the gradient of x to `d_x`. With r the inverse root mean square and g = dy ∘ w:
/// dx = r g − x r³ mean(g ∘ x).
pub(crate) fn rms_norm_backward(x: &[f32], weight: &[f32], epsilon: f32, d_y: &[f32], d_x: &mut [f32]) {
    assert_eq!([x.len(); 2], [d_y.len(), d_x.len()], "equal shapes");
    let width = weight.len();
    let chunk = rows_per_task(width) * width;
    d_x.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).zip(d_y.par_chunks(chunk)).for_each(|((d_x, x), d_y)| {
        vectorised(
            #[inline(always)]
            || {
                let rows = d_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(d_y.chunks_exact(width));
                for ((d_x, x), d_y) in rows {
                    let inverse = inverse_root_mean_square(x, epsilon);
                    let mean = sum([d_y, weight, x], |[d_y, weight, x]| d_y * weight * x) / width as f32;
                    let along = inverse * inverse * inverse * mean;
                    for (((d_x, x), d_y), weight) in d_x.iter_mut().zip(x).zip(d_y).zip(weight) {
                        *d_x += d_y * weight * inverse - x * along;
                    }
                }
            },
        );
    });
}

/// The gradient of w: Σ dy ∘ x r over the rows, summed in pieces of fixed size.
pub(crate) fn rms_norm_d_weight(x: &[f32], d_y: &[f32], width: usize, epsilon: f32) -> Vec<f32> {
    let chunk = rows_per_task(width) * width;
    let sum_of_piece = |(x, d_y): (&[f32], &[f32])| {
        let mut total = vec![0.0; width];
        for (x, d_y) in x.chunks_exact(width).zip(d_y.chunks_exact(width)) {
            let inverse = inverse_root_mean_square(x, epsilon);
            for ((total, x), d_y) in total.iter_mut().zip(x).zip(d_y) {
                *total += d_y * x * inverse;
            }
        }
        total
    };
    let pieces: Vec<Vec<f32>> = x.par_chunks(chunk).zip(d_y.par_chunks(chunk)).map(sum_of_piece).collect();
    pieces.into_iter().fold(vec![0.0; width], |mut total, piece| {
        add(&mut total, &piece);
        total
    })
}

/// Rotates element i of each head with element i + half, in place. `x` is `[tokens, heads, width]`,
/// `cos` and `sin` are `[tokens, half]`; `direction` is 1, or −1 to rotate back.
pub(crate) fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32], [width, half]: [usize; 2], direction: f32) {
    let tokens = cos.len() / half;
    let row = x.len() / tokens.max(1);
    let chunk = rows_per_task(row);
    let tables = cos.par_chunks(chunk * half).zip(sin.par_chunks(chunk * half));
    x.par_chunks_mut((chunk * row).max(1)).zip(tables).for_each(|(x, (cos, sin))| {
        vectorised(
            #[inline(always)]
            || {
                let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
                for (x, (cos, sin)) in x.chunks_exact_mut(row).zip(angles) {
                    for head in x.chunks_exact_mut(width) {
                        let (first, second) = head[..2 * half].split_at_mut(half);
                        for i in 0..half {
                            let (a, b, sin) = (first[i], second[i], sin[i] * direction);
                            first[i] = a * cos[i] - b * sin;
                            second[i] = b * cos[i] + a * sin;
                        }
                    }
                }
            },
        );
    });
}

/// The value and the slope of x σ(x).
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    let value = x * sigmoid;
    (value, sigmoid + value - value * sigmoid)
}

/// The value and the slope of GELU by a hyperbolic tangent.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let cubic = GELU_CUBIC * x * x;
    let sigmoid = 1.0 / (1.0 + exp(-GELU_LINEAR * x * (1.0 + cubic)));
    let value = x * sigmoid;
    (value, sigmoid + (value - value * sigmoid) * GELU_LINEAR * (1.0 + 3.0 * cubic))
}

/// activation(gate) ∘ up.
pub(crate) fn gated(activation: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
    match activation {
        Activation::Silu => gated_by(silu, gate, up),
        Activation::GeluTanh => gated_by(gelu_tanh, gate, up),
    }
}

fn gated_by(activation: impl Fn(f32) -> (f32, f32) + Sync, gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "equal shapes");
    let mut out = Box::new_uninit_slice(gate.len());
    let inputs = gate.par_chunks(TASK_ELEMENTS).zip(up.par_chunks(TASK_ELEMENTS));
    out.par_chunks_mut(TASK_ELEMENTS).zip(inputs).for_each(|(out, (gate, up))| {
        vectorised(
            #[inline(always)]
            || {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    out.write(activation(*gate).0 * up);
                }
            },
        );
    });
    // SAFETY: all three slices have the same length and the same chunks, so every element was written.
    unsafe { out.assume_init() }.into_vec()
}

/// The gradients of gate and up: dgate = d ∘ up ∘ slope, dup = d ∘ value. That of gate overwrites `d_out`, that of up
/// is returned.
pub(crate) fn gated_backward(activation: Activation, gate: &[f32], up: &[f32], d_out: &mut [f32]) -> Vec<f32> {
    match activation {
        Activation::Silu => gated_by_backward(silu, gate, up, d_out),
        Activation::GeluTanh => gated_by_backward(gelu_tanh, gate, up, d_out),
    }
}

fn gated_by_backward(
    activation: impl Fn(f32) -> (f32, f32) + Sync,
    gate: &[f32],
    up: &[f32],
    d_out: &mut [f32],
) -> Vec<f32> {
    assert_eq!([gate.len(); 2], [up.len(), d_out.len()], "equal shapes");
    let mut d_up = Box::new_uninit_slice(gate.len());
    let inputs = gate.par_chunks(TASK_ELEMENTS).zip(up.par_chunks(TASK_ELEMENTS));
    let outputs = d_out.par_chunks_mut(TASK_ELEMENTS).zip(d_up.par_chunks_mut(TASK_ELEMENTS));
    outputs.zip(inputs).for_each(|((d, d_up), (gate, up))| {
        vectorised(
            #[inline(always)]
            || {
                for (((d, d_up), gate), up) in d.iter_mut().zip(d_up).zip(gate).zip(up) {
                    let (value, slope) = activation(*gate);
                    d_up.write(*d * value);
                    *d = *d * up * slope;
                }
            },
        );
    });
    // SAFETY: all four slices have the same length and the same chunks, so every element was written.
    unsafe { d_up.assume_init() }.into_vec()
}

/// `out += x`.
pub(crate) fn add(out: &mut [f32], x: &[f32]) {
    assert_eq!(out.len(), x.len(), "equal shapes");
    out.par_chunks_mut(TASK_ELEMENTS).zip(x.par_chunks(TASK_ELEMENTS)).for_each(|(out, x)| {
        for (out, x) in out.iter_mut().zip(x) {
            *out += x;
        }
    });
}

/// `x ∘ y`.
pub(crate) fn product(x: &[f32], y: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), y.len(), "equal shapes");
    x.par_iter().zip(y).map(|(x, y)| x * y).collect()
}

/// `out += x ∘ y`.
pub(crate) fn add_product(out: &mut [f32], x: &[f32], y: &[f32]) {
    assert_eq!([out.len(); 2], [x.len(), y.len()], "equal shapes");
    let inputs = x.par_chunks(TASK_ELEMENTS).zip(y.par_chunks(TASK_ELEMENTS));
    out.par_chunks_mut(TASK_ELEMENTS).zip(inputs).for_each(|(out, (x, y))| {
        for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
            *out += x * y;
        }
    });
}

/// One step of AdamW, in place, on [value, first moment, second moment] with the gradient times `clip`.
pub(crate) fn adamw([value, first, second]: [&mut [f32]; 3], gradient: &[f32], clip: f32, step: &AdamWStep) {
    let AdamWStep { learning_rate, decay, beta1, beta2, epsilon, correct_first, correct_second } = *step;
    assert_eq!([value.len(); 3], [first.len(), second.len(), gradient.len()], "equal shapes");
    let rate = learning_rate / correct_first;
    let states = first.par_chunks_mut(TASK_ELEMENTS).zip(second.par_chunks_mut(TASK_ELEMENTS));
    let parts = value.par_chunks_mut(TASK_ELEMENTS).zip(states).zip(gradient.par_chunks(TASK_ELEMENTS));
    parts.for_each(|((value, (first, second)), gradient)| {
        vectorised(
            #[inline(always)]
            || {
                for (((value, first), second), gradient) in value.iter_mut().zip(first).zip(second).zip(gradient) {
                    let gradient = gradient * clip;
                    *first = *first * beta1 + gradient * (1.0 - beta1);
                    *second = *second * beta2 + gradient * gradient * (1.0 - beta2);
                    let root = (*second / correct_second).sqrt() + epsilon;
                    *value = *value * (1.0 - decay) - *first / root * rate;
                }
            },
        );
    });
}

/// Σ x²: sums of fixed-size pieces in f32, added in f64.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    let sum_of_piece = |x: &[f32]| {
        vectorised(
            #[inline(always)]
            || f64::from(sum([x], |[x]| x * x)),
        )
    };
    x.par_chunks(TASK_ELEMENTS).map(sum_of_piece).collect::<Vec<_>>().iter().sum()
}
