//! The list of operators.

use burn::tensor::{Device, Tensor, TensorData};
use undertone_data::Document;

use crate::composed;
use crate::fused::Fused;
use crate::weight::{MatmulPrecision, Weight};

/// How queries share keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / key_heads` query heads.
    pub key_heads: usize,
    /// Elements of a head.
    pub width: usize,
}

impl Heads {
    /// What scores are multiplied by: 1 / √width.
    pub(crate) fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }
}

/// What attention gives, and what its backward needs of it.
#[derive(Debug, Clone)]
pub struct Attended {
    /// `[tokens, heads · width]`.
    pub rows: Tensor<2>,
    /// The logarithm of each query's sum of exponentials, `[tokens, heads]`, where the backward wants it.
    pub log_sums: Option<Tensor<2>>,
}

/// Cosines and sines of every token's position, `[tokens, width/2]`.
///
/// Rotary position embedding (Su et al., arXiv 2104.09864) with Hugging Face's pairing: element i of a
/// head turns with element i + width/2.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub(crate) cos: Tensor<2>,
    pub(crate) sin: Tensor<2>,
}

impl Rotation {
    /// For these positions and heads of `width` elements. Angles are computed in f32, as the reference
    /// implementation does: at position 8,000 an f64 angle would differ from it by more than rounding.
    pub fn new(positions: &[u32], width: usize, theta: f64, device: &Device) -> Self {
        let half = width / 2;
        let frequency = |i: usize| 1.0 / (theta as f32).powf((2 * i) as f32 / width as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let table = |turn: fn(f32) -> f32| {
            let angles = positions.iter().flat_map(|&position| frequencies.iter().map(move |f| position as f32 * f));
            Tensor::from_data(TensorData::new(angles.map(turn).collect(), [positions.len(), half]), device)
        };
        Self { cos: table(f32::cos), sin: table(f32::sin) }
    }
}

/// A low-rank addition s B A to a matrix (LoRA, arXiv 2106.09685).
#[derive(Debug, Clone)]
pub struct LowRank<'a> {
    /// A, `[rank, in]`.
    pub a: &'a Tensor<2>,
    /// B, `[out, rank]`.
    pub b: &'a Tensor<2>,
    /// s.
    pub scale: f64,
    /// What its input is multiplied by, `[tokens, in]`: a mask of dropout.
    pub mask: Option<Tensor<2>>,
}

/// The gradients of a linear layer.
#[derive(Debug)]
pub struct LinearGradients {
    /// Of the input, `[tokens, in]`, added to what was given.
    pub input: Tensor<2>,
    /// Of W, if asked for.
    pub weight: Option<Tensor<2>>,
    /// Of A and B, if there are any.
    pub low_rank: Option<[Tensor<2>; 2]>,
}

/// First and second moment of one parameter, of its shape.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Tensor<2>,
    /// Running mean of its square.
    pub second: Tensor<2>,
}

/// One step of AdamW (Loshchilov & Hutter, arXiv 1711.05101).
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// η of this step.
    pub learning_rate: f32,
    /// η λ: the share of the value that decays.
    pub decay: f32,
    /// β₁.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// ε.
    pub epsilon: f32,
    /// 1 − β₁ᵗ.
    pub correct_first: f32,
    /// 1 − β₂ᵗ.
    pub correct_second: f32,
}

/// Every operator of a decoder. The default bodies are what they mean, on any backend.
///
/// No tensor may be tracked by autodiff.
pub trait Operators: std::fmt::Debug + Send + Sync {
    /// Root mean square norm (arXiv 1910.07467): x / √(mean x² + ε) ∘ w over rows `[tokens, width]`,
    /// with w `[1, width]`.
    fn rms_norm(&self, x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2> {
        composed::rms_norm(x, weight, epsilon)
    }

    /// `d_x` plus the gradient of x, and the gradient of w if asked for.
    fn rms_norm_backward(
        &self,
        x: &Tensor<2>,
        weight: &Tensor<2>,
        epsilon: f64,
        d_y: &Tensor<2>,
        d_x: Tensor<2>,
        of_weight: bool,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        composed::rms_norm_backward(x, weight, epsilon, d_y, d_x, of_weight)
    }

    /// Turns each head of `[tokens, heads · width]` to its position, or `back`: its own backward.
    fn rotate(&self, x: Tensor<2>, rotation: &Rotation, back: bool) -> Tensor<2> {
        composed::rotate(x, rotation, back)
    }

    /// silu(gate) ∘ up (arXiv 2002.05202).
    fn swiglu(&self, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
        composed::swiglu(gate, up)
    }

    /// The gradients of gate and up.
    fn swiglu_backward(&self, gate: &Tensor<2>, up: &Tensor<2>, d_out: Tensor<2>) -> [Tensor<2>; 2] {
        composed::swiglu_backward(gate, up, d_out)
    }

    /// Attention of every document over itself by the rule of trunk and branches, from queries
    /// `[tokens, heads · width]` and keys and values `[past + tokens, key_heads · width]`.
    fn attend(&self, qkv: [&Tensor<2>; 3], heads: Heads, documents: &[Document]) -> Attended {
        Attended { rows: composed::attend(qkv, heads, documents), log_sums: None }
    }

    /// The gradients of queries, keys and values from that of the rows; there is no past.
    fn attend_backward(
        &self,
        qkv: [&Tensor<2>; 3],
        _attended: &Attended,
        d_out: &Tensor<2>,
        heads: Heads,
        documents: &[Document],
    ) -> [Tensor<2>; 3] {
        composed::attend_backward(qkv, d_out, heads, documents)
    }

    /// x Wᵀ + s ((x ∘ mask) Aᵀ) Bᵀ, added to `plus` if there is one; and (x ∘ mask) Aᵀ, which the backward needs.
    fn linear(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        plus: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        composed::linear(x, weight.value, low_rank, plus)
    }

    /// The gradients of [`Self::linear`]; `low` is its second result. That of x is added to `d_x`. The
    /// gradient of W is computed only if it is asked for, and B A never is.
    #[allow(clippy::too_many_arguments)]
    fn linear_backward(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        low: Option<&Tensor<2>>,
        d_y: &Tensor<2>,
        d_x: Option<Tensor<2>>,
        of_weight: bool,
    ) -> LinearGradients {
        composed::linear_backward(x, weight.value, low_rank, low, d_y, d_x, of_weight)
    }

    /// The nats of each row's target: −ln softmax(x Wᵀ) at the target, for a few rows at a time.
    fn nats(&self, x: &Tensor<2>, weight: Weight<'_>, targets: &[u32]) -> Vec<f32> {
        composed::nats(x, weight.value, targets)
    }

    /// Nats, and the gradients of `scale` times their sum with respect to x and, if asked for, W.
    fn nats_and_gradient(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        targets: &[u32],
        scale: f64,
        of_weight: bool,
    ) -> (Vec<f32>, Tensor<2>, Option<Tensor<2>>) {
        composed::nats_and_gradient(x, weight.value, targets, scale, of_weight)
    }

    /// One step of AdamW: w ← (1 − ηλ) w − η m̂ / (√v̂ + ε).
    fn adamw(&self, value: Tensor<2>, moments: Moments, gradient: &Tensor<2>, step: &AdamW) -> (Tensor<2>, Moments) {
        composed::adamw(value, moments, gradient, step)
    }

    /// Σ x², in a fixed order.
    fn sum_of_squares(&self, x: &Tensor<2>) -> f64 {
        composed::sum_of_squares(x)
    }
}

/// The default bodies, for tensors of any device.
#[derive(Debug, Clone, Copy)]
pub struct Composed;

impl Operators for Composed {}

/// The fastest operators of a device, multiplying with weights in this precision.
pub fn operators(device: &Device, precision: MatmulPrecision) -> std::sync::Arc<dyn Operators> {
    match *device == Device::flex() {
        true => std::sync::Arc::new(Fused::new(precision)),
        false => std::sync::Arc::new(Composed),
    }
}
