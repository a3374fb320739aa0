//! The operators of a decoder, forward and backward.
//!
//! [`Operators`] lists them. [`Composed`] is the reference: it uses tensor operations that every Burn backend has.
//! [`Fused`] computes the same on slices of CPU memory in fewer passes. [`operators()`] chooses between the two. The
//! tests compare [`Fused`] with [`Composed`], and [`Composed`] with Burn's autodiff.
//!
//! Gradients are explicit: the backward of an operator takes the gradient of its result and returns the gradients of
//! its arguments. So the model decides what it keeps from the forward pass, and no graph is recorded.

mod choice;
mod composed;
mod fused;
mod kernels;
mod memory;
mod operators;
mod precision;
mod tile;
mod types;
mod weight;

pub use choice::operators;
pub use composed::Composed;
pub use fused::Fused;
pub use kernels::matmul::FEW_ROWS;
pub use memory::{keep_freed_memory, release_freed_memory};
pub use operators::Operators;
pub use precision::MatmulPrecision;
pub use types::{
    Activation, AdamWStep, Attended, Heads, LinearBackward, LinearGradients, LowRank, Moments, NatsAndGradients,
    NormBackward, Rotation,
};
pub use weight::{PackedCopies, Weight};
