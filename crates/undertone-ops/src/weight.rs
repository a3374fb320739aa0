//! A matrix to multiply with, and its packed copies.

use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

use crate::kernels::bf16::PackedRhs;
use crate::kernels::matmul::MatRef;

/// Copies of a frozen matrix as packed bf16 tiles: one for the forward, one for the backward. A copy is made on
/// first use, and clones share it. It has one bf16 part per number; two parts would take as much memory as the
/// matrix itself, so they are packed anew for each product.
#[derive(Debug, Clone, Default)]
pub struct PackedCopies(Arc<Copies>);

#[derive(Debug, Default)]
struct Copies {
    is_one_part: OnceLock<bool>,
    sides: [OnceLock<PackedRhs>; 2],
}

impl PackedCopies {
    /// Whether the matrix is exact in bf16.
    pub(crate) fn is_one_part(&self, look: impl FnOnce() -> bool) -> bool {
        *self.0.is_one_part.get_or_init(look)
    }

    /// The copy for one side of a product.
    pub(crate) fn get(&self, side: Side, cut: impl FnOnce() -> PackedRhs) -> &PackedRhs {
        self.0.sides[usize::from(side == Side::Backward)].get_or_init(cut)
    }
}

/// The product in which a weight is the right factor.
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
    /// Storage for packed copies, if W never changes.
    pub copies: Option<&'a PackedCopies>,
}

impl Side {
    /// The right factor for W `[out, in]`.
    pub(crate) fn rhs(self, weight: MatRef<'_>) -> MatRef<'_> {
        match self {
            Self::Forward => weight.transposed(),
            Self::Backward => weight,
        }
    }
}
