//! What a decoder computes, operator by operator, forward and backward.
//!
//! [`Operators`] is the list. Its default bodies compose tensor operations that every Burn backend has:
//! they are what each operator means. [`Fused`] computes the same on slices of CPU memory in fewer passes;
//! the tests hold it to the defaults, and the defaults to Burn's autodiff.
//!
//! Gradients are explicit: an operator's backward takes the gradient of its result and returns those of
//! its arguments. So the model decides what is kept from the forward pass, and no graph is recorded.

mod composed;
mod fused;
mod kernels;
mod memory;
mod operators;
mod tile;
mod weight;

pub use fused::Fused;
pub use kernels::matmul::FEW_ROWS;
pub use memory::{keep_freed_memory, release_freed_memory};
pub use operators::{
    AdamW, Attended, Composed, Heads, LinearGradients, LowRank, Moments, Operators, Rotation, operators,
};
pub use weight::{MatmulPrecision, PackedCopies, Weight};
