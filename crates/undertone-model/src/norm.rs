//! RMS norms (arXiv 1910.07467), of rows or of the heads of rows.

use burn::tensor::Tensor;
use undertone_ops::{NormBackward, Operators};

use crate::parameter::{Gradients, Parameter};

/// x / √(mean x² + ε) ∘ (w + offset).
#[derive(Debug, Clone)]
pub struct Norm {
    /// w, `[1, width]`. Rows that are wider are normed in pieces of this width: the heads of queries and keys.
    pub weight: Parameter,
    pub(crate) epsilon: f64,
    pub(crate) offset: f64,
}

impl Norm {
    fn scale(&self) -> Tensor<2> {
        let weight = self.weight.value().clone();
        if self.offset == 0.0 { weight } else { weight + self.offset }
    }

    /// `[tokens, n · width]` as `[tokens · n, width]`.
    fn pieces(&self, x: Tensor<2>) -> Tensor<2> {
        let ([tokens, row], [_, width]) = (x.dims(), self.weight.value().dims());
        if row == width { x } else { x.reshape([tokens * row / width, width]) }
    }

    /// `[tokens, n · width]`, each piece normed.
    pub(crate) fn forward(&self, x: &Tensor<2>, operators: &dyn Operators) -> Tensor<2> {
        let shape = x.dims();
        whole(operators.rms_norm(&self.pieces(x.clone()), &self.scale(), self.epsilon), shape)
    }

    /// The gradient of x, added to `d_x`; adds that of w to `gradients`.
    pub(crate) fn backward(
        &self,
        x: &Tensor<2>,
        d_y: &Tensor<2>,
        d_x: Tensor<2>,
        operators: &dyn Operators,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let shape = x.dims();
        let (d_x, d_weight) = operators.rms_norm_backward(NormBackward {
            x: &self.pieces(x.clone()),
            weight: &self.scale(),
            epsilon: self.epsilon,
            d_y: &self.pieces(d_y.clone()),
            d_x: self.pieces(d_x),
            weight_gradient: self.weight.trainable,
        });
        gradients.add_if(&self.weight, d_weight);
        whole(d_x, shape)
    }
}

/// Pieces as the rows that they are of; rows of one piece stay as they are.
fn whole(pieces: Tensor<2>, shape: [usize; 2]) -> Tensor<2> {
    if pieces.dims() == shape { pieces } else { pieces.reshape(shape) }
}
