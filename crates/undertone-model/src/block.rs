//! One decoder block of a Llama, cut in three stretches around its attention.
//!
//! ```text
//! x ─ norm ─ q, k, v ─ rotate ─┐          project: recorded by autodiff when training
//!                           attend        by hand, forward and backward
//! x + o(·) ─ norm ─ SwiGLU ─ + ┘          mix:     recorded by autodiff when training
//! ```

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use undertone_data::Document;

use crate::attention::{attend, attend_backward};
use crate::cache::BlockCache;
use crate::linear::{DropoutKey, Linear};
use crate::parameter::{Gradients, Parameter, Tape};
use crate::rope::Rotation;

/// What all blocks share in one forward pass.
pub(crate) struct Pass<'a> {
    pub(crate) documents: &'a [Document],
    pub(crate) rotation: Rotation,
    pub(crate) dropout: Option<DropoutKey>,
}

/// A decoder block's weights.
#[derive(Debug, Clone)]
pub struct Block {
    /// RMSNorm before attention, `[1, width]`.
    pub input_norm: Parameter,
    /// RMSNorm before the feed-forward network, `[1, width]`.
    pub post_norm: Parameter,
    /// Queries, `[heads · head_width, width]`.
    pub q: Linear,
    /// Keys, `[kv_heads · head_width, width]`.
    pub k: Linear,
    /// Values, as keys.
    pub v: Linear,
    /// Attention output, `[width, heads · head_width]`.
    pub o: Linear,
    /// SwiGLU gate, `[feed_forward, width]`.
    pub gate: Linear,
    /// SwiGLU up, as the gate.
    pub up: Linear,
    /// SwiGLU down, `[width, feed_forward]`.
    pub down: Linear,
    pub(crate) head_width: usize,
    pub(crate) norm_epsilon: f64,
}

/// Root mean square norm (arXiv 1910.07467): x / √(mean x² + ε) ∘ w over the last dimension.
pub(crate) fn rms_norm(x: Tensor<2>, weight: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    x * (mean_square + epsilon).sqrt().recip() * weight
}

/// A block's forward with everything its backward needs.
pub(crate) struct Recorded {
    input: [Tensor<2>; 2],
    project: (Tape, [Tensor<3>; 3]),
    attended: Tensor<3>,
    mix: (Tape, Tensor<2>),
}

impl Block {
    /// `[tokens, width]` to `[tokens, width]`, outside autodiff.
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &Pass<'_>, cache: Option<&mut BlockCache>) -> Tensor<2> {
        let [queries, keys, values] = self.project(x.clone(), &mut Tape::off(), pass);
        let attended = match cache {
            None => attend(&queries, &keys, &values, pass.documents),
            Some(cache) => {
                let (keys, values) = cache.extend(keys, values);
                attend(&queries, &keys, &values, pass.documents)
            }
        };
        self.mix(x, attended, &mut Tape::off(), pass)
    }

    /// The same forward, recorded.
    pub(crate) fn record(&self, x: Tensor<2>, pass: &Pass<'_>) -> Recorded {
        let (mut project, mut mix) = (Tape::on(), Tape::on());
        let input = [project.enter(x.clone()), mix.enter(x)];
        let qkv = self.project(input[0].clone(), &mut project, pass);
        let [queries, keys, values] = qkv.clone().map(Tensor::inner);
        let attended = mix.enter(attend(&queries, &keys, &values, pass.documents));
        let output = self.mix(input[1].clone(), attended.clone(), &mut mix, pass);
        Recorded { input, project: (project, qkv), attended, mix: (mix, output) }
    }

    fn project(&self, x: Tensor<2>, tape: &mut Tape, pass: &Pass<'_>) -> [Tensor<3>; 3] {
        let normed = rms_norm(x, tape.read(&self.input_norm), self.norm_epsilon);
        let [tokens, _] = normed.dims();
        let mut heads = |linear: &Linear| {
            let rows = linear.forward(normed.clone(), tape, pass.documents, pass.dropout);
            let heads = rows.dims()[1] / self.head_width;
            rows.reshape([tokens, heads, self.head_width])
        };
        let (queries, keys, values) = (heads(&self.q), heads(&self.k), heads(&self.v));
        [pass.rotation.apply(queries), pass.rotation.apply(keys), values]
    }

    fn mix(&self, x: Tensor<2>, attended: Tensor<3>, tape: &mut Tape, pass: &Pass<'_>) -> Tensor<2> {
        let [tokens, heads, width] = attended.dims();
        let linear = |layer: &Linear, input, tape: &mut Tape| layer.forward(input, tape, pass.documents, pass.dropout);
        let hidden = x + linear(&self.o, attended.reshape([tokens, heads * width]), tape);
        let normed = rms_norm(hidden.clone(), tape.read(&self.post_norm), self.norm_epsilon);
        let gated = silu(linear(&self.gate, normed.clone(), tape)) * linear(&self.up, normed, tape);
        hidden + linear(&self.down, gated, tape)
    }
}

impl Recorded {
    /// The block's output, outside autodiff.
    pub(crate) fn output(&self) -> Tensor<2> {
        self.mix.1.clone().inner()
    }

    /// From the gradient of the output to that of the input; gradients of parameters are added.
    pub(crate) fn backward(self, d_output: Tensor<2>, documents: &[Document], gradients: &mut Gradients) -> Tensor<2> {
        let [project_input, mix_input] = self.input;
        let (tape, output) = self.mix;
        let mut computed = tape.backward((output * d_output.autodiff()).sum(), gradients);
        let d_residual = mix_input.grad_remove(&mut computed).expect("the block's input reaches its output");
        let d_attended = self.attended.grad_remove(&mut computed).expect("attention reaches the block's output");

        let (tape, qkv) = self.project;
        let [queries, keys, values] = qkv.clone().map(Tensor::inner);
        let d_qkv = attend_backward([&queries, &keys, &values], &self.attended.inner(), &d_attended, documents);
        let seeds = qkv.into_iter().zip(d_qkv).map(|(part, gradient)| (part * gradient.autodiff()).sum());
        let scalar = seeds.reduce(|sum, next| sum + next).expect("three parts");
        let mut computed = tape.backward(scalar, gradients);
        d_residual + project_input.grad_remove(&mut computed).expect("the block's input reaches its projections")
    }
}
