//! How factors lie in memory: strips of lines, steps of terms, tiles of rows.

use crate::kernels::matmul::MatRef;

/// Lines of a strip.
pub(super) const STRIP: usize = 16;

/// Lines of both factors that the unit works on at a time: two strips.
pub(crate) const BLOCK: usize = 2 * STRIP;

/// Terms of a sum that one instruction adds.
pub(super) const STEP: usize = 32;

/// One row of a tile.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Row(pub(super) [u16; STEP]);

/// Rows of a tile.
pub(super) const TILE: usize = STRIP;

/// A factor as its lines: `factor` times the element at `line · line_stride + term · term_stride`. One of
/// the strides is 1.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) data: &'a [f32],
    pub(super) lines: usize,
    pub(super) terms: usize,
    pub(super) line_stride: usize,
    pub(super) term_stride: usize,
    pub(super) factor: f32,
    /// Which factor it is.
    pub(super) side: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A tile has a row for each line.
    Left,
    /// A tile has a row for each two terms.
    Right,
}

impl<'a> Lines<'a> {
    pub(super) fn of_left(matrix: MatRef<'a>, factor: f32) -> Self {
        let MatRef { data, rows: lines, columns: terms, row_stride: line_stride, column_stride: term_stride } = matrix;
        assert!(line_stride == 1 || term_stride == 1, "elements of rows or columns lie one after another");
        Self { data, lines, terms, line_stride, term_stride, factor, side: Side::Left }
    }

    pub(super) fn of_right(matrix: MatRef<'a>, factor: f32) -> Self {
        Self { side: Side::Right, ..Self::of_left(matrix.transposed(), factor) }
    }
}

/// The tiles of two strips, step by step.
#[derive(Clone, Copy)]
pub(super) struct Strips<'a> {
    pub(super) strips: [&'a [Row]; 2],
    pub(super) parts: usize,
}
