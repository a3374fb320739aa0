//! Arguments and results of operators.

use burn::tensor::{Device, Tensor, TensorData};

use crate::weight::Weight;

/// Numbers of heads: groups of query heads share a key head.
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
    /// The factor of the scores: 1 / √width.
    pub(crate) fn scale(&self) -> f32 {
        (self.width as f32).powf(-0.5)
    }
}

/// The result of attention, with what its backward needs.
#[derive(Debug, Clone)]
pub struct Attended {
    /// `[tokens, heads · width]`.
    pub rows: Tensor<2>,
    /// The logarithm of each query's sum of exponentials, `[tokens, heads]`, if the backward needs it.
    pub logsumexp: Option<Tensor<2>>,
}

/// Cosines and sines of every token's position, `[tokens, width/2]`.
///
/// Rotary position embedding (Su et al., arXiv 2104.09864) with Hugging Face's pairing: element i of a
/// head rotates with element i + width/2.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub(crate) cos: Tensor<2>,
    pub(crate) sin: Tensor<2>,
}

impl Rotation {
    /// For these positions and heads of `width` elements. Angles are computed in f32, as in the reference
    /// implementation: at position 8,000, f64 angles would differ from its angles by more than rounding.
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
