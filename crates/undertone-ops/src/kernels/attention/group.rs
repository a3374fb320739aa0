//! The rows of the query heads that share a key head, gathered into one matrix.

use crate::tile::Tile;
use crate::types::Heads;

/// The query heads that share a key head: row `g · rows + i` is token i of a tile in head g.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) heads: Heads,
    pub(super) key_head: usize,
    pub(super) tile: &'a Tile,
    /// Rows of one head: the tile's queries, then padding to whole blocks.
    pub(super) rows: usize,
}

impl<'a> Group<'a> {
    /// Rows of all heads.
    pub(super) fn count(&self) -> usize {
        self.heads.heads / self.heads.key_heads * self.rows
    }

    /// The token of a row in the tile; none for a padding row.
    pub(super) fn token(&self, row: usize) -> Option<usize> {
        Some(row % self.rows).filter(|token| *token < self.tile.queries.len())
    }

    /// The index of a row in the tile's part of `[tokens, heads]`; none for a padding row.
    pub(super) fn index(&self, row: usize) -> Option<usize> {
        let first = self.key_head * (self.heads.heads / self.heads.key_heads);
        self.token(row).map(|token| token * self.heads.heads + first + row / self.rows)
    }

    /// A row of `[tokens, heads · width]`; none for a padding row.
    pub(super) fn row<'b>(&self, rows: &'b [f32], row: usize) -> Option<&'b [f32]> {
        let Heads { heads, width, .. } = self.heads;
        self.index(row).map(|index| &rows[(self.tile.queries.start * heads + index) * width..][..width])
    }

    /// The group's rows one after another; padding rows are zeros.
    pub(super) fn gather(&self, buffer: &mut Vec<f32>, rows: &[f32]) {
        buffer.clear();
        for row in 0..self.count() {
            buffer.extend_from_slice(self.row(rows, row).unwrap_or_default());
            buffer.resize((row + 1) * self.heads.width, 0.0);
        }
    }

    /// Copies rows, `stride` apart, to their places in the tile's rows of `[tokens, heads · width]`.
    pub(super) fn scatter(&self, from: &[f32], stride: usize, to: &mut [f32]) {
        let width = self.heads.width;
        for (row, from) in from.chunks_exact(stride).enumerate() {
            if let Some(index) = self.index(row) {
                to[index * width..][..width].copy_from_slice(&from[..width]);
            }
        }
    }
}
