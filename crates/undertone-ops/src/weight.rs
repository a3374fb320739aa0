//! A matrix to multiply with, and how exactly.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::kernels::bf16::{self, Right};
use crate::kernels::matmul::View;

/// How exactly matrices are multiplied: the words of PyTorch's `set_float32_matmul_precision`.
///
/// Everything between the products (norms, softmax, sums, the loss, the optimiser) is f32 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// f32: all 24 bits of each factor count.
    #[default]
    Highest,
    /// About 16 bits of each factor count (sums of two bf16 numbers) on a CPU with AMX; f32 elsewhere.
    High,
    /// Factors are rounded to bf16, and sums are f32, on a CPU with AMX, or of AMD with AVX-512-BF16; f32 elsewhere.
    Medium,
}

impl MatmulPrecision {
    /// Whether this machine computes products as this precision says, and not in f32 for want of instructions.
    pub fn is_supported(self) -> bool {
        self == Self::Highest || bf16::parts(self).is_some()
    }
}

/// Copies of a frozen matrix in tiles of bf16, one for each side of a product. Made when first needed, and
/// shared by clones. More parts than one would take more memory than the matrix itself: those are cut anew
/// for each product.
#[derive(Debug, Clone, Default)]
pub struct PackedCopies(Arc<Copies>);

#[derive(Debug, Default)]
struct Copies {
    is_one_part: OnceLock<bool>,
    sides: [OnceLock<Right>; 2],
}

impl PackedCopies {
    /// Whether the matrix is exact in bf16.
    pub(crate) fn is_one_part(&self, look: impl FnOnce() -> bool) -> bool {
        *self.0.is_one_part.get_or_init(look)
    }

    /// The copy for one side of a product.
    pub(crate) fn get(&self, side: Side, cut: impl FnOnce() -> Right) -> &Right {
        self.0.sides[usize::from(side == Side::Backward)].get_or_init(cut)
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
