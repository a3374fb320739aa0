//! Matrix products of bf16 numbers, summed in f32.
//!
//! A product of two bf16 numbers is exact in f32. With each factor rounded to one bf16 number its first 8 bits
//! count; as the sum of two, the second the rounded rest of the first, about 16 do, and the product of
//! the two rests is left out. These are the precisions *medium* and *high* of PyTorch's
//! `set_float32_matmul_precision`. A factor that is exact in one part, such as weights published in
//! bf16, needs no more.
//!
//! Both factors are cut into tiles first: a factor is a list of *strips* of 16 lines (rows of the left
//! factor, columns of the right one), a strip is a list of *steps* of 32 terms of the sum, and a step has one
//! tile for each part. Zeros fill up.
//!
//! A tile is sixteen rows of 64 bytes, each in a cache line of its own: from rows that lie across two lines, AMX
//! loads tiles at a quarter of the speed.

// Where there is no unit, what it would work on is made by nobody.
#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod absent;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code)]
mod cut;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[allow(unsafe_code)]
mod unit;

use std::ops::Range;

use rayon::prelude::*;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
use self::absent::{cut, unit};
use self::cut::fill_strip;
use self::unit::{Session, Shared, Unit};
use super::matmul::View;
use super::unfilled;
use crate::MatmulPrecision;

/// Lines of a strip.
const STRIP: usize = 16;

/// Lines of both factors that the unit works on at a time: two strips.
pub(crate) const BLOCK: usize = 2 * STRIP;

/// Terms of a sum that one instruction adds.
const STEP: usize = 32;

/// One row of a tile.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Row([u16; STEP]);

/// Rows of a tile.
const TILE: usize = STRIP;

/// Columns of a product that one task computes, at most.
const TASK_COLUMNS: usize = 192;

/// Elements of a right factor's tiles that one task goes through again and again: they share the
/// second-level cache with others.
const TASK_ELEMENTS: usize = 450_000;

/// Steps that one task adds before it begins again with its first row.
const CHUNK_STEPS: usize = 48;

/// The unit of this machine.
fn unit() -> Option<Unit> {
    static UNIT: std::sync::OnceLock<Option<Unit>> = std::sync::OnceLock::new();
    *UNIT.get_or_init(Unit::find)
}

/// The parts of each number that products have at a precision; none where they are as quick in f32, or
/// quicker.
pub(crate) fn parts(precision: MatmulPrecision) -> Option<usize> {
    match (precision, unit()?) {
        (MatmulPrecision::Medium, _) => Some(1),
        (MatmulPrecision::High, Unit::Amx) => Some(2),
        (MatmulPrecision::High, Unit::Avx512) | (MatmulPrecision::Highest, _) => None,
    }
}

/// Whether every element is a bf16 number.
pub(crate) fn is_one_part(elements: &[f32]) -> bool {
    elements.iter().all(|x| x.to_bits() & 0xFFFF == 0)
}

/// A factor as its lines: `factor` times the element at `line · line_stride + term · term_stride`. One of
/// the strides is 1.
#[derive(Clone, Copy)]
struct Lines<'a> {
    data: &'a [f32],
    lines: usize,
    terms: usize,
    line_stride: usize,
    term_stride: usize,
    factor: f32,
    of: Side,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// A tile has a row for each line.
    Left,
    /// A tile has a row for each two terms.
    Right,
}

impl<'a> Lines<'a> {
    fn of_left(matrix: View<'a>, factor: f32) -> Self {
        let View { data, rows: lines, columns: terms, row_stride: line_stride, column_stride: term_stride } = matrix;
        assert!(line_stride == 1 || term_stride == 1, "elements of rows or columns lie one after another");
        Self { data, lines, terms, line_stride, term_stride, factor, of: Side::Left }
    }

    fn of_right(matrix: View<'a>, factor: f32) -> Self {
        Self { of: Side::Right, ..Self::of_left(matrix.transposed(), factor) }
    }
}

/// A factor in tiles.
#[derive(Debug, Clone)]
struct Tiles {
    lines: usize,
    terms: usize,
    parts: usize,
    rows: Vec<Row>,
}

impl Tiles {
    fn empty(parts: usize) -> Self {
        assert!(Unit::can_cut(), "asked for before");
        Self { lines: 0, terms: 0, parts, rows: Vec::new() }
    }

    fn steps(&self) -> usize {
        self.terms.div_ceil(STEP)
    }

    /// Rows of one strip.
    fn strip(&self) -> usize {
        self.steps() * self.parts * TILE
    }

    /// Makes room for another factor; its rows are whatever was there.
    fn reshape(&mut self, lines: usize, terms: usize) {
        (self.lines, self.terms) = (lines, terms);
        let length = lines.next_multiple_of(BLOCK) / STRIP * self.strip();
        if length > self.rows.len() {
            self.rows = unfilled(length);
        }
    }

    fn fill(&mut self, lines: Lines<'_>, in_parallel: bool) {
        self.reshape(lines.lines, lines.terms);
        let (parts, steps) = (self.parts, 0..self.steps());
        let length = lines.lines.next_multiple_of(BLOCK) / STRIP * self.strip();
        let strip = self.strip().max(1);
        let rows = &mut self.rows[..length];
        match in_parallel {
            true => rows
                .par_chunks_mut(strip)
                .enumerate()
                .for_each(|(index, out)| fill_strip(out, parts, lines, index * STRIP, steps.clone())),
            false => rows
                .chunks_mut(strip)
                .enumerate()
                .for_each(|(index, out)| fill_strip(out, parts, lines, index * STRIP, steps.clone())),
        }
    }

    /// The tiles of two strips from `line`, a multiple of [`BLOCK`], and of some steps.
    fn block(&self, line: usize, steps: &Range<usize>) -> Strips<'_> {
        let strip = self.strip();
        let from = line / STRIP * strip;
        let tiles = |from: usize| {
            let step = self.parts * TILE;
            &self.rows[from + steps.start * step..from + steps.end * step]
        };
        Strips { strips: [tiles(from), tiles(from + strip)], parts: self.parts }
    }
}

/// The tiles of two strips, step by step.
#[derive(Clone, Copy)]
struct Strips<'a> {
    strips: [&'a [Row]; 2],
    parts: usize,
}

/// A left factor `[rows, terms]`.
#[derive(Debug)]
pub(crate) struct Left(Tiles);

impl Left {
    /// No rows yet.
    pub(crate) fn empty(parts: usize) -> Self {
        Self(Tiles::empty(parts))
    }

    /// A matrix, by all cores.
    pub(crate) fn new(matrix: View<'_>, parts: usize) -> Self {
        let mut new = Self::empty(parts);
        new.0.fill(Lines::of_left(matrix, 1.0), true);
        new
    }

    /// The same memory for another factor.
    pub(crate) fn refill(&mut self, matrix: View<'_>) {
        self.0.fill(Lines::of_left(matrix, 1.0), false);
    }
}

/// A right factor `[terms, columns]`.
#[derive(Debug, Clone)]
pub(crate) struct Right(Tiles);

impl Right {
    /// No rows yet.
    pub(crate) fn empty(parts: usize) -> Self {
        Self(Tiles::empty(parts))
    }

    /// A matrix, by all cores.
    pub(crate) fn new(matrix: View<'_>, parts: usize) -> Self {
        let mut new = Self::empty(parts);
        new.0.fill(Lines::of_right(matrix, 1.0), true);
        new
    }

    /// The same memory for another factor.
    pub(crate) fn refill(&mut self, matrix: View<'_>) {
        self.0.fill(Lines::of_right(matrix, 1.0), false);
    }
}

/// One product of a sum of products.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) left: &'a Left,
    pub(crate) right: RightFactor<'a>,
}

/// A right factor, cut into tiles or still to be.
#[derive(Clone, Copy)]
pub(crate) enum RightFactor<'a> {
    /// Its tiles.
    Tiles(&'a Right),
    /// `factor` times a matrix, which each task cuts for itself, in so many parts.
    Plain { matrix: View<'a>, factor: f32, parts: usize },
}

impl RightFactor<'_> {
    /// Terms and columns.
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Tiles(Right(tiles)) => (tiles.terms, tiles.lines),
            Self::Plain { matrix, .. } => (matrix.rows, matrix.columns),
        }
    }
}

/// `out (+)= Σ left right`, for `[rows, columns]` one row after another.
///
/// # Panics
/// If shapes do not fit.
pub(crate) fn multiply(out: &mut [f32], accumulate: bool, products: &[Product<'_>]) {
    multiply_with(unit().expect("asked for before"), out, accumulate, products);
}

fn multiply_with(unit: Unit, out: &mut [f32], accumulate: bool, products: &[Product<'_>]) {
    let [rows, columns] = [products[0].left.0.lines, products[0].right.shape().1];
    assert_eq!(out.len(), rows * columns, "the product's shape");
    for Product { left, right } in products {
        assert_eq!((left.0.terms, left.0.lines), (right.shape().0, rows), "inner dimension and rows");
        assert_eq!(right.shape().1, columns, "columns");
    }
    let chunks = chunks(products);
    let out = Shared::new(out);
    tasks(rows, columns, &chunks[0], products).into_par_iter().for_each_init(Vec::new, |scratch, (rows, columns)| {
        let mut accumulate = accumulate;
        for chunk in &chunks {
            let place = (rows.clone(), columns.clone());
            multiply_chunk(&unit.begin(), &out, accumulate, products, chunk, place, scratch);
            accumulate = true;
        }
    });
}

/// The tasks of a product. How it is cut changes no element of it.
fn tasks(rows: usize, columns: usize, chunk: &[Piece], products: &[Product<'_>]) -> Vec<(Range<usize>, Range<usize>)> {
    let of_column = |(index, steps): &Piece| steps.len() * STEP * products[*index].left.0.parts;
    let fitting = TASK_ELEMENTS / chunk.iter().map(of_column).sum::<usize>().max(1) / BLOCK * BLOCK;
    // Enough for every thread to have a few; but each cuts its columns of the right factor anew.
    let wanted = 2 * rayon::current_num_threads();
    let width = fitting.clamp(BLOCK, TASK_COLUMNS).min(columns.div_ceil(wanted).next_multiple_of(BLOCK).max(3 * BLOCK));
    let height = rows.div_ceil(wanted.div_ceil(columns.div_ceil(width))).next_multiple_of(4 * BLOCK);
    let cut = |length: usize, size: usize| (0..length).step_by(size).map(move |from| from..length.min(from + size));
    cut(columns, width).flat_map(|columns| cut(rows, height).map(move |rows| (rows, columns.clone()))).collect()
}

/// Which product of the sum, and which of its steps.
type Piece = (usize, Range<usize>);

/// The sum in chunks whose tiles fit the cache.
fn chunks(products: &[Product<'_>]) -> Vec<Vec<Piece>> {
    let mut chunks: Vec<Vec<Piece>> = Vec::new();
    let mut room = 0;
    for (index, product) in products.iter().enumerate() {
        let steps = product.left.0.steps();
        for from in (0..steps).step_by(CHUNK_STEPS) {
            let piece = (index, from..steps.min(from + CHUNK_STEPS));
            let length = piece.1.len();
            match chunks.last_mut().filter(|_| length <= room) {
                Some(chunk) => {
                    room -= length;
                    chunk.push(piece);
                }
                None => {
                    // A short product, such as that of an adapter, still joins a full chunk.
                    room = CHUNK_STEPS + 2 - length;
                    chunks.push(vec![piece]);
                }
            }
        }
    }
    chunks
}

/// One task and one chunk of the sum.
fn multiply_chunk(
    session: &Session,
    out: &Shared<'_>,
    accumulate: bool,
    products: &[Product<'_>],
    chunk: &[Piece],
    (rows, columns): (Range<usize>, Range<usize>),
    scratch: &mut Vec<Row>,
) {
    // Right factors that are not in tiles yet: [piece][strip][step][part].
    let strips = columns.len().next_multiple_of(BLOCK) / STRIP;
    let lengths = chunk.iter().map(|(index, steps)| match products[*index].right {
        RightFactor::Tiles(_) => 0,
        RightFactor::Plain { parts, .. } => steps.len() * parts * TILE,
    });
    let lengths: Vec<usize> = lengths.collect();
    let needed = strips * lengths.iter().sum::<usize>();
    if scratch.len() < needed {
        *scratch = unfilled(needed);
    }
    let mut rest = &mut scratch[..];
    let mut cut: Vec<&[Row]> = Vec::with_capacity(chunk.len());
    for ((index, steps), length) in chunk.iter().zip(&lengths) {
        let (own, others) = std::mem::take(&mut rest).split_at_mut(strips * length);
        rest = others;
        if let RightFactor::Plain { matrix, factor, parts } = products[*index].right {
            for (strip, out) in own.chunks_mut(*length).enumerate() {
                let lines = Lines::of_right(matrix, factor);
                fill_strip(out, parts, lines, columns.start + strip * STRIP, steps.clone());
            }
        }
        cut.push(own);
    }
    let of_right = |piece: usize, column: usize| {
        let (index, steps) = &chunk[piece];
        match products[*index].right {
            RightFactor::Tiles(right) => right.0.block(column, steps),
            RightFactor::Plain { parts, .. } => {
                let (length, strip) = (lengths[piece], (column - columns.start) / STRIP);
                let strips = [strip, strip + 1].map(|strip| &cut[piece][strip * length..(strip + 1) * length]);
                Strips { strips, parts }
            }
        }
    };
    let width = products[0].right.shape().1;
    let mut factors = Vec::with_capacity(chunk.len());
    for row in rows.clone().step_by(BLOCK) {
        for column in columns.clone().step_by(BLOCK) {
            factors.clear();
            factors.extend(
                chunk.iter().enumerate().map(|(piece, (index, steps))| {
                    (products[*index].left.0.block(row, steps), of_right(piece, column))
                }),
            );
            let size = [BLOCK.min(rows.end - row), BLOCK.min(columns.end - column)];
            session.block(out, row * width + column, width, size, accumulate, &factors);
        }
    }
}

/// Part of a product on the calling thread: all rows of `left` by some columns of `right`, over some of
/// its terms, to whole blocks of `out`, whose rows lie `stride` apart.
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
    let whole = [terms.start, columns.start, columns.end].iter().all(|place| place.is_multiple_of(BLOCK));
    assert!(whole && terms.len().div_ceil(STEP) == left.0.steps(), "whole blocks");
    let steps = terms.start / STEP..terms.end.div_ceil(STEP);
    let out = Shared::new(out);
    let session = unit().expect("asked for before").begin();
    for column in columns.clone().step_by(BLOCK) {
        for row in (0..left.0.lines).step_by(BLOCK) {
            let factors = [(left.0.block(row, &(0..left.0.steps())), right.0.block(column, &steps))];
            let place = row * stride + column - columns.start;
            session.block(&out, place, stride, [BLOCK; 2], accumulate, &factors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are exact in bf16.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 37 + seed * 11) % 61) as f32 / 32.0 - 1.0).collect()
    }

    #[test]
    fn every_unit_computes_sums_of_products() {
        if !Unit::can_cut() {
            eprintln!("skipped: this CPU does not multiply bf16 numbers");
            return;
        }
        for (rows, terms, columns) in [(32, 32, 32), (1, 1, 1), (45, 77, 101), (130, 2000, 40)] {
            let (a, b) = (numbers(rows * terms, 1), numbers(terms * columns, 2));
            let (a_low, b_low) = (numbers(rows * 5, 3), numbers(5 * columns, 4));
            let before = numbers(rows * columns, 5);
            let left = Left::new(View::new(&a, rows, terms), 1);
            let right = Right::new(View::new(&b, terms, columns), 1);
            let low = Left::new(View::new(&a_low, rows, 5), 1);
            let matrix = View::new(&b_low, 5, columns);
            let products = [
                Product { left: &left, right: RightFactor::Tiles(&right) },
                Product { left: &low, right: RightFactor::Plain { matrix, factor: 2.0, parts: 1 } },
            ];
            for unit in [Some(Unit::Avx512), Unit::find()].into_iter().flatten() {
                let mut out = before.clone();
                multiply_with(unit, &mut out, true, &products);
                for (place, out) in out.iter().enumerate() {
                    let (row, column) = (place / columns, place % columns);
                    let dot = |a: &[f32], b: &[f32], terms: usize| -> f32 {
                        (0..terms).map(|term| a[row * terms + term] * b[term * columns + column]).sum()
                    };
                    let expected = before[place] + dot(&a, &b, terms) + 2.0 * dot(&a_low, &b_low, 5);
                    let close = (out - expected).abs() <= 1e-3;
                    assert!(close, "{unit:?}, {rows} × {terms} × {columns}: {out} at {place}, not {expected}");
                }
            }
        }
    }
}
