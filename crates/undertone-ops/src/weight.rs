//! A matrix to multiply with, and how exactly.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::kernels::amx::{self, Right};
use crate::kernels::matmul::View;

/// How exactly matrices are multiplied: the words of PyTorch's `set_float32_matmul_precision`.
///
/// Everything between the products (norms, softmax, sums, the loss, the optimiser) is f32 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// f32.
    #[default]
    Highest,
    /// Products with weights count about 16 bits of each factor (three products of bf16 numbers); f32
    /// where the machine has no unit for it.
    High,
    /// Products with weights, and those of attention, round both factors to bf16 and sum in f32; f32 where
    /// the machine has no unit for it.
    Medium,
}

impl MatmulPrecision {
    /// Whether this machine computes products as this precision says, and not in f32 for want of a unit.
    pub fn is_supported(self) -> bool {
        self == Self::Highest || amx::available()
    }
}

/// Copies of a frozen matrix in the layouts that the fused operators multiply with. Made when first needed,
/// and shared by clones.
#[derive(Debug, Clone, Default)]
pub struct PackedCopies(Arc<[OnceLock<Right>; 4]>);

impl PackedCopies {
    /// The copy for one side of a product and one precision.
    pub(crate) fn get(&self, side: Side, high: bool, pack: impl FnOnce() -> Right) -> &Right {
        self.0[2 * usize::from(side == Side::Backward) + usize::from(high)].get_or_init(pack)
    }
}

/// Which way a weight is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// x Wᵀ.
    Forward,
    /// dy W.
    Backward,
}

/// A matrix `[out, in]` to multiply with.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    /// W.
    pub value: &'a Tensor<2>,
    /// Where copies are kept, if it never changes.
    pub copies: Option<&'a PackedCopies>,
}

impl Side {
    /// The right factor for W `[out, in]`.
    pub(crate) fn of(self, weight: View<'_>) -> View<'_> {
        match self {
            Self::Forward => weight.transposed(),
            Self::Backward => weight,
        }
    }
}
