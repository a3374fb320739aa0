//! Matrix products of strided views, by the `gemm` crate; a few rows by ourselves.

use std::ops::Range;

use rayon::prelude::*;

use super::{sum, unfilled, vectorised};

/// A matrix in somebody's memory: element (i, j) lies at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows that lie one after another.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows that lie `row_stride` apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of its rows and columns.
    pub(crate) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "the part is inside");
        let first = rows.start * self.row_stride + columns.start * self.column_stride;
        Self { data: &self.data[first..], rows: rows.len(), columns: columns.len(), ..self }
    }

    /// One past the last element.
    fn end(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// Who computes a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// The calling thread: for products inside a task.
    One,
    /// All threads.
    All,
}

/// `out = earlier · out + factor · a b`, where `out` has rows `out_stride` apart; `earlier` is 0 or 1.
///
/// # Panics
/// If shapes do not fit each other or their memory.
#[allow(unsafe_code)]
pub(crate) fn multiply(
    out: &mut [f32],
    out_stride: usize,
    accumulate: bool,
    a: View<'_>,
    b: View<'_>,
    factor: f32,
    workers: Workers,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner dimensions");
    if m == 0 || n == 0 {
        return;
    }
    assert!(out_stride >= n && (m - 1) * out_stride + n <= out.len(), "the product fits its memory");
    assert!(a.end() <= a.data.len() && b.end() <= b.data.len(), "views fit their memory");
    if m <= FEW_ROWS && workers == Workers::All && a.column_stride == 1 && b.row_stride == 1 {
        multiply_few(out, out_stride, accumulate, a, b, factor);
        return;
    }
    let parallelism = match workers {
        Workers::One => gemm::Parallelism::None,
        Workers::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: every element that is read or written lies inside the slices, as asserted; `out` is
    // exclusive, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Rows up to which a product with a weight takes about as long as the weight takes to be read, and each comes out on the device
/// flex as it would alone.
pub const FEW_ROWS: usize = 8;

/// Elements of the matrix that one task takes.
const FEW_TASK: usize = 1 << 16;

/// A few rows times a matrix whose columns lie each in one piece: as quick as memory gives the matrix. Each row comes out
/// as it would alone.
fn multiply_few(out: &mut [f32], out_stride: usize, accumulate: bool, a: View<'_>, b: View<'_>, factor: f32) {
    let (m, k) = (a.rows, a.columns);
    let columns = FEW_TASK.div_ceil(k.max(1));
    // Column by column, so that each task writes to one piece.
    let mut products = unfilled(m * b.columns);
    products.par_chunks_mut(columns * m).enumerate().for_each(|(task, products)| {
        vectorised(
            #[inline(always)]
            || {
                for (index, products) in products.chunks_exact_mut(m).enumerate() {
                    let column = &b.data[(task * columns + index) * b.column_stride..][..k];
                    for (row, product) in products.iter_mut().enumerate() {
                        *product = factor * sum([&a.data[row * a.row_stride..][..k], column], |[x, y]| x * y);
                    }
                }
            },
        );
    });
    for (row, out) in out.chunks_mut(out_stride).take(m).enumerate() {
        for (out, products) in out.iter_mut().zip(products.chunks_exact(m)) {
            *out = if accumulate { *out + products[row] } else { products[row] };
        }
    }
}
