//! Arguments and results of operators.

use burn::tensor::{Device, Tensor, TensorData};

use crate::weight::Weight;

/// The heads of attention, their scale and their window: groups of query heads share a key head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / key_heads` query heads.
    pub key_heads: usize,
    /// Elements of a head.
    pub width: usize,
    /// The factor of the scores.
    pub scale: f32,
    /// The last keys of its path that a query sees, its own included; all of them if `None`.
    pub window: Option<usize>,
}

impl Heads {
    /// Heads with scores times 1 / √width, and without a window.
    pub fn new(heads: usize, key_heads: usize, width: usize) -> Self {
        Self { heads, key_heads, width, scale: (width as f32).powf(-0.5), window: None }
    }
}

/// The activation of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x) (arXiv 1702.03118), also called swish.
    Silu,
    /// The approximation of GELU by a hyperbolic tangent (arXiv 1606.08415): x σ(2 √(2/π) (x + 0.044715 x³)).
    GeluTanh,
}

/// The result of attention, with what its backward needs.
#[derive(Debug, Clone)]
pub struct Attended {
    /// `[tokens, heads · width]`.
    pub rows: Tensor<2>,
    /// The logarithm of each query's sum of exponentials, `[tokens, heads]`, if the backward needs it.
    pub logsumexp: Option<Tensor<2>>,
}

/// Cosines and sines of every token's position, `[tokens, pairs]`.
///
/// Rotary position embedding (Su et al., arXiv 2104.09864) with Hugging Face's pairing: element i of a
/// head rotates with element i + pairs. Elements from 2 · pairs on stay.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Elements of a head.
    pub(crate) width: usize,
    pub(crate) cos: Tensor<2>,
    pub(crate) sin: Tensor<2>,
}

impl Rotation {
    /// For these positions and heads of `width` elements, with the frequency of each pair in radians per position.
    /// Cosines and sines are multiplied by `factor`. Angles are computed in f32, as in the reference implementation: at
    /// position 8,000, f64 angles would differ from its angles by more than rounding.
    pub fn new(positions: &[u32], width: usize, frequencies: &[f32], factor: f32, device: &Device) -> Self {
        let table = |turn: fn(f32) -> f32| {
            let angles = positions.iter().flat_map(|&position| frequencies.iter().map(move |f| position as f32 * f));
            let values = angles.map(|angle| turn(angle) * factor).collect();
            Tensor::from_data(TensorData::new(values, [positions.len(), frequencies.len()]), device)
        };
        Self { width, cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// The frequencies of the original method for `width` rotated elements: θ^(−2i/width).
    pub fn frequencies(width: usize, theta: f64) -> Vec<f32> {
        (0..width / 2).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / width as f32)).collect()
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
    /// Dropout mask, `[tokens, in]`: multiplies the input of A.
    pub mask: Option<Tensor<2>>,
}

/// The arguments of the backward of a linear layer.
#[derive(Debug)]
pub struct LinearBackward<'a> {
    /// The input of the forward, `[tokens, in]`.
    pub x: &'a Tensor<2>,
    /// W, `[out, in]`.
    pub weight: Weight<'a>,
    /// A and B, if there are any.
    pub low_rank: Option<LowRank<'a>>,
    /// (x ∘ mask) Aᵀ, `[tokens, rank]`, as the forward returned it.
    pub lora_hidden: Option<&'a Tensor<2>>,
    /// The gradient of the result, `[tokens, out]`.
    pub d_y: &'a Tensor<2>,
    /// The tensor that the gradient of x is added to, if any.
    pub d_x: Option<Tensor<2>>,
    /// Whether the gradient of W is wanted.
    pub weight_gradient: bool,
}

/// The arguments of the backward of a norm.
#[derive(Debug)]
pub struct NormBackward<'a> {
    /// The input of the forward, `[tokens, width]`.
    pub x: &'a Tensor<2>,
    /// w, `[1, width]`.
    pub weight: &'a Tensor<2>,
    /// ε.
    pub epsilon: f64,
    /// The gradient of the result, `[tokens, width]`.
    pub d_y: &'a Tensor<2>,
    /// The tensor that the gradient of x is added to.
    pub d_x: Tensor<2>,
    /// Whether the gradient of w is wanted.
    pub weight_gradient: bool,
}

/// The nats of some rows, and their gradients.
#[derive(Debug)]
pub struct NatsAndGradients {
    /// −ln softmax(x Wᵀ) at each row's target, `[rows]`.
    pub nats: Tensor<1>,
    /// The gradient of x, `[rows, width]`.
    pub d_x: Tensor<2>,
    /// The gradient of W, if it was wanted.
    pub d_weight: Option<Tensor<2>>,
}

/// The gradients of a linear layer.
#[derive(Debug)]
pub struct LinearGradients {
    /// Of the input, `[tokens, in]`, added to [`LinearBackward::d_x`].
    pub input: Tensor<2>,
    /// Of W, if asked for.
    pub weight: Option<Tensor<2>>,
    /// Of A and B, if there are any.
    pub low_rank: Option<[Tensor<2>; 2]>,
}

/// First and second moment of one parameter, each of the parameter's shape.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Tensor<2>,
    /// Running mean of its square.
    pub second: Tensor<2>,
}

/// One step of AdamW (Loshchilov & Hutter, arXiv 1711.05101).
#[derive(Debug, Clone, Copy)]
pub struct AdamWStep {
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
