//! The products of attention: of f32 numbers in place, or of bf16 numbers packed into tiles.

use std::borrow::Cow;
use std::ops::Range;

use crate::kernels::bf16::{self, PackedLhs, PackedRhs, multiply_part};
use crate::kernels::matmul::{MatRef, Workers, multiply_strided};
use crate::kernels::out::Out;

/// The numbers that products multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// f32 numbers, unchanged.
    F32,
    /// Sums of `parts` bf16 numbers.
    Bf16 { parts: usize },
}

impl Numbers {
    /// Rows of queries and runs of keys are padded to multiples of this.
    pub(super) fn block(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 { .. } => bf16::BLOCK,
        }
    }

    /// A length, rounded up to a multiple of [`Self::block`].
    pub(super) fn whole(self, length: usize) -> usize {
        length.next_multiple_of(self.block())
    }

    fn parts(self) -> Option<usize> {
        match self {
            Self::F32 => None,
            Self::Bf16 { parts } => Some(parts),
        }
    }

    /// A right factor that many tiles of queries share, packed on all cores.
    pub(super) fn shared(self, matrix: MatRef<'_>) -> Rhs<'_> {
        match self {
            Self::F32 => Rhs::Plain(matrix),
            Self::Bf16 { parts } => Rhs::Tiles(Cow::Owned(PackedRhs::new(matrix, parts))),
        }
    }
}

/// A left factor.
pub(super) enum Lhs<'a> {
    Plain(MatRef<'a>),
    Tiles(&'a PackedLhs),
}

/// A right factor.
pub(super) enum Rhs<'a> {
    Plain(MatRef<'a>),
    Tiles(Cow<'a, PackedRhs>),
}

/// Memory for one left factor at a time.
pub(super) struct LhsBuffer(Option<PackedLhs>);

impl LhsBuffer {
    pub(super) fn new(numbers: Numbers) -> Self {
        Self(numbers.parts().map(PackedLhs::empty))
    }

    pub(super) fn fill<'a>(&'a mut self, matrix: MatRef<'a>) -> Lhs<'a> {
        match &mut self.0 {
            None => Lhs::Plain(matrix),
            Some(tiles) => {
                tiles.refill(matrix);
                Lhs::Tiles(tiles)
            }
        }
    }
}

/// Memory for one right factor at a time.
pub(super) struct RhsBuffer(Option<PackedRhs>);

impl RhsBuffer {
    pub(super) fn new(numbers: Numbers) -> Self {
        Self(numbers.parts().map(PackedRhs::empty))
    }

    pub(super) fn fill<'a>(&'a mut self, matrix: MatRef<'a>) -> Rhs<'a> {
        match &mut self.0 {
            None => Rhs::Plain(matrix),
            Some(tiles) => {
                tiles.refill(matrix);
                Rhs::Tiles(Cow::Borrowed(tiles))
            }
        }
    }
}

/// `out (+)= left · right[terms, columns]` on the calling thread, where `out` has rows `stride` apart. `columns` are
/// whole blocks of [`Numbers::block`], and `terms` begin at one. With bf16 numbers, whole blocks of `out` are written.
pub(super) fn multiply(
    mut out: Out<'_>,
    stride: usize,
    left: &Lhs<'_>,
    right: &Rhs<'_>,
    [terms, columns]: [Range<usize>; 2],
) {
    match (left, right) {
        (Lhs::Plain(left), Rhs::Plain(right)) => {
            multiply_strided(&mut out, stride, *left, right.part(terms, columns), 1.0, Workers::One);
        }
        (Lhs::Tiles(left), Rhs::Tiles(right)) => multiply_part(&mut out, stride, left, right, [terms, columns]),
        _ => unreachable!("both factors are of the same numbers"),
    }
}
