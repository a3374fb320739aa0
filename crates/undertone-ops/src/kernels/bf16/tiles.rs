//! Factors packed into tiles.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::cut::fill_strip;
use super::isa::Isa;
use super::layout::{BLOCK, Lines, Row, STEP, STRIP, Strips, TILE};
use crate::kernels::matmul::MatRef;

/// A packed factor.
#[derive(Debug, Clone)]
pub(super) struct Tiles {
    pub(super) lines: usize,
    pub(super) terms: usize,
    pub(super) parts: usize,
    rows: Vec<Row>,
}

impl Tiles {
    fn empty(parts: usize) -> Self {
        assert!(Isa::can_cut(), "bf16 instructions are available");
        Self { lines: 0, terms: 0, parts, rows: Vec::new() }
    }

    pub(super) fn steps(&self) -> usize {
        self.terms.div_ceil(STEP)
    }

    /// Rows of one strip.
    fn strip(&self) -> usize {
        self.steps() * self.parts * TILE
    }

    /// Packs another factor, in the same memory if there is enough.
    fn fill(&mut self, lines: Lines<'_>, in_parallel: bool) {
        (self.lines, self.terms) = (lines.lines, lines.terms);
        let (parts, steps) = (self.parts, 0..self.steps());
        let strip = self.strip();
        let length = lines.lines.next_multiple_of(BLOCK) / STRIP * strip;
        self.rows.clear();
        self.rows.reserve_exact(length);
        let rows = &mut self.rows.spare_capacity_mut()[..length];
        let cut = |(index, out): (usize, &mut [MaybeUninit<Row>])| {
            // SAFETY: `Self::empty` asserts that the machine has the instructions.
            unsafe { fill_strip(out, parts, lines, index * STRIP, steps.clone()) };
        };
        match in_parallel {
            true => rows.par_chunks_mut(strip.max(1)).enumerate().for_each(cut),
            false => rows.chunks_mut(strip.max(1)).enumerate().for_each(cut),
        }
        // SAFETY: `length` rows are reserved, and `fill_strip` wrote every row of every strip.
        unsafe { self.rows.set_len(length) };
    }

    /// The tiles of some steps of two strips, of which the first begins at `line`, a multiple of [`BLOCK`].
    pub(super) fn block(&self, line: usize, steps: &Range<usize>) -> Strips<'_> {
        assert!(steps.end <= self.steps(), "steps of the factor");
        let strip = self.strip();
        let from = line / STRIP * strip;
        let tiles = |from: usize| {
            let step = self.parts * TILE;
            &self.rows[from + steps.start * step..from + steps.end * step]
        };
        Strips { strips: [tiles(from), tiles(from + strip)], parts: self.parts }
    }
}

/// A left factor `[rows, terms]`.
#[derive(Debug)]
pub(crate) struct PackedLhs(pub(super) Tiles);

impl PackedLhs {
    /// A factor without lines.
    pub(crate) fn empty(parts: usize) -> Self {
        Self(Tiles::empty(parts))
    }

    /// Packs a matrix on all cores.
    pub(crate) fn new(matrix: MatRef<'_>, parts: usize) -> Self {
        let mut new = Self::empty(parts);
        new.0.fill(Lines::of_left(matrix, 1.0), true);
        new
    }

    /// Packs another matrix into the same memory, on the calling thread.
    pub(crate) fn refill(&mut self, matrix: MatRef<'_>) {
        self.0.fill(Lines::of_left(matrix, 1.0), false);
    }
}

/// A right factor `[terms, columns]`.
#[derive(Debug, Clone)]
pub(crate) struct PackedRhs(pub(super) Tiles);

impl PackedRhs {
    /// A factor without lines.
    pub(crate) fn empty(parts: usize) -> Self {
        Self(Tiles::empty(parts))
    }

    /// Packs a matrix on all cores.
    pub(crate) fn new(matrix: MatRef<'_>, parts: usize) -> Self {
        let mut new = Self::empty(parts);
        new.0.fill(Lines::of_right(matrix, 1.0), true);
        new
    }

    /// Packs another matrix into the same memory, on the calling thread.
    pub(crate) fn refill(&mut self, matrix: MatRef<'_>) {
        self.0.fill(Lines::of_right(matrix, 1.0), false);
    }
}
