//! One decoder block of a Llama, forward and backward.
//!
//! ```text
//! x ─ norm ─ q, k, v ─ rotate ─ attend ─ o ─ + ─ hidden ─ norm ─ gate, up ─ SwiGLU ─ down ─ +
//! └──────────────────────────────────────────┘   └──────────────────────────────────────────┘
//! ```
//!
//! The forward keeps [`Activations`] for the backward: inputs of products, except those that one pass over memory
//! recomputes (norms and the gated product).

use burn::tensor::Tensor;
use undertone_ops::{Attended, Heads, NormBackward};

use crate::cache::BlockCache;
use crate::linear::Linear;
use crate::parameter::{Gradients, Parameter};
use crate::pass::Pass;

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
    /// Values, of the same shape as keys.
    pub v: Linear,
    /// Attention output, `[width, heads · head_width]`.
    pub o: Linear,
    /// SwiGLU gate, `[feed_forward, width]`.
    pub gate: Linear,
    /// SwiGLU up, of the same shape as the gate.
    pub up: Linear,
    /// SwiGLU down, `[width, feed_forward]`.
    pub down: Linear,
    pub(crate) heads: Heads,
    pub(crate) norm_epsilon: f64,
}

/// The activations that a block's backward needs, `[tokens, …]` each.
pub(crate) struct Activations {
    x: Tensor<2>,
    /// Queries and keys after rotation, and values.
    qkv: [Tensor<2>; 3],
    attended: Attended,
    hidden: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
    lora_hidden: LoraHidden,
}

/// The hidden activations of the adapters, `[tokens, rank]` each; `None` without an adapter.
struct LoraHidden {
    qkv: [Option<Tensor<2>>; 3],
    o: Option<Tensor<2>>,
    gate: Option<Tensor<2>>,
    up: Option<Tensor<2>>,
    down: Option<Tensor<2>>,
}

impl Block {
    /// `[tokens, width]` to `[tokens, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &Pass<'_>) -> Tensor<2> {
        self.run(x, pass, &mut []).0
    }

    /// Like [`Self::forward`], for the same number of new tokens of each sequence, after the tokens in its cache. The
    /// pass has one document, which is the same for all sequences.
    pub(crate) fn forward_behind(&self, x: Tensor<2>, pass: &Pass<'_>, caches: &mut [&mut BlockCache]) -> Tensor<2> {
        self.run(x, pass, caches).0
    }

    /// Like [`Self::forward`]; also returns what the backward needs.
    pub(crate) fn forward_keeping(&self, x: Tensor<2>, pass: &Pass<'_>) -> (Tensor<2>, Activations) {
        self.run(x, pass, &mut [])
    }

    fn run(&self, x: Tensor<2>, pass: &Pass<'_>, caches: &mut [&mut BlockCache]) -> (Tensor<2>, Activations) {
        let operators = pass.operators;
        let normed = operators.rms_norm(&x, self.input_norm.value(), self.norm_epsilon);
        let (q, hidden_q) = self.q.forward(&normed, None, pass);
        let (k, hidden_k) = self.k.forward(&normed, None, pass);
        let (v, hidden_v) = self.v.forward(&normed, None, pass);
        drop(normed);
        let q = operators.rotate(q, &pass.rotation, false);
        let k = operators.rotate(k, &pass.rotation, false);
        let attended = match caches {
            [] => operators.attend([&q, &k, &v], self.heads, pass.documents),
            caches => self.attend_behind([&q, &k, &v], pass, caches),
        };
        let (hidden, hidden_o) = self.o.forward(&attended.rows, Some(x.clone()), pass);
        let normed = operators.rms_norm(&hidden, self.post_norm.value(), self.norm_epsilon);
        let (gate, hidden_gate) = self.gate.forward(&normed, None, pass);
        let (up, hidden_up) = self.up.forward(&normed, None, pass);
        drop(normed);
        let gated = operators.swiglu(&gate, &up);
        let (output, hidden_down) = self.down.forward(&gated, Some(hidden.clone()), pass);
        let lora_hidden = LoraHidden {
            qkv: [hidden_q, hidden_k, hidden_v],
            o: hidden_o,
            gate: hidden_gate,
            up: hidden_up,
            down: hidden_down,
        };
        (output, Activations { x, qkv: [q, k, v], attended, hidden, gate, up, lora_hidden })
    }

    fn attend_behind(&self, qkv: [&Tensor<2>; 3], pass: &Pass<'_>, caches: &mut [&mut BlockCache]) -> Attended {
        let tokens = qkv[0].dims()[0] / caches.len();
        let attend_sequence = |(index, cache): (usize, &mut &mut BlockCache)| {
            let [q, k, v] = qkv.map(|rows| rows.clone().narrow(0, index * tokens, tokens));
            let (k, v) = cache.extend(k, v);
            pass.operators.attend([&q, &k, &v], self.heads, pass.documents).rows
        };
        Attended { rows: Tensor::cat(caches.iter_mut().enumerate().map(attend_sequence).collect(), 0), logsumexp: None }
    }

    /// Maps the gradient of the output to that of the input; adds the gradients of parameters to `gradients`.
    pub(crate) fn backward(
        &self,
        kept: Activations,
        d_output: Tensor<2>,
        pass: &Pass<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let Activations { x, qkv, attended, hidden, gate, up, lora_hidden } = kept;
        let operators = pass.operators;
        let epsilon = self.norm_epsilon;

        let gated = operators.swiglu(&gate, &up);
        let d_gated = self.down.backward(&gated, lora_hidden.down.as_ref(), &d_output, None, pass, gradients);
        drop(gated);
        let [d_gate, d_up] = operators.swiglu_backward(&gate, &up, d_gated);
        drop((gate, up));
        let normed = operators.rms_norm(&hidden, self.post_norm.value(), epsilon);
        let d_normed = self.gate.backward(&normed, lora_hidden.gate.as_ref(), &d_gate, None, pass, gradients);
        let d_normed = self.up.backward(&normed, lora_hidden.up.as_ref(), &d_up, Some(d_normed), pass, gradients);
        drop((d_gate, d_up, normed));
        let arguments = self.norm_backward(&self.post_norm, &hidden, &d_normed, d_output);
        let (d_hidden, d_norm) = operators.rms_norm_backward(arguments);
        gradients.add_if(&self.post_norm, d_norm);
        drop((d_normed, hidden));

        let d_attended = self.o.backward(&attended.rows, lora_hidden.o.as_ref(), &d_hidden, None, pass, gradients);
        let [q, k, v] = &qkv;
        let [d_q, d_k, d_v] = operators.attend_backward([q, k, v], &attended, &d_attended, self.heads, pass.documents);
        drop((attended, d_attended, qkv));
        let d_q = operators.rotate(d_q, &pass.rotation, true);
        let d_k = operators.rotate(d_k, &pass.rotation, true);
        let normed = operators.rms_norm(&x, self.input_norm.value(), epsilon);
        let [hidden_q, hidden_k, hidden_v] = &lora_hidden.qkv;
        let d_normed = self.q.backward(&normed, hidden_q.as_ref(), &d_q, None, pass, gradients);
        let d_normed = self.k.backward(&normed, hidden_k.as_ref(), &d_k, Some(d_normed), pass, gradients);
        let d_normed = self.v.backward(&normed, hidden_v.as_ref(), &d_v, Some(d_normed), pass, gradients);
        let arguments = self.norm_backward(&self.input_norm, &x, &d_normed, d_hidden);
        let (d_x, d_norm) = operators.rms_norm_backward(arguments);
        gradients.add_if(&self.input_norm, d_norm);
        d_x
    }

    fn norm_backward<'a>(
        &self,
        norm: &'a Parameter,
        x: &'a Tensor<2>,
        d_y: &'a Tensor<2>,
        d_x: Tensor<2>,
    ) -> NormBackward<'a> {
        let (weight, epsilon, weight_gradient) = (norm.value(), self.norm_epsilon, norm.trainable);
        NormBackward { x, weight, epsilon, d_y, d_x, weight_gradient }
    }
}
