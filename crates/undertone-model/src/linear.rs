//! A linear layer `xWᵀ + b` with an optional low-rank adapter: `xWᵀ + b + s·(drop(x)Aᵀ)Bᵀ`.
//!
//! LoRA (Hu et al. 2021, arXiv 2106.09685) with PEFT's shapes: A is `[rank, in]`, B is `[out, rank]`,
//! s = alpha / rank, or alpha / √rank for rank-stabilised LoRA (arXiv 2312.03732). Training never forms
//! the product BA, nor the gradient of a frozen W.

use burn::tensor::{Device, Tensor};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use undertone_data::generator;
use undertone_ops::{LinearBackward, LowRank};

use crate::dropout::dropout_mask;
use crate::parameter::{Gradients, Parameter};
use crate::pass::Pass;

/// Which linear layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// Gate of the feed-forward network.
    Gate,
    /// What the gate multiplies.
    Up,
    /// Output of the feed-forward network.
    Down,
}

impl Projection {
    /// All seven.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Its path inside a block.
    pub fn path(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// Low-rank adaptation of some of the linear layers; everything else stays frozen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Width of the bottleneck. The size of the adapter and its share of a step's time grow with the rank.
    pub rank: usize,
    /// Numerator of the scaling s.
    pub alpha: f64,
    /// Probability that an input element of the adapter is zeroed in training, from 0 to below 1.
    pub dropout: f64,
    /// Scale by alpha / √rank instead of alpha / rank.
    pub rslora: bool,
    /// Which linear layers get an adapter.
    pub targets: Vec<Projection>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0, rslora: false, targets: Projection::ALL.to_vec() }
    }
}

impl LoraConfig {
    /// The factor s.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// The adapter of one layer.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// A, `[rank, in]`.
    pub a: Parameter,
    /// B, `[out, rank]`; zero at first, so that training starts at the base model.
    pub b: Parameter,
    /// The scaling s.
    pub scale: f64,
    /// Probability of zeroing an input element.
    pub dropout: f64,
}

impl Adapter {
    /// A is uniform in ±1/√in (PEFT's Kaiming-uniform with a = √5), B is zero; the draw depends only on the seed and
    /// the layer's path.
    pub fn new(path: &str, config: &LoraConfig, [out, width]: [usize; 2], seed: u64, device: &Device) -> Self {
        let name = |matrix| format!("{path}.{matrix}.weight");
        let mut random = generator("adapter", &[&seed.to_string(), path]);
        let bound = 1.0 / (width as f32).sqrt();
        let values = (0..config.rank * width).map(|_| random.random_range(-bound..bound)).collect();
        let mut a = Parameter::new(name("lora_A"), values, [config.rank, width], device);
        let mut b = Parameter::new(name("lora_B"), vec![0.0; out * config.rank], [out, config.rank], device);
        (a.trainable, b.trainable) = (true, true);
        Self { a, b, scale: config.scale(), dropout: config.dropout }
    }
}

/// A frozen or trained matrix with an optional adapter.
#[derive(Debug, Clone)]
pub struct Linear {
    /// W, `[out, in]`.
    pub weight: Parameter,
    /// b, `[1, out]`.
    pub bias: Option<Parameter>,
    /// The adapter.
    pub adapter: Option<Adapter>,
}

impl Linear {
    /// The adapter as the operators take it, with the dropout mask of the pass's documents.
    fn low_rank(&self, pass: &Pass<'_>) -> Option<LowRank<'_>> {
        self.adapter.as_ref().map(|adapter| LowRank {
            a: adapter.a.value(),
            b: adapter.b.value(),
            scale: adapter.scale,
            mask: pass.dropout.filter(|_| adapter.dropout > 0.0).map(|key| {
                let width = adapter.a.value().dims()[1];
                let mask = dropout_mask(pass.documents, width, &adapter.a.name, adapter.dropout, key);
                Tensor::from_data(mask, &adapter.a.value().device())
            }),
        })
    }

    /// Maps `x`, `[tokens, in]`, to `[tokens, out]`, added to `residual`; also returns the adapter's hidden activations
    /// for the backward.
    pub(crate) fn forward(
        &self,
        x: &Tensor<2>,
        residual: Option<Tensor<2>>,
        pass: &Pass<'_>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let (y, hidden) = pass.operators.linear(x, self.weight.weight(), self.low_rank(pass).as_ref(), residual);
        match &self.bias {
            None => (y, hidden),
            Some(bias) => (y + bias.value().clone(), hidden),
        }
    }

    /// The gradient of `x`, added to `d_x`; gradients of parameters are added to `gradients`.
    pub(crate) fn backward(
        &self,
        x: &Tensor<2>,
        lora_hidden: Option<&Tensor<2>>,
        d_y: &Tensor<2>,
        d_x: Option<Tensor<2>>,
        pass: &Pass<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let computed = pass.operators.linear_backward(LinearBackward {
            x,
            weight: self.weight.weight(),
            low_rank: self.low_rank(pass),
            lora_hidden,
            d_y,
            d_x,
            weight_gradient: self.weight.trainable,
        });
        gradients.add_if(&self.weight, computed.weight);
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.trainable) {
            gradients.add(&bias.name, d_y.clone().sum_dim(0));
        }
        if let (Some(adapter), Some([d_a, d_b])) = (&self.adapter, computed.low_rank) {
            gradients.add(&adapter.a.name, d_a);
            gradients.add(&adapter.b.name, d_b);
        }
        computed.input
    }

    /// W + s·BA, the weight of a merged export.
    pub fn merged(&self) -> Tensor<2> {
        match &self.adapter {
            None => self.weight.value().clone(),
            Some(adapter) => {
                let delta = adapter.b.value().clone().matmul(adapter.a.value().clone());
                self.weight.value().clone() + delta * adapter.scale
            }
        }
    }
}
