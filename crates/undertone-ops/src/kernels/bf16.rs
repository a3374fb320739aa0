//! Matrix products of bf16 numbers, summed in f32.
//!
//! A product of two bf16 numbers is exact in f32. Each number of a factor is split into *parts*. One part is the
//! number rounded to bf16: its first 8 bits. With two parts, the second is the rounded remainder of the first, so
//! about 16 bits count; the product of two second parts is left out. These are the precisions *medium* and *high*
//! of PyTorch's `set_float32_matmul_precision`. A factor that is exact in one part, such as weights published in
//! bf16, needs only one.
//!
//! Both factors are packed into tiles first: a factor is a list of *strips* of 16 lines (rows of the left
//! factor, columns of the right one), a strip is a list of *steps* of 32 terms of the sum, and a step has one
//! tile for each part. Missing lines and terms are zeros.
//!
//! A tile is sixteen rows of 64 bytes, each in a cache line of its own: AMX loads rows that straddle two cache lines
//! at a quarter of the speed.

// Without an instruction set, the types are never constructed.
#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))]
#![allow(unsafe_code)]

#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), path = "bf16/absent/cut.rs")]
mod cut;
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), path = "bf16/absent/isa.rs")]
mod isa;
mod layout;
mod tiles;

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use self::cut::fill_strip;
use self::isa::{Isa, Place, Session, Shared};
pub(crate) use self::layout::BLOCK;
use self::layout::{Lines, Row, STEP, STRIP, Strips, TILE};
pub(crate) use self::tiles::{PackedLhs, PackedRhs};
use super::matmul::MatRef;
use super::out::Out;
use crate::precision::MatmulPrecision;

/// Most columns of a product in one task.
const TASK_COLUMNS: usize = 192;

/// Most elements of the right factor's tiles in one task, which reads them again for every block of rows: they
/// share the second-level cache with other data.
const TASK_ELEMENTS: usize = 450_000;

/// Steps of the sum that a task adds to all its rows before it takes the next steps.
const CHUNK_STEPS: usize = 48;

/// The instruction set of this machine.
fn isa() -> Option<Isa> {
    static ISA: OnceLock<Option<Isa>> = OnceLock::new();
    *ISA.get_or_init(Isa::find)
}

/// bf16 parts per number at a precision; `None` where f32 is at least as fast.
pub(crate) fn parts(precision: MatmulPrecision) -> Option<usize> {
    let isa = isa()?;
    match precision {
        MatmulPrecision::Medium => Some(1),
        MatmulPrecision::High => isa.has_fast_pairs().then_some(2),
        MatmulPrecision::Highest => None,
    }
}

/// Whether every element is a bf16 number.
pub(crate) fn is_one_part(elements: &[f32]) -> bool {
    elements.iter().all(|x| x.to_bits() & 0xFFFF == 0)
}

/// One product of a sum of products.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) left: &'a PackedLhs,
    pub(crate) right: RightFactor<'a>,
}

/// A right factor, packed or not.
#[derive(Clone, Copy)]
pub(crate) enum RightFactor<'a> {
    /// Its tiles.
    Tiles(&'a PackedRhs),
    /// `factor` times a matrix, which each task packs for itself, with `parts` bf16 parts per number.
    Plain { matrix: MatRef<'a>, factor: f32, parts: usize },
}

impl RightFactor<'_> {
    /// Terms and columns.
    fn shape(&self) -> (usize, usize) {
        match self {
            Self::Tiles(PackedRhs(tiles)) => (tiles.terms, tiles.lines),
            Self::Plain { matrix, .. } => (matrix.rows, matrix.columns),
        }
    }
}

/// `out (+)= Σ left right`, where `out` is `[rows, columns]` with contiguous rows; returns the numbers of `out`.
///
/// # Panics
/// If shapes do not fit, or a dimension is 0.
pub(crate) fn multiply<'a>(out: Out<'a>, products: &[Product<'_>]) -> &'a mut [f32] {
    multiply_with(isa().expect("bf16 instructions are available"), out, products)
}

fn multiply_with<'a>(isa: Isa, mut out: Out<'a>, products: &[Product<'_>]) -> &'a mut [f32] {
    let [rows, columns] = [products[0].left.0.lines, products[0].right.shape().1];
    assert_eq!(out.len(), rows * columns, "the product's shape");
    for Product { left, right } in products {
        assert_eq!((left.0.terms, left.0.lines), (right.shape().0, rows), "inner dimension and rows");
        assert_eq!(right.shape().1, columns, "columns");
    }
    let chunks = chunks(products);
    assert!(!chunks.is_empty(), "the inner dimension is not 0");
    let accumulates = out.accumulates();
    let shared = Shared::new(&mut out);
    tasks(rows, columns, &chunks[0], products).into_par_iter().for_each_init(Vec::new, |scratch, task| {
        for (index, pieces) in chunks.iter().enumerate() {
            let sum = Sum { products, pieces, accumulates: accumulates || index > 0 };
            // SAFETY: tasks write disjoint elements. The first chunk adds only if `out` is initialized; later chunks
            // add to what the first one wrote.
            unsafe { multiply_chunk(&isa.begin(), &shared, sum, &task, scratch) };
        }
    });
    // SAFETY: the tasks cover the product, and each writes all its elements.
    unsafe { out.into_numbers() }
}

/// Rows and columns of a product that one task computes.
type Task = (Range<usize>, Range<usize>);

/// Divides a product into tasks. The division changes no element of the product.
fn tasks(rows: usize, columns: usize, chunk: &[Piece], products: &[Product<'_>]) -> Vec<Task> {
    let elements = |(index, steps): &Piece| steps.len() * STEP * products[*index].left.0.parts;
    let fitting = TASK_ELEMENTS / chunk.iter().map(elements).sum::<usize>().max(1) / BLOCK * BLOCK;
    // About two tasks per thread, and not more: each task packs its columns of the right factor anew.
    let wanted = 2 * rayon::current_num_threads();
    let width = fitting.clamp(BLOCK, TASK_COLUMNS).min(columns.div_ceil(wanted).next_multiple_of(BLOCK).max(3 * BLOCK));
    let height = rows.div_ceil(wanted.div_ceil(columns.div_ceil(width))).next_multiple_of(4 * BLOCK);
    let cut = |length: usize, size: usize| (0..length).step_by(size).map(move |from| from..length.min(from + size));
    cut(columns, width).flat_map(|columns| cut(rows, height).map(move |rows| (rows, columns.clone()))).collect()
}

/// The index of a product in the sum, and some of its steps.
type Piece = (usize, Range<usize>);

/// Divides the sum into chunks whose tiles fit the cache.
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

/// One chunk of a sum of products.
#[derive(Clone, Copy)]
struct Sum<'a> {
    products: &'a [Product<'a>],
    pieces: &'a [Piece],
    /// Whether the chunk is added to the elements of the output, which are then initialized.
    accumulates: bool,
}

/// Computes one chunk of the sum for one task.
///
/// # Safety
/// During the call, no other code reads or writes the elements of the task. If the sum accumulates, they are
/// initialized.
unsafe fn multiply_chunk(
    session: &Session,
    out: &Shared<'_>,
    Sum { products, pieces, accumulates }: Sum<'_>,
    (rows, columns): &Task,
    scratch: &mut Vec<MaybeUninit<Row>>,
) {
    // Tiles of the right factors that are not packed yet: [piece][strip][step][part].
    let strips = columns.len().next_multiple_of(BLOCK) / STRIP;
    let lengths = pieces.iter().map(|(index, steps)| match products[*index].right {
        RightFactor::Tiles(_) => 0,
        RightFactor::Plain { parts, .. } => steps.len() * parts * TILE,
    });
    let lengths: Vec<usize> = lengths.collect();
    let needed = strips * lengths.iter().sum::<usize>();
    if scratch.len() < needed {
        *scratch = Box::new_uninit_slice(needed).into_vec();
    }
    let mut rest = &mut scratch[..];
    let mut cut: Vec<&[Row]> = Vec::with_capacity(pieces.len());
    for ((index, steps), length) in pieces.iter().zip(&lengths) {
        let (own, others) = std::mem::take(&mut rest).split_at_mut(strips * length);
        rest = others;
        if let RightFactor::Plain { matrix, factor, parts } = products[*index].right {
            for (strip, out) in own.chunks_mut(*length).enumerate() {
                let lines = Lines::of_right(matrix, factor);
                // SAFETY: the caller holds a session, so the machine has the instructions.
                unsafe { fill_strip(out, parts, lines, columns.start + strip * STRIP, steps.clone()) };
            }
        }
        // SAFETY: `fill_strip` wrote every row of every strip; for a packed factor, `own` is empty.
        cut.push(unsafe { own.assume_init_ref() });
    }
    let right_block = |piece: usize, column: usize| {
        let (index, steps) = &pieces[piece];
        match products[*index].right {
            RightFactor::Tiles(right) => right.0.block(column, steps),
            RightFactor::Plain { parts, .. } => {
                let (length, strip) = (lengths[piece], (column - columns.start) / STRIP);
                let strips = [strip, strip + 1].map(|strip| &cut[piece][strip * length..(strip + 1) * length]);
                Strips { strips, parts }
            }
        }
    };
    let stride = products[0].right.shape().1;
    let mut factors = Vec::with_capacity(pieces.len());
    for row in rows.clone().step_by(BLOCK) {
        for column in columns.clone().step_by(BLOCK) {
            factors.clear();
            factors.extend(pieces.iter().enumerate().map(|(piece, (index, steps))| {
                (products[*index].left.0.block(row, steps), right_block(piece, column))
            }));
            let size = [BLOCK.min(rows.end - row), BLOCK.min(columns.end - column)];
            let place = Place { first: row * stride + column, stride, size, accumulates };
            // SAFETY: the block lies in the task. The caller guarantees that no other code uses the elements of the
            // task, and that they are initialized if the sum accumulates.
            unsafe { session.block(out, place, &factors) };
        }
    }
}

/// Part of a product, on the calling thread: all rows of `left` times some columns of `right`, summed over some terms
/// of `right`. Writes whole blocks of `out`, whose rows lie `stride` apart. Both ranges must lie inside `right`.
///
/// # Panics
/// If `terms.start` or `columns` are not whole blocks, `terms` and `left` have different steps, or a block lies
/// outside `out`.
pub(crate) fn multiply_part(
    out: &mut Out<'_>,
    stride: usize,
    left: &PackedLhs,
    right: &PackedRhs,
    [terms, columns]: [Range<usize>; 2],
) {
    let whole = [terms.start, columns.start, columns.end].iter().all(|place| place.is_multiple_of(BLOCK));
    assert!(whole && terms.len().div_ceil(STEP) == left.0.steps(), "whole blocks");
    let steps = terms.start / STEP..terms.end.div_ceil(STEP);
    let accumulates = out.accumulates();
    let shared = Shared::new(out);
    let session = isa().expect("bf16 instructions are available").begin();
    for column in columns.clone().step_by(BLOCK) {
        for row in (0..left.0.lines).step_by(BLOCK) {
            let factors = [(left.0.block(row, &(0..left.0.steps())), right.0.block(column, &steps))];
            let first = row * stride + column - columns.start;
            let place = Place { first, stride, size: [BLOCK; 2], accumulates };
            // SAFETY: `out` is borrowed exclusively, and initialized if it accumulates.
            unsafe { session.block(&shared, place, &factors) };
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
    fn every_instruction_set_computes_sums_of_products() {
        if !Isa::can_cut() {
            eprintln!("skipped: this CPU does not multiply bf16 numbers");
            return;
        }
        for (rows, terms, columns) in [(32, 32, 32), (1, 1, 1), (45, 77, 101), (130, 2000, 40)] {
            let (a, b) = (numbers(rows * terms, 1), numbers(terms * columns, 2));
            let (a_low, b_low) = (numbers(rows * 5, 3), numbers(5 * columns, 4));
            let before = numbers(rows * columns, 5);
            let left = PackedLhs::new(MatRef::new(&a, rows, terms), 1);
            let right = PackedRhs::new(MatRef::new(&b, terms, columns), 1);
            let low = PackedLhs::new(MatRef::new(&a_low, rows, 5), 1);
            let matrix = MatRef::new(&b_low, 5, columns);
            let products = [
                Product { left: &left, right: RightFactor::Tiles(&right) },
                Product { left: &low, right: RightFactor::Plain { matrix, factor: 2.0, parts: 1 } },
            ];
            for isa in Isa::all() {
                let mut out = before.clone();
                multiply_with(isa, Out::add(&mut out), &products);
                for (place, out) in out.iter().enumerate() {
                    let (row, column) = (place / columns, place % columns);
                    let dot = |a: &[f32], b: &[f32], terms: usize| -> f32 {
                        (0..terms).map(|term| a[row * terms + term] * b[term * columns + column]).sum()
                    };
                    let expected = before[place] + dot(&a, &b, terms) + 2.0 * dot(&a_low, &b_low, 5);
                    let close = (out - expected).abs() <= 1e-3;
                    assert!(close, "{isa:?}, {rows} × {terms} × {columns}: {out} at {place}, not {expected}");
                }
            }
        }
    }
}
