//! The products that attention needs: of f32 numbers where they lie, or of bf16 numbers cut into tiles.

use std::borrow::Cow;
use std::ops::Range;

use crate::kernels::bf16::{self, PackedLhs, PackedRhs, multiply_part};
use crate::kernels::matmul::{MatRef, Workers, multiply_strided};
use crate::kernels::out::Out;

/// How numbers are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// As they are.
    F32,
    /// As sums of `parts` bf16 numbers.
    Bf16 { parts: usize },
}

impl Numbers {
    /// Rows of queries and runs of keys are filled up to multiples of this.
    pub(super) fn block(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 { .. } => bf16::BLOCK,
        }
    }

    /// A length filled up so.
    pub(super) fn whole(self, length: usize) -> usize {
        length.next_multiple_of(self.block())
    }

    fn parts(self) -> Option<usize> {
        match self {
            Self::F32 => None,
            Self::Bf16 { parts } => Some(parts),
        }
    }

    /// A right factor that many tiles share, prepared by all cores.
    pub(super) fn shared(self, matrix: MatRef<'_>) -> Right<'_> {
        match self {
            Self::F32 => Right::Plain(matrix),
            Self::Bf16 { parts } => Right::Tiles(Cow::Owned(PackedRhs::new(matrix, parts))),
        }
    }
}

/// A left factor.
pub(super) enum Left<'a> {
    Plain(MatRef<'a>),
    Tiles(&'a PackedLhs),
}

/// A right factor.
pub(super) enum Right<'a> {
    Plain(MatRef<'a>),
    Tiles(Cow<'a, PackedRhs>),
}

/// Memory for one left factor at a time.
pub(super) struct LeftBuffer(Option<PackedLhs>);

impl LeftBuffer {
    pub(super) fn new(numbers: Numbers) -> Self {
        Self(numbers.parts().map(PackedLhs::empty))
    }

    pub(super) fn fill<'a>(&'a mut self, matrix: MatRef<'a>) -> Left<'a> {
        match &mut self.0 {
            None => Left::Plain(matrix),
            Some(tiles) => {
                tiles.refill(matrix);
                Left::Tiles(tiles)
            }
        }
    }
}

/// Memory for one right factor at a time.
pub(super) struct RightBuffer(Option<PackedRhs>);

impl RightBuffer {
    pub(super) fn new(numbers: Numbers) -> Self {
        Self(numbers.parts().map(PackedRhs::empty))
    }

    pub(super) fn fill<'a>(&'a mut self, matrix: MatRef<'a>) -> Right<'a> {
        match &mut self.0 {
            None => Right::Plain(matrix),
            Some(tiles) => {
                tiles.refill(matrix);
                Right::Tiles(Cow::Borrowed(tiles))
            }
        }
    }
}

/// `out (+)= left · right[terms, columns]` on the calling thread, where `out` has rows `stride` apart. Both ranges
/// are whole blocks of [`Numbers::block`], and bf16 numbers write whole blocks of `out`.
pub(super) fn multiply(
    mut out: Out<'_>,
    stride: usize,
    left: &Left<'_>,
    right: &Right<'_>,
    [terms, columns]: [Range<usize>; 2],
) {
    match (left, right) {
        (Left::Plain(left), Right::Plain(right)) => {
            multiply_strided(&mut out, stride, *left, right.part(terms, columns), 1.0, Workers::One);
        }
        (Left::Tiles(left), Right::Tiles(right)) => multiply_part(&mut out, stride, left, right, [terms, columns]),
        _ => unreachable!("both factors are of the same numbers"),
    }
}
