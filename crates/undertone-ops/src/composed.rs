//! Every operator, composed of tensor operations that all backends have.

use std::ops::Range;

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};
use undertone_data::Document;

use crate::kernels::elementwise::{GELU_CUBIC, GELU_LINEAR};
use crate::operators::Operators;
use crate::tile::{Tile, tiles};
use crate::types::{
    Activation, AdamWStep, Attended, Heads, LinearBackward, LinearGradients, LowRank, Moments, NatsAndGradients,
    NormBackward, Rotation,
};
use crate::weight::Weight;

/// Operators composed of tensor operations, for any device: the reference for all others.
#[derive(Debug, Clone, Copy)]
pub struct Composed;

/// Queries of one tile.
const TILE_TOKENS: usize = 256;

/// Positions whose logits exist at one time.
const CHUNK_POSITIONS: usize = 256;

/// Added to the score of a hidden key: so large that the score is lost to rounding and cannot change any
/// result, and finite, so that no backend meets an infinity.
const HIDDEN: f32 = -1e30;

/// The argument z of an activation x σ(z).
fn argument(activation: Activation, gate: &Tensor<2>) -> Tensor<2> {
    match activation {
        Activation::Silu => gate.clone(),
        Activation::GeluTanh => gate.clone() * (gate.clone().square() * GELU_CUBIC + 1.0) * GELU_LINEAR,
    }
}

fn inverse_root_mean_square(x: &Tensor<2>, epsilon: f64) -> Tensor<2> {
    (x.clone().square().mean_dim(1) + epsilon).sqrt().recip()
}

impl Operators for Composed {
    fn rms_norm(&self, x: &Tensor<2>, weight: &Tensor<2>, epsilon: f64) -> Tensor<2> {
        x.clone() * inverse_root_mean_square(x, epsilon) * weight.clone()
    }

    /// With r the inverse root mean square and g = dy ∘ w: dx = r g − x r³ mean(g ∘ x).
    fn rms_norm_backward(&self, arguments: NormBackward<'_>) -> (Tensor<2>, Option<Tensor<2>>) {
        let NormBackward { x, weight, epsilon, d_y, d_x, weight_gradient } = arguments;
        let inverse = inverse_root_mean_square(x, epsilon);
        let gradient = d_y.clone() * weight.clone();
        let along = (gradient.clone() * x.clone()).mean_dim(1) * inverse.clone().powi_scalar(3);
        let d_weight = weight_gradient.then(|| (d_y.clone() * x.clone() * inverse.clone()).sum_dim(0));
        (d_x + gradient * inverse - x.clone() * along, d_weight)
    }

    fn rotate(&self, x: Tensor<2>, rotation: &Rotation, back: bool) -> Tensor<2> {
        let [tokens, row] = x.dims();
        let half = rotation.cos.dims()[1];
        let width = rotation.width;
        let x = x.reshape([tokens, row / width, width]);
        let cos = rotation.cos.clone().unsqueeze_dim::<3>(1);
        let sin = rotation.sin.clone().unsqueeze_dim::<3>(1) * if back { -1.0 } else { 1.0 };
        let (first, second) = (x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half));
        let turned_first = first.clone() * cos.clone() - second.clone() * sin.clone();
        let turned_second = second * cos + first * sin;
        let mut parts = vec![turned_first, turned_second];
        if width > 2 * half {
            parts.push(x.narrow(2, 2 * half, width - 2 * half));
        }
        Tensor::cat(parts, 2).reshape([tokens, row])
    }

    fn gated(&self, activation: Activation, gate: &Tensor<2>, up: &Tensor<2>) -> Tensor<2> {
        gate.clone() * sigmoid(argument(activation, gate)) * up.clone()
    }

    /// Both activations are x σ(z). With value v: dgate = d ∘ up ∘ (σ + v (1 − σ) z′), dup = d ∘ v.
    fn gated_backward(
        &self,
        activation: Activation,
        gate: &Tensor<2>,
        up: &Tensor<2>,
        d_out: Tensor<2>,
    ) -> [Tensor<2>; 2] {
        let sigma = sigmoid(argument(activation, gate));
        let value = gate.clone() * sigma.clone();
        let d_up = d_out.clone() * value.clone();
        let rest = value.clone() - value * sigma.clone();
        let slope = match activation {
            Activation::Silu => sigma + rest,
            Activation::GeluTanh => sigma + rest * (gate.clone().square() * (3.0 * GELU_CUBIC) + 1.0) * GELU_LINEAR,
        };
        [d_out * up.clone() * slope, d_up]
    }

    fn attend(&self, [q, k, v]: [&Tensor<2>; 3], heads: Heads, documents: &[Document]) -> Attended {
        let past = k.dims()[0] - q.dims()[0];
        let attend_tile = |tile: &Tile| {
            let queries = group_heads(q.clone().slice([tile.queries.clone()]), heads);
            let p = probabilities(&queries, &gather(k, &tile.keys, heads), tile, heads);
            ungroup_heads(p.matmul(gather(v, &tile.keys, heads)), tile.queries.len())
        };
        let rows = tiles(documents, past, TILE_TOKENS, heads.window).iter().map(attend_tile).collect();
        Attended { rows: Tensor::cat(rows, 0), logsumexp: None }
    }

    /// With P the probabilities and s the scale: dV = Pᵀ dO, dP = dO Vᵀ, dS = s P ∘ (dP − rowsum(P ∘ dP)),
    /// dQ = dS K, dK = dSᵀ Q.
    fn attend_backward(
        &self,
        [q, k, v]: [&Tensor<2>; 3],
        _: &Attended,
        d_out: &Tensor<2>,
        heads: Heads,
        documents: &[Document],
    ) -> [Tensor<2>; 3] {
        let mut d_q = Vec::new();
        let (mut d_k, mut d_v) = (k.zeros_like(), v.zeros_like());
        for tile in tiles(documents, 0, TILE_TOKENS, heads.window) {
            let part = |rows: &Tensor<2>| group_heads(rows.clone().slice([tile.queries.clone()]), heads);
            let (queries, d_rows) = (part(q), part(d_out));
            let (keys, values) = (gather(k, &tile.keys, heads), gather(v, &tile.keys, heads));
            let p = probabilities(&queries, &keys, &tile, heads);
            let d_values = p.clone().swap_dims(1, 2).matmul(d_rows.clone());
            let d_p = d_rows.matmul(values.swap_dims(1, 2));
            let along = (p.clone() * d_p.clone()).sum_dim(2);
            let d_s = p * (d_p - along) * heads.scale;
            d_q.push(ungroup_heads(d_s.clone().matmul(keys), tile.queries.len()));
            let d_keys = d_s.swap_dims(1, 2).matmul(queries);
            let mut from = 0;
            for run in &tile.keys {
                let add = |total: Tensor<2>, part: &Tensor<3>| {
                    let part = part.clone().narrow(1, from, run.len()).permute([1, 0, 2]);
                    let part = part.reshape([run.len(), heads.key_heads * heads.width]);
                    let sum = total.clone().slice([run.clone()]) + part;
                    total.slice_assign([run.clone()], sum)
                };
                d_k = add(d_k, &d_keys);
                d_v = add(d_v, &d_values);
                from += run.len();
            }
        }
        [Tensor::cat(d_q, 0), d_k, d_v]
    }

    fn linear(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        low_rank: Option<&LowRank<'_>>,
        residual: Option<Tensor<2>>,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        let product = x.clone().matmul(weight.value.clone().transpose());
        let product = residual.map_or(product.clone(), |residual| residual + product);
        match low_rank {
            None => (product, None),
            Some(adapter) => {
                let hidden = masked(x, adapter).matmul(adapter.a.clone().transpose());
                let added = hidden.clone().matmul(adapter.b.clone().transpose()) * adapter.scale;
                (product + added, Some(hidden))
            }
        }
    }

    /// With z = (x ∘ m) Aᵀ: dz = s dy B, dB = s dyᵀ z, dA = dzᵀ (x ∘ m), dx = dy W + (dz A) ∘ m.
    fn linear_backward(&self, arguments: LinearBackward<'_>) -> LinearGradients {
        let LinearBackward { x, weight, low_rank, lora_hidden, d_y, d_x, weight_gradient } = arguments;
        let product = d_y.clone().matmul(weight.value.clone());
        let mut input = d_x.map_or(product.clone(), |d_x| d_x + product);
        let weight = weight_gradient.then(|| d_y.clone().transpose().matmul(x.clone()));
        let low_rank = low_rank.map(|adapter| {
            let hidden = lora_hidden.expect("the forward returned it");
            let d_hidden = d_y.clone().matmul(adapter.b.clone()) * adapter.scale;
            let d_b = d_y.clone().transpose().matmul(hidden.clone()) * adapter.scale;
            let d_a = d_hidden.clone().transpose().matmul(masked(x, &adapter));
            let back = d_hidden.matmul(adapter.a.clone());
            input = input.clone() + adapter.mask.as_ref().map_or(back.clone(), |mask| back * mask.clone());
            [d_a, d_b]
        });
        LinearGradients { input, weight, low_rank }
    }

    fn nats(&self, x: &Tensor<2>, weight: Weight<'_>, targets: &[u32]) -> Tensor<1> {
        let nats = chunks(x, targets).map(|(rows, ids)| chunk(&rows, weight.value, ids).1);
        Tensor::cat(nats.collect(), 0).reshape([targets.len()])
    }

    /// With p the softmax: d logits = p − onehot, so dx = pW − W(target), and no one-hot matrix is formed.
    fn nats_and_gradients(
        &self,
        x: &Tensor<2>,
        weight: Weight<'_>,
        targets: &[u32],
        scale: f64,
        weight_gradient: bool,
    ) -> NatsAndGradients {
        let weight = weight.value;
        let (mut nats, mut d_x, mut d_weight) = (Vec::new(), Vec::new(), None);
        for (rows, ids) in chunks(x, targets) {
            let (probabilities, nats_of_chunk) = chunk(&rows, weight, ids);
            nats.push(nats_of_chunk);
            let ids = indices(ids, &rows);
            let d_rows = probabilities.clone().matmul(weight.clone()) - weight.clone().select(0, ids.clone());
            d_x.push(d_rows * scale);
            if weight_gradient {
                let part = (probabilities * scale).transpose().matmul(rows.clone());
                let part = part.select_assign(0, ids, rows * -scale, IndexingUpdateOp::Add);
                d_weight = Some(d_weight.map_or(part.clone(), |sum: Tensor<2>| sum + part));
            }
        }
        NatsAndGradients { nats: Tensor::cat(nats, 0).reshape([targets.len()]), d_x: Tensor::cat(d_x, 0), d_weight }
    }

    fn adamw(
        &self,
        value: Tensor<2>,
        moments: Moments,
        gradient: &Tensor<2>,
        clip: &Tensor<1>,
        step: &AdamWStep,
    ) -> (Tensor<2>, Moments) {
        let AdamWStep { learning_rate, decay, beta1, beta2, epsilon, correct_first, correct_second } = *step;
        let gradient = gradient.clone() * clip.clone().unsqueeze::<2>();
        let first = moments.first * beta1 + gradient.clone() * (1.0 - beta1);
        let second = moments.second * beta2 + gradient.square() * (1.0 - beta2);
        let root = (second.clone() / correct_second).sqrt() + epsilon;
        let update = first.clone() / root * (learning_rate / correct_first);
        (value * (1.0 - decay) - update, Moments { first, second })
    }

    fn sum_of_squares(&self, x: &Tensor<2>) -> Tensor<1> {
        let rows = x.clone().square().sum_dim(1);
        let has_f64 = rows.device().supports_dtype(DType::F64);
        if has_f64 { rows.cast(DType::F64).sum() } else { rows.sum() }
    }
}

/// `[tokens, heads · width]` to `[key_heads, heads/key_heads · tokens, width]`: stacks the query heads of one key
/// head, so that each key head needs one matrix product and keys are not repeated.
fn group_heads(rows: Tensor<2>, heads: Heads) -> Tensor<3> {
    let [tokens, _] = rows.dims();
    let Heads { heads, key_heads, width, .. } = heads;
    let group = heads / key_heads;
    let rows = rows.reshape([tokens, key_heads, group, width]);
    rows.permute([1, 2, 0, 3]).reshape([key_heads, group * tokens, width])
}

/// The inverse of [`group_heads`].
fn ungroup_heads(grouped: Tensor<3>, tokens: usize) -> Tensor<2> {
    let [key_heads, rows, width] = grouped.dims();
    let group = rows / tokens;
    let rows = grouped.reshape([key_heads, group, tokens, width]).permute([2, 0, 1, 3]);
    rows.reshape([tokens, key_heads * group * width])
}

/// The tile's part of `[tokens, key_heads · width]`, as `[key_heads, keys, width]`.
fn gather(rows: &Tensor<2>, runs: &[Range<usize>], heads: Heads) -> Tensor<3> {
    let parts: Vec<_> = runs.iter().map(|run| rows.clone().slice([run.clone()])).collect();
    let rows = if parts.len() == 1 { parts.into_iter().next().expect("one part") } else { Tensor::cat(parts, 0) };
    let [tokens, _] = rows.dims();
    rows.reshape([tokens, heads.key_heads, heads.width]).permute([1, 0, 2])
}

/// Softmax of scaled scores: `[key_heads, group · queries, keys]`.
fn probabilities(queries: &Tensor<3>, keys: &Tensor<3>, tile: &Tile, heads: Heads) -> Tensor<3> {
    let [key_heads, rows, _] = queries.dims();
    let (tokens, count) = (tile.queries.len(), tile.key_count());
    let mut bias = vec![HIDDEN; tokens * count];
    for (row, [trunk, own]) in bias.chunks_exact_mut(count).zip(&tile.seen) {
        row[trunk.clone()].fill(0.0);
        row[own.clone()].fill(0.0);
    }
    let bias = Tensor::<4>::from_data(TensorData::new(bias, [1, 1, tokens, count]), &queries.device());
    let scores = queries.clone().matmul(keys.clone().swap_dims(1, 2)) * heads.scale;
    let scores = scores.reshape([key_heads, rows / tokens, tokens, count]) + bias;
    softmax(scores, 3).reshape([key_heads, rows, count])
}

/// x ∘ mask, or x itself: the input of A.
fn masked(x: &Tensor<2>, low_rank: &LowRank<'_>) -> Tensor<2> {
    match &low_rank.mask {
        None => x.clone(),
        Some(mask) => x.clone() * mask.clone(),
    }
}

fn indices(ids: &[u32], like: &Tensor<2>) -> Tensor<1, Int> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), &like.device())
}

/// Probabilities `[positions, vocabulary]` and nats `[positions, 1]`.
fn chunk(rows: &Tensor<2>, weight: &Tensor<2>, ids: &[u32]) -> (Tensor<2>, Tensor<2>) {
    let targets = indices(ids, rows).reshape([ids.len(), 1]);
    let logits = rows.clone().matmul(weight.clone().transpose());
    let shifted = logits.clone() - logits.max_dim(1);
    let at_target = shifted.clone().gather(1, targets);
    let exponentials = shifted.exp();
    let sum = exponentials.clone().sum_dim(1);
    (exponentials / sum.clone(), sum.log() - at_target)
}

fn chunks<'a>(x: &'a Tensor<2>, targets: &'a [u32]) -> impl Iterator<Item = (Tensor<2>, &'a [u32])> {
    let rows = |(index, ids): (usize, &'a [u32])| (x.clone().narrow(0, index * CHUNK_POSITIONS, ids.len()), ids);
    targets.chunks(CHUNK_POSITIONS).enumerate().map(rows)
}
