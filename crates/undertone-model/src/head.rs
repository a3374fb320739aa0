//! From the last hidden state to nats: final norm, vocabulary projection, cross entropy.
//!
//! Only positions that predict a target get here, and logits exist for a few of them at a time. The
//! gradient is written by hand: with p the softmax, d logits = p − onehot, so
//! dh = pW − W(target) and no one-hot matrix is formed; W(target) is a row of the projection.

use burn::tensor::{Int, Tensor, TensorData};

use crate::block::rms_norm;
use crate::parameter::{Gradients, Parameter, Tape};

/// Positions whose logits exist at one time.
const CHUNK_POSITIONS: usize = 256;

/// The final norm and the vocabulary projection; the latter is the embedding when they are tied.
pub(crate) struct Head<'a> {
    pub(crate) norm: &'a Parameter,
    pub(crate) vocabulary: &'a Parameter,
    pub(crate) norm_epsilon: f64,
}

impl Head<'_> {
    /// Logits `[positions, vocabulary]` of hidden states `[positions, width]`: for generation and tests.
    pub(crate) fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        let normed = rms_norm(hidden, self.norm.value.clone(), self.norm_epsilon);
        normed.matmul(self.vocabulary.value.clone().transpose())
    }

    /// Nats of each position's target: −ln of its softmax.
    pub(crate) fn nats(&self, hidden: Tensor<2>, targets: &[u32]) -> Vec<f32> {
        let normed = rms_norm(hidden, self.norm.value.clone(), self.norm_epsilon);
        let chunks = targets.chunks(CHUNK_POSITIONS).enumerate();
        chunks
            .flat_map(|(index, ids)| {
                let rows = normed.clone().narrow(0, index * CHUNK_POSITIONS, ids.len());
                read(&self.chunk(rows, ids).1)
            })
            .collect()
    }

    /// Nats, and the gradient of `scale` times their sum with respect to the hidden states.
    pub(crate) fn nats_and_gradient(
        &self,
        hidden: Tensor<2>,
        targets: &[u32],
        scale: f64,
        gradients: &mut Gradients,
    ) -> (Vec<f32>, Tensor<2>) {
        let mut tape = Tape::on();
        let entered = tape.enter(hidden);
        let normed = rms_norm(entered.clone(), tape.read(self.norm), self.norm_epsilon);
        let inner = normed.clone().inner();
        let weight = &self.vocabulary.value;
        let mut nats = Vec::with_capacity(targets.len());
        let mut d_normed = Vec::new();
        for (index, ids) in targets.chunks(CHUNK_POSITIONS).enumerate() {
            let rows = inner.clone().narrow(0, index * CHUNK_POSITIONS, ids.len());
            let (probabilities, chunk_nats) = self.chunk(rows.clone(), ids);
            nats.extend(read(&chunk_nats));
            let indices = indices(ids, &rows);
            let d_rows = probabilities.clone().matmul(weight.clone()) - weight.clone().select(0, indices.clone());
            d_normed.push(d_rows * scale);
            if self.vocabulary.trainable {
                let d_weight = (probabilities * scale).transpose().matmul(rows.clone());
                let d_weight = d_weight.select_assign(0, indices, rows * -scale, burn::tensor::IndexingUpdateOp::Add);
                gradients.add(&self.vocabulary.name, d_weight);
            }
        }
        let scalar = (normed * Tensor::cat(d_normed, 0).autodiff()).sum();
        let mut computed = tape.backward(scalar, gradients);
        (nats, entered.grad_remove(&mut computed).expect("hidden states reach the loss"))
    }

    /// Probabilities `[positions, vocabulary]` and nats `[positions, 1]`.
    fn chunk(&self, rows: Tensor<2>, ids: &[u32]) -> (Tensor<2>, Tensor<2>) {
        let targets = indices(ids, &rows).reshape([ids.len(), 1]);
        let logits = rows.matmul(self.vocabulary.value.clone().transpose());
        let shifted = logits.clone() - logits.max_dim(1);
        let of_target = shifted.clone().gather(1, targets);
        let exponentials = shifted.exp();
        let sum = exponentials.clone().sum_dim(1);
        (exponentials / sum.clone(), sum.log() - of_target)
    }
}

fn indices(ids: &[u32], like: &Tensor<2>) -> Tensor<1, Int> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), &like.device())
}

fn read(tensor: &Tensor<2>) -> Vec<f32> {
    tensor.to_data().convert::<f32>().try_to_vec().expect("converted to f32")
}
