//! One decoder block, forward and backward, of every family.
//!
//! ```text
//! x ─ norm ─ q, k, v ─ norms ─ rotate ─ attend ─ o ─ norm ─ + ─ hidden ─ norm ─ gate, up ─ gated ─ down ─ norm ─ +
//! └─────────────────────────────────────────────────────────┘   └──────────────────────────────────────────────┘
//! ```
//!
//! No family has all of these norms. The forward keeps [`Activations`] for the backward: inputs of products, except those
//! that one pass over memory recomputes (norms and the gated product).

use burn::tensor::Tensor;
use undertone_ops::{Activation, Attended, Heads};

use crate::cache::BlockCache;
use crate::linear::{Linear, Projection};
use crate::norm::Norm;
use crate::parameter::{Gradients, Parameter};
use crate::pass::Pass;

/// The norms around attention, or around the feed-forward network.
#[derive(Debug, Clone)]
pub struct Around {
    /// Of its input.
    pub before: Option<Norm>,
    /// Of its output, before the sum with the residual.
    pub after: Option<Norm>,
}

/// A decoder block's weights.
#[derive(Debug, Clone)]
pub struct Block {
    /// Norms around attention.
    pub attention_norms: Around,
    /// Norms around the feed-forward network.
    pub feed_forward_norms: Around,
    /// Norms of queries and keys.
    pub query_norms: Option<[Norm; 2]>,
    /// Queries, `[heads · head_width, width]`.
    pub q: Linear,
    /// Keys, `[kv_heads · head_width, width]`.
    pub k: Linear,
    /// Values, of the same shape as keys.
    pub v: Linear,
    /// Attention output, `[width, heads · head_width]`.
    pub o: Linear,
    /// Gate, `[feed_forward, width]`.
    pub gate: Linear,
    /// What the gate multiplies, of the same shape as the gate.
    pub up: Linear,
    /// Output of the feed-forward network, `[width, feed_forward]`.
    pub down: Linear,
    pub(crate) heads: Heads,
    pub(crate) activation: Activation,
    /// Which of the pass's rotations turns queries and keys, if any.
    pub(crate) rotation: Option<usize>,
    /// The factor of what is added to the residual stream.
    pub(crate) residual_factor: f64,
}

/// The activations that a block's backward needs, `[tokens, …]` each.
pub(crate) struct Activations {
    x: Tensor<2>,
    /// Queries and keys before their norms, if they have norms.
    unnormed: Option<[Tensor<2>; 2]>,
    /// Queries and keys after norms and rotation, and values.
    qkv: [Tensor<2>; 3],
    attended: Attended,
    /// What attention gives before its norm, if it has one.
    attention_output: Option<Tensor<2>>,
    hidden: Tensor<2>,
    gate: Tensor<2>,
    up: Tensor<2>,
    /// What the feed-forward network gives before its norm, if it has one.
    feed_forward_output: Option<Tensor<2>>,
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

/// The result of [`Block::joined`].
struct Joined {
    /// The residual stream after the sum.
    sum: Tensor<2>,
    /// What was normed before the sum, if it was.
    unnormed: Option<Tensor<2>>,
    lora_hidden: Option<Tensor<2>>,
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
        let normed = self.attention_norms.input(&x, pass);
        let (q, hidden_q) = self.q.forward(&normed, None, pass);
        let (k, hidden_k) = self.k.forward(&normed, None, pass);
        let (v, hidden_v) = self.v.forward(&normed, None, pass);
        drop(normed);
        let (q, k, unnormed) = match &self.query_norms {
            None => (q, k, None),
            Some([of_q, of_k]) => (of_q.forward(&q, operators), of_k.forward(&k, operators), Some([q, k])),
        };
        let (q, k) = (self.rotate(q, pass, false), self.rotate(k, pass, false));
        let attended = match caches {
            [] => operators.attend([&q, &k, &v], self.heads, pass.documents),
            caches => self.attend_behind([&q, &k, &v], pass, caches),
        };
        let joined = self.joined(&x, &self.o, &attended.rows, &self.attention_norms, pass);
        let Joined { sum: hidden, unnormed: attention_output, lora_hidden: hidden_o } = joined;
        let normed = self.feed_forward_norms.input(&hidden, pass);
        let (gate, hidden_gate) = self.gate.forward(&normed, None, pass);
        let (up, hidden_up) = self.up.forward(&normed, None, pass);
        drop(normed);
        let gated = operators.gated(self.activation, &gate, &up);
        let joined = self.joined(&hidden, &self.down, &gated, &self.feed_forward_norms, pass);
        let Joined { sum: output, unnormed: feed_forward_output, lora_hidden: hidden_down } = joined;
        let lora_hidden = LoraHidden {
            qkv: [hidden_q, hidden_k, hidden_v],
            o: hidden_o,
            gate: hidden_gate,
            up: hidden_up,
            down: hidden_down,
        };
        let qkv = [q, k, v];
        let kept = Activations {
            x,
            unnormed,
            qkv,
            attended,
            attention_output,
            hidden,
            gate,
            up,
            feed_forward_output,
            lora_hidden,
        };
        (output, kept)
    }

    /// x + factor · norm(linear(input)).
    fn joined(&self, x: &Tensor<2>, linear: &Linear, input: &Tensor<2>, norms: &Around, pass: &Pass<'_>) -> Joined {
        let factor = self.residual_factor;
        if norms.after.is_none() && factor == 1.0 {
            let (sum, lora_hidden) = linear.forward(input, Some(x.clone()), pass);
            return Joined { sum, unnormed: None, lora_hidden };
        }
        let (output, lora_hidden) = linear.forward(input, None, pass);
        let (added, unnormed) = match &norms.after {
            None => (output, None),
            Some(norm) => (norm.forward(&output, pass.operators), Some(output)),
        };
        Joined { sum: x.clone() + scaled(added, factor), unnormed, lora_hidden }
    }

    /// The gradient of the linear layer's output in [`Self::joined`], from that of the sum.
    fn joined_backward(
        &self,
        d_sum: &Tensor<2>,
        unnormed: Option<Tensor<2>>,
        norms: &Around,
        pass: &Pass<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let d_added = scaled(d_sum.clone(), self.residual_factor);
        match (&norms.after, unnormed) {
            (Some(norm), Some(output)) => {
                norm.backward(&output, &d_added, output.zeros_like(), pass.operators, gradients)
            }
            _ => d_added,
        }
    }

    fn rotate(&self, x: Tensor<2>, pass: &Pass<'_>, back: bool) -> Tensor<2> {
        match self.rotation {
            None => x,
            Some(index) => pass.operators.rotate(x, &pass.rotations[index], back),
        }
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
        let Activations { x, unnormed, qkv, attended, hidden, gate, up, lora_hidden, .. } = kept;
        let operators = pass.operators;

        let norms = &self.feed_forward_norms;
        let d_down = self.joined_backward(&d_output, kept.feed_forward_output, norms, pass, gradients);
        let gated = operators.gated(self.activation, &gate, &up);
        let d_gated = self.down.backward(&gated, lora_hidden.down.as_ref(), &d_down, None, pass, gradients);
        drop((gated, d_down));
        let [d_gate, d_up] = operators.gated_backward(self.activation, &gate, &up, d_gated);
        drop((gate, up));
        let normed = norms.input(&hidden, pass);
        let d_normed = self.gate.backward(&normed, lora_hidden.gate.as_ref(), &d_gate, None, pass, gradients);
        let d_normed = self.up.backward(&normed, lora_hidden.up.as_ref(), &d_up, Some(d_normed), pass, gradients);
        drop((d_gate, d_up, normed));
        let d_hidden = norms.input_backward(&hidden, d_normed, d_output, pass, gradients);
        drop(hidden);

        let norms = &self.attention_norms;
        let d_o = self.joined_backward(&d_hidden, kept.attention_output, norms, pass, gradients);
        let d_attended = self.o.backward(&attended.rows, lora_hidden.o.as_ref(), &d_o, None, pass, gradients);
        drop(d_o);
        let [q, k, v] = &qkv;
        let [d_q, d_k, d_v] = operators.attend_backward([q, k, v], &attended, &d_attended, self.heads, pass.documents);
        drop((attended, d_attended, qkv));
        let (mut d_q, mut d_k) = (self.rotate(d_q, pass, true), self.rotate(d_k, pass, true));
        if let (Some([of_q, of_k]), Some([q, k])) = (&self.query_norms, unnormed) {
            d_q = of_q.backward(&q, &d_q, q.zeros_like(), operators, gradients);
            d_k = of_k.backward(&k, &d_k, k.zeros_like(), operators, gradients);
        }
        let normed = norms.input(&x, pass);
        let [hidden_q, hidden_k, hidden_v] = &lora_hidden.qkv;
        let d_normed = self.q.backward(&normed, hidden_q.as_ref(), &d_q, None, pass, gradients);
        let d_normed = self.k.backward(&normed, hidden_k.as_ref(), &d_k, Some(d_normed), pass, gradients);
        let d_normed = self.v.backward(&normed, hidden_v.as_ref(), &d_v, Some(d_normed), pass, gradients);
        norms.input_backward(&x, d_normed, d_hidden, pass, gradients)
    }

    /// One of the seven linear layers.
    pub fn linear(&self, projection: Projection) -> &Linear {
        match projection {
            Projection::Q => &self.q,
            Projection::K => &self.k,
            Projection::V => &self.v,
            Projection::O => &self.o,
            Projection::Gate => &self.gate,
            Projection::Up => &self.up,
            Projection::Down => &self.down,
        }
    }

    pub(crate) fn linear_mut(&mut self, projection: Projection) -> &mut Linear {
        match projection {
            Projection::Q => &mut self.q,
            Projection::K => &mut self.k,
            Projection::V => &mut self.v,
            Projection::O => &mut self.o,
            Projection::Gate => &mut self.gate,
            Projection::Up => &mut self.up,
            Projection::Down => &mut self.down,
        }
    }

    /// Every norm, in a fixed order.
    pub fn norms(&self) -> impl Iterator<Item = &Norm> {
        let around = [&self.attention_norms, &self.feed_forward_norms];
        let around = around.into_iter().flat_map(|norms| norms.before.iter().chain(&norms.after));
        around.chain(self.query_norms.iter().flatten())
    }

    pub(crate) fn parameters(&self) -> Vec<&Parameter> {
        let mut all: Vec<&Parameter> = self.norms().map(|norm| &norm.weight).collect();
        for projection in Projection::ALL {
            let linear = self.linear(projection);
            all.push(&linear.weight);
            all.extend(&linear.bias);
            all.extend(linear.adapter.iter().flat_map(|adapter| [&adapter.a, &adapter.b]));
        }
        all
    }

    pub(crate) fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let around = [&mut self.attention_norms, &mut self.feed_forward_norms];
        let around = around.into_iter().flat_map(|norms| norms.before.iter_mut().chain(&mut norms.after));
        let norms = around.chain(self.query_norms.iter_mut().flatten());
        let mut all: Vec<&mut Parameter> = norms.map(|norm| &mut norm.weight).collect();
        for linear in [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
        {
            all.push(&mut linear.weight);
            all.extend(&mut linear.bias);
            all.extend(linear.adapter.iter_mut().flat_map(|adapter| [&mut adapter.a, &mut adapter.b]));
        }
        all
    }
}

impl Around {
    /// The normed residual stream, or the stream itself.
    fn input(&self, x: &Tensor<2>, pass: &Pass<'_>) -> Tensor<2> {
        self.before.as_ref().map_or_else(|| x.clone(), |norm| norm.forward(x, pass.operators))
    }

    /// The gradient of the residual stream: `d_x` plus what the gradient of its normed values gives.
    fn input_backward(
        &self,
        x: &Tensor<2>,
        d_input: Tensor<2>,
        d_x: Tensor<2>,
        pass: &Pass<'_>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        match &self.before {
            None => d_x + d_input,
            Some(norm) => norm.backward(x, &d_input, d_x, pass.operators, gradients),
        }
    }
}

/// x times a factor; x itself if the factor is 1.
pub(crate) fn scaled(x: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 { x } else { x * factor }
}
