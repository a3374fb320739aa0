//! What a decoder computes, operator by operator, forward and backward.
//!
//! [`Operators`] is the list. [`Composed`] implements it with tensor operations that every Burn backend has: it says
//! what each operator means. [`Fused`] computes the same on slices of CPU memory in fewer passes. [`operators`] chooses.
//! The tests compare the fused operators with the composed ones, and those with Burn's autodiff.
//!
//! Gradients are explicit: an operator's backward takes the gradient of its result and returns those of
//! its arguments. So the model decides what is kept from the forward pass, and no graph is recorded.

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
    AdamWStep, Attended, Heads, LinearBackward, LinearGradients, LowRank, Moments, NatsAndGradients, NormBackward,
    Rotation,
};
pub use weight::{PackedCopies, Weight};
