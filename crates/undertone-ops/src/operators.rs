//! The list of operators.

use std::fmt::Debug;

use burn::tensor::Tensor;
use undertone_data::Document;

use crate::types::{
    Activation, AdamWStep, Attended, Heads, LinearBackward, LinearGradients, LowRank, Moments, NatsAndGradients,
    NormBackward, Rotation,
};
use crate::weight::Weight;

/// Every operator of a decoder, forward and backward.
///
/// No tensor may be tracked by autodiff. No operator waits for its device: every result is a tensor.
pub trait Operators: Debug + Send + Sync {
    /// Root mean square norm (arXiv 1910.07467): x / √(mean x² + ε) ∘ w over rows `[tokens, width]`,
    /// with w `[1, width]`.
    fn rms_norm(&self, x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2>;

    /// The gradient of x, added to `d_x`, and the gradient of w if it is wanted.
    fn rms_norm_backward(&self, arguments: NormBackward<'_>) -> (Tensor<2>, Option<Tensor<2>>);

    /// Rotates each head of `[tokens, heads · width]` by the angles of its position; `back` reverses the rotation,
    /// which is its backward.
    fn rotate(&self, x: Tensor<2>, rotation: &Rotation, back: bool) -> Tensor<2>;

    /// activation(gate) ∘ up (arXiv 2002.05202).
    fn gated(&self, activation: Activation, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2>;

    /// The gradients of gate and up.
    fn gated_backward(
        &self,
        activation: Activation,
        gate: &Tensor<2>,
        up: &Tensor<2>,
        d_out: Tensor<2>,
    ) -> [Tensor<2>; 2];

    /// Attention within every document by the rule of trunk and branches, and within the window. Queries are `[tokens, heads · width]`,
    /// keys and values `[past + tokens, key_heads · width]`.
    fn attend(&self, qkv: [&Tensor<2>; 3], heads: Heads, documents: &[Document]) -> Attended;

    /// The gradients of queries, keys and values. `d_out` is the gradient of the rows; there is no past.
    fn attend_backward(
        &self,
        qkv: [&Tensor<2>; 3],
        attended: &Attended,
        d_out: &Tensor<2>,
        heads: Heads,
        documents: &[Document],
    ) -> [Tensor<2>; 3];

    /// x Wᵀ + s ((x ∘ mask) Aᵀ) Bᵀ, added to `residual` if there is one; and (x ∘ mask) Aᵀ, which the backward needs.
    fn linear(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        residual: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>);

    /// The gradients of [`Self::linear`]. That of W is computed only if it is wanted; B A is never formed.
    fn linear_backward(&self, arguments: LinearBackward<'_>) -> LinearGradients;

    /// The nats of each row's target, `[rows]`: −ln softmax(x Wᵀ) at the target. Logits exist for a few rows at a time.
    fn nats(&self, x: &Tensor<2>, weight: Weight<'_>, targets: &[u32]) -> Tensor<1>;

    /// Nats, and the gradients of `scale` times their sum with respect to x and, if it is wanted, W.
    fn nats_and_gradients(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        targets: &[u32],
        scale: f64,
        weight_gradient: bool,
    ) -> NatsAndGradients;

    /// One step of AdamW: w ← (1 − ηλ) w − η m̂ / (√v̂ + ε), with the gradient multiplied by `clip`, `[1]`.
    fn adamw(
        &self,
        value: Tensor<2>,
        moments: Moments,
        gradient: &Tensor<2>,
        clip: &Tensor<1>,
        step: &AdamWStep,
    ) -> (Tensor<2>, Moments);

    /// Σ x², `[1]`, in a fixed order; in f64 where the device has it.
    fn sum_of_squares(&self, x: &Tensor<2>) -> Tensor<1>;
}
