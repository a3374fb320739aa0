//! Memory layout of packed factors: strips of lines, steps of terms, tiles of rows.

use crate::kernels::matmul::MatRef;

/// Lines of a strip.
pub(super) const STRIP: usize = 16;

/// Lines of each factor in one block of a product: two strips.
pub(crate) const BLOCK: usize = 2 * STRIP;

/// Terms of the sum in one tile.
pub(super) const STEP: usize = 32;

/// One row of a tile.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [u16; STEP]);

/// Rows of a tile.
pub(super) const TILE: usize = STRIP;

/// A factor as lines of terms: each is `factor` times the element at `line · line_stride + term · term_stride`. One
/// of the strides is 1.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) data: &'a [f32],
    pub(super) lines: usize,
    pub(super) terms: usize,
    pub(super) line_stride: usize,
    pub(super) term_stride: usize,
    pub(super) factor: f32,
    /// Whether it is the left or the right factor.
    pub(super) operand: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A tile has a row for each line.
    Lhs,
    /// A tile has a row for each pair of terms.
    Rhs,
}

impl<'a> Lines<'a> {
    pub(super) fn of_left(matrix: MatRef<'a>, factor: f32) -> Self {
        let MatRef { data, rows: lines, columns: terms, row_stride: line_stride, column_stride: term_stride } = matrix;
        assert!(line_stride == 1 || term_stride == 1, "elements of rows or columns lie one after another");
        Self { data, lines, terms, line_stride, term_stride, factor, operand: Operand::Lhs }
    }

    pub(super) fn of_right(matrix: MatRef<'a>, factor: f32) -> Self {
        Self { operand: Operand::Rhs, ..Self::of_left(matrix.transposed(), factor) }
    }
}

/// The tiles of two strips, step by step.
#[derive(Clone, Copy)]
pub(super) struct Strips<'a> {
    pub(super) strips: [&'a [Row]; 2],
    pub(super) parts: usize,
}
