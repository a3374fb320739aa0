//! Matrix products in bf16 on the matrix unit of Intel CPUs (AMX), in two precisions.
//!
//! A product of bf16 numbers is exact in f32, and sums are kept in f32. *Medium* rounds both factors to
//! bf16. *High* writes each factor as the sum of two bf16 numbers, hi + lo, and takes
//! hi·hi + hi·lo + lo·hi: about 16 bits of each factor count. These are the words, and for *high* the
//! method, of PyTorch's `set_float32_matmul_precision`.
//!
//! The unit works on tiles of 16 rows of 64 bytes. The right factor is packed once into such tiles,
//! pairs of rows interleaved; the left one keeps its rows.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
#[path = "amx/absent.rs"]
mod unit;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code)]
#[path = "amx/unit.rs"]
mod unit;

use std::ops::Range;

use rayon::prelude::*;

use super::matmul::View;

/// Rows of the left factor, and columns of the right one, that the unit works on at a time.
pub(crate) const BLOCK: usize = 32;

/// Terms of a sum that one instruction adds.
const DEPTH: usize = 32;

/// Rows and columns of the product that one task computes.
const TASK: [usize; 2] = [128, 512];

/// A right factor `[k, n]` in tiles: by 16 columns, then by pairs of rows, then by column; zeros fill up.
#[derive(Debug, Clone)]
pub(crate) struct Right {
    k: usize,
    n: usize,
    parts: Parts,
}

/// A left factor `[m, k]`, row by row; zeros fill up.
#[derive(Debug)]
pub(crate) struct Left {
    m: usize,
    k: usize,
    parts: Parts,
}

/// Numbers rounded to bf16 and, for the precision *high*, the remainders.
#[derive(Debug, Clone)]
struct Parts {
    hi: Vec<u16>,
    lo: Option<Vec<u16>>,
}

impl Parts {
    fn zeros(length: usize, high: bool) -> Self {
        Self { hi: vec![0; length], lo: high.then(|| vec![0; length]) }
    }

    fn resize(&mut self, length: usize) {
        self.hi.resize(length, 0);
        if let Some(lo) = &mut self.lo {
            lo.resize(length, 0);
        }
    }

    /// Pieces of `size` elements, each with its number.
    fn pieces_mut(&mut self, size: usize) -> impl IndexedParallelIterator<Item = (usize, [&mut [u16]; 2])> {
        let count = self.hi.len().div_ceil(size);
        let lo: Vec<&mut [u16]> = match &mut self.lo {
            Some(lo) => lo.chunks_mut(size).collect(),
            None => (0..count).map(|_| Default::default()).collect(),
        };
        self.hi.par_chunks_mut(size).zip(lo).map(|(hi, lo)| [hi, lo]).enumerate()
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(DEPTH)
}

/// Whether this machine has the unit and lets this process use it.
pub(crate) fn available() -> bool {
    static AVAILABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(unit::request)
}

/// To the nearest bf16, ties to even; NaN stays NaN.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16 }
}

fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl Right {
    /// `factor` times a matrix.
    pub(crate) fn new(matrix: View<'_>, factor: f32, high: bool) -> Self {
        let (k, n) = (matrix.rows, matrix.columns);
        let strip = padded(k) * 16;
        let mut parts = Parts::zeros(n.div_ceil(BLOCK) * 2 * strip, high);
        parts.pieces_mut(strip.max(1)).for_each(|(index, [hi, lo])| {
            let columns = index * 16..n.min(index * 16 + 16);
            for row in 0..k {
                for (offset, column) in columns.clone().enumerate() {
                    let x = factor * matrix.data[row * matrix.row_stride + column * matrix.column_stride];
                    let place = row / 2 * 32 + offset * 2 + row % 2;
                    hi[place] = to_bf16(x);
                    if let Some(lo) = lo.get_mut(place) {
                        *lo = to_bf16(x - from_bf16(hi[place]));
                    }
                }
            }
        });
        Self { k, n, parts }
    }

    /// The same memory for another factor: rows of `n` elements, one after another, `k` of them; both are
    /// whole blocks.
    pub(crate) fn refill(&mut self, rows: &[f32], n: usize) {
        let k = rows.len() / n;
        assert!(k.is_multiple_of(DEPTH) && n.is_multiple_of(BLOCK), "whole blocks");
        (self.k, self.n) = (k, n);
        self.parts.resize(k * n);
        for (index, pair) in rows.chunks_exact(2 * n).enumerate() {
            let (first, second) = pair.split_at(n);
            let lo = self.parts.lo.as_mut().map_or(&mut [][..], |lo| &mut lo[index * 32..]);
            unit::convert_pair([first, second], &mut self.parts.hi[index * 32..], lo, 16 * k);
        }
    }

    /// No rows yet, and no remainders.
    pub(crate) fn empty() -> Self {
        assert!(available(), "asked for before");
        Self { k: 0, n: 0, parts: Parts::zeros(0, false) }
    }
}

impl Left {
    /// A matrix of `k` columns, its rows one after another.
    pub(crate) fn new(rows: &[f32], k: usize, high: bool) -> Self {
        assert!(available(), "asked for before");
        let m = rows.len() / k;
        let mut parts = Parts::zeros(m.next_multiple_of(BLOCK) * padded(k), high);
        let size = BLOCK * padded(k);
        parts.pieces_mut(size).zip(rows.par_chunks(BLOCK * k)).for_each(|((_, [hi, lo]), rows)| {
            for (index, row) in rows.chunks_exact(k).enumerate() {
                let place = index * padded(k)..(index + 1) * padded(k);
                let lo = if lo.is_empty() { &mut [][..] } else { &mut lo[place.clone()] };
                unit::convert(row, &mut hi[place], lo);
            }
        });
        Self { m, k, parts }
    }

    /// The same memory for another factor: `row(i)` are its rows.
    pub(crate) fn refill<'a>(&mut self, m: usize, k: usize, row: impl Fn(usize) -> &'a [f32]) {
        (self.m, self.k) = (m, k);
        self.parts.resize(m.next_multiple_of(BLOCK) * padded(k));
        for index in 0..m.next_multiple_of(BLOCK) {
            let place = index * padded(k)..(index + 1) * padded(k);
            let lo = self.parts.lo.as_mut().map_or(&mut [][..], |lo| &mut lo[place.clone()]);
            let hi = &mut self.parts.hi[place];
            match index < m {
                true => {
                    let row = row(index);
                    hi[row.len()..].fill(0);
                    lo.iter_mut().skip(row.len()).for_each(|lo| *lo = 0);
                    unit::convert(row, hi, lo);
                }
                false => {
                    hi.fill(0);
                    lo.fill(0);
                }
            }
        }
    }

    /// No rows yet, and no remainders.
    pub(crate) fn empty() -> Self {
        assert!(available(), "asked for before");
        Self { m: 0, k: 0, parts: Parts::zeros(0, false) }
    }
}

/// Part of a product on the calling thread: all rows of `left` by some columns of `right`, over some of
/// its terms, to rows of `out` that lie `stride` apart.
///
/// # Panics
/// If the ranges are not whole blocks, or shapes do not fit.
pub(crate) fn multiply_part(
    out: &mut [f32],
    stride: usize,
    accumulate: bool,
    left: &Left,
    right: &Right,
    terms: Range<usize>,
    columns: Range<usize>,
) {
    unit::part(out, stride, accumulate, left, right, terms, columns);
}

/// `out = left right`, or `out += left right`, for `[m, n]` rows one after another.
///
/// # Panics
/// If shapes or precisions do not fit.
pub(crate) fn multiply(out: &mut [f32], accumulate: bool, left: &Left, right: &Right) {
    assert_eq!(left.k, right.k, "inner dimensions");
    assert_eq!(out.len(), left.m * right.n, "the product's shape");
    assert_eq!(left.parts.lo.is_some(), right.parts.lo.is_some(), "one precision");
    let [rows, columns] = TASK;
    let tasks =
        (0..left.m).step_by(rows).flat_map(|row| (0..right.n).step_by(columns).map(move |column| (row, column)));
    let out = unit::Shared::new(out);
    tasks.collect::<Vec<_>>().into_par_iter().for_each(|(row, column)| {
        let rows = row..left.m.min(row + rows);
        let columns = column..right.n.min(column + columns);
        unit::task(&out, accumulate, left, right, rows, columns);
    });
}
