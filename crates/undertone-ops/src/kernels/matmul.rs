//! Matrix products of strided views: by the `gemm` crate, or by our own loop for a few rows.

use std::ops::Range;

use rayon::prelude::*;

use super::out::Out;
use super::{sum, vectorised};

/// A borrowed matrix: element (i, j) lies at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct MatRef<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> MatRef<'a> {
    /// A row-major matrix with contiguous rows.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// A row-major matrix with rows `row_stride` apart.
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

    /// The submatrix of some rows and columns.
    pub(crate) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "the part is inside");
        let first = rows.start * self.row_stride + columns.start * self.column_stride;
        Self { data: &self.data[first..], rows: rows.len(), columns: columns.len(), ..self }
    }

    /// Index one past the last element.
    fn end(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// The threads that compute a product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// The calling thread: for products inside a task.
    One,
    /// All threads.
    All,
}

/// `out (+)= factor · a b`, with contiguous rows; returns the numbers of `out`.
///
/// # Panics
/// If shapes do not fit each other or their memory, or the inner dimension is 0.
pub(crate) fn multiply<'a>(out: Out<'a>, a: MatRef<'_>, b: MatRef<'_>, factor: f32, workers: Workers) -> &'a mut [f32] {
    assert_eq!(out.len(), a.rows * b.columns, "the product's shape");
    let (mut out, stride) = (out, b.columns);
    multiply_strided(&mut out, stride, a, b, factor, workers);
    #[allow(unsafe_code)]
    // SAFETY: the contiguous rows fill the memory, and every element was written.
    unsafe {
        out.into_numbers()
    }
}

/// `out (+)= factor · a b`, where `out` has rows `stride` apart.
///
/// # Panics
/// If shapes do not fit each other or their memory, or the inner dimension is 0.
#[allow(unsafe_code)]
pub(crate) fn multiply_strided(
    out: &mut Out<'_>,
    stride: usize,
    a: MatRef<'_>,
    b: MatRef<'_>,
    factor: f32,
    workers: Workers,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner dimensions");
    if m == 0 || n == 0 {
        return;
    }
    assert!(k > 0, "the inner dimension is not 0");
    let end = (m - 1).checked_mul(stride).and_then(|row| row.checked_add(n));
    assert!(stride >= n && end.is_some_and(|end| end <= out.len()), "the product fits its memory");
    assert!(a.end() <= a.data.len() && b.end() <= b.data.len(), "matrices fit their memory");
    if m <= FEW_ROWS && workers == Workers::All && a.column_stride == 1 && b.row_stride == 1 {
        // SAFETY: as asserted, the product fits its memory.
        unsafe { multiply_few(out, stride, a, b, factor) };
        return;
    }
    let parallelism = match workers {
        Workers::One => gemm::Parallelism::None,
        Workers::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: every element that is read or written lies inside the slices, as asserted. `out` is borrowed
    // exclusively, so it overlaps neither factor. It is read only if it accumulates, and then it is initialized.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            out.accumulates(),
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

/// Up to this many rows, a product with a weight takes about as long as reading the weight. On the device flex, each
/// row of such a product equals the product of that row alone.
pub const FEW_ROWS: usize = 8;

/// Elements of the right factor that one task reads.
const FEW_TASK: usize = 1 << 16;

/// A few rows times a matrix with contiguous columns, at the speed of reading the matrix from memory. Each row of the
/// product equals the product of that row alone.
///
/// # Safety
/// The product fits `out`.
#[allow(unsafe_code)]
unsafe fn multiply_few(out: &mut Out<'_>, stride: usize, a: MatRef<'_>, b: MatRef<'_>, factor: f32) {
    let (m, k) = (a.rows, a.columns);
    let columns = FEW_TASK.div_ceil(k);
    // Column by column, so that each task writes contiguous memory.
    let mut products = Box::new_uninit_slice(m * b.columns);
    products.par_chunks_mut(columns * m).enumerate().for_each(|(task, products)| {
        vectorised(
            #[inline(always)]
            || {
                for (index, products) in products.chunks_exact_mut(m).enumerate() {
                    let column = &b.data[(task * columns + index) * b.column_stride..][..k];
                    for (row, product) in products.iter_mut().enumerate() {
                        let row = &a.data[row * a.row_stride..][..k];
                        product.write(factor * sum([row, column], |[x, y]| x * y));
                    }
                }
            },
        );
    });
    // SAFETY: every chunk holds whole columns, and every element of a column was written.
    let products = unsafe { products.assume_init() };
    let (start, accumulates) = (out.as_mut_ptr(), out.accumulates());
    for row in 0..m {
        for (column, products) in products.chunks_exact(m).enumerate() {
            // SAFETY: the caller asserts that the product fits `out`, which is initialized if it accumulates.
            unsafe {
                let out = start.add(row * stride + column);
                out.write(if accumulates { out.read() + products[row] } else { products[row] });
            }
        }
    }
}
