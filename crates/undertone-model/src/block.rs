//! One decoder block of a Llama, forward and backward.
//!
//! ```text
//! x ─ norm ─ q, k, v ─ rotate ─ attend ─ o ─ + ─ hidden ─ norm ─ gate, up ─ SwiGLU ─ down ─ +
//! └──────────────────────────────────────────┘   └──────────────────────────────────────────┘
//! ```
//!
//! The backward takes what the forward [`Activations`]: inputs of products, nothing that one pass over memory
//! gives back (norms and the gated product are computed again).

use burn::tensor::Tensor;
use undertone_ops::{Attended, Heads};

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
    pub(crate) heads: Heads,
    pub(crate) norm_epsilon: f64,
}

/// What a block's backward needs of its forward: `[tokens, …]` each.
pub(crate) struct Activations {
    x: Tensor<2>,
    /// Queries and keys, turned to their positions, and values.
    qkv: [Tensor<2>; 3],
    attended: Attended,
    hidden: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
    low: Low,
}

/// The narrow middles of the adapters, where there are any.
struct Low {
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

    /// The same for as many tokens of each of some sequences, each behind what its cache holds. The pass's document is
    /// that of any of them.
    pub(crate) fn forward_behind(&self, x: Tensor<2>, pass: &Pass<'_>, caches: &mut [&mut BlockCache]) -> Tensor<2> {
        self.run(x, pass, caches).0
    }

    /// The same, with what the backward needs.
    pub(crate) fn forward_keeping(&self, x: Tensor<2>, pass: &Pass<'_>) -> (Tensor<2>, Activations) {
        self.run(x, pass, &mut [])
    }

    fn run(&self, x: Tensor<2>, pass: &Pass<'_>, caches: &mut [&mut BlockCache]) -> (Tensor<2>, Activations) {
        let operators = pass.operators;
        let normed = operators.rms_norm(&x, self.input_norm.value(), self.norm_epsilon);
        let (q, low_q) = self.q.forward(&normed, None, pass);
        let (k, low_k) = self.k.forward(&normed, None, pass);
        let (v, low_v) = self.v.forward(&normed, None, pass);
        drop(normed);
        let q = operators.rotate(q, &pass.rotation, false);
        let k = operators.rotate(k, &pass.rotation, false);
        let attended = match caches {
            [] => operators.attend([&q, &k, &v], self.heads, pass.documents),
            caches => self.attend_behind([&q, &k, &v], pass, caches),
        };
        let (hidden, low_o) = self.o.forward(&attended.rows, Some(x.clone()), pass);
        let normed = operators.rms_norm(&hidden, self.post_norm.value(), self.norm_epsilon);
        let (gate, low_gate) = self.gate.forward(&normed, None, pass);
        let (up, low_up) = self.up.forward(&normed, None, pass);
        drop(normed);
        let gated = operators.swiglu(&gate, &up);
        let (output, low_down) = self.down.forward(&gated, Some(hidden.clone()), pass);
        let low = Low { qkv: [low_q, low_k, low_v], o: low_o, gate: low_gate, up: low_up, down: low_down };
        (output, Activations { x, qkv: [q, k, v], attended, hidden, gate, up, low })
    }

    fn attend_behind(&self, qkv: [&Tensor<2>; 3], pass: &Pass<'_>, caches: &mut [&mut BlockCache]) -> Attended {
        let tokens = qkv[0].dims()[0] / caches.len();
        let of_sequence = |(index, cache): (usize, &mut &mut BlockCache)| {
            let [q, k, v] = qkv.map(|rows| rows.clone().narrow(0, index * tokens, tokens));
            let (k, v) = cache.extend(k, v);
            pass.operators.attend([&q, &k, &v], self.heads, pass.documents).rows
        };
        Attended { rows: Tensor::cat(caches.iter_mut().enumerate().map(of_sequence).collect(), 0), log_sums: None }
    }

    /// From the gradient of the output to that of the input; gradients of parameters are added.
    pub(crate) fn backward(
        &self,
        kept: Activations,
        d_output: Tensor<2>,
        pass: &Pass<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let Activations { x, qkv, attended, hidden, gate, up, low } = kept;
        let operators = pass.operators;
        let epsilon = self.norm_epsilon;

        let gated = operators.swiglu(&gate, &up);
        let d_gated = self.down.backward(&gated, low.down.as_ref(), &d_output, None, pass, gradients);
        drop(gated);
        let [d_gate, d_up] = operators.swiglu_backward(&gate, &up, d_gated);
        drop((gate, up));
        let normed = operators.rms_norm(&hidden, self.post_norm.value(), epsilon);
        let d_normed = self.gate.backward(&normed, low.gate.as_ref(), &d_gate, None, pass, gradients);
        let d_normed = self.up.backward(&normed, low.up.as_ref(), &d_up, Some(d_normed), pass, gradients);
        drop((d_gate, d_up, normed));
        let norm = &self.post_norm;
        let (d_hidden, d_norm) =
            operators.rms_norm_backward(&hidden, norm.value(), epsilon, &d_normed, d_output, norm.trainable);
        gradients.add_if(norm, d_norm);
        drop((d_normed, hidden));

        let d_attended = self.o.backward(&attended.rows, low.o.as_ref(), &d_hidden, None, pass, gradients);
        let [q, k, v] = &qkv;
        let [d_q, d_k, d_v] = operators.attend_backward([q, k, v], &attended, &d_attended, self.heads, pass.documents);
        drop((attended, d_attended, qkv));
        let d_q = operators.rotate(d_q, &pass.rotation, true);
        let d_k = operators.rotate(d_k, &pass.rotation, true);
        let normed = operators.rms_norm(&x, self.input_norm.value(), epsilon);
        let [low_q, low_k, low_v] = &low.qkv;
        let d_normed = self.q.backward(&normed, low_q.as_ref(), &d_q, None, pass, gradients);
        let d_normed = self.k.backward(&normed, low_k.as_ref(), &d_k, Some(d_normed), pass, gradients);
        let d_normed = self.v.backward(&normed, low_v.as_ref(), &d_v, Some(d_normed), pass, gradients);
        let norm = &self.input_norm;
        let (d_x, d_norm) = operators.rms_norm_backward(&x, norm.value(), epsilon, &d_normed, d_hidden, norm.trainable);
        gradients.add_if(norm, d_norm);
        d_x
    }
}
