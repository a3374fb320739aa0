//! The tiles of a row, and their distribution to tasks.

use undertone_data::Document;

use super::block::Blocks;
use super::factors::Numbers;
use super::group::Group;
use crate::tile::{Tile, tiles};
use crate::types::Heads;

/// Queries of one tile.
const TILE_TOKENS: usize = 64;

/// Number of hands, whatever the number of threads. A hand is the tiles of one task, which sums their gradients of keys
/// and values in buffers of its own.
const HANDS: usize = 8;

/// A tile of queries, and its keys in blocks.
pub(super) struct Work {
    pub(super) tile: Tile,
    pub(super) blocks: Blocks,
}

impl Work {
    /// The tiles of all documents, in the order of their queries.
    pub(super) fn all(documents: &[Document], past: usize, numbers: Numbers, window: Option<usize>) -> Vec<Self> {
        let work = |tile: Tile| {
            let blocks = Blocks::new(&tile, &documents[tile.document], numbers.block());
            Self { tile, blocks }
        };
        tiles(documents, past, TILE_TOKENS, window).into_iter().map(work).collect()
    }

    pub(super) fn group(&self, heads: Heads, key_head: usize, numbers: Numbers) -> Group<'_> {
        Group { heads, key_head, tile: &self.tile, rows: numbers.whole(self.tile.queries.len()) }
    }
}

/// Splits rows of `width` elements by tile.
pub(super) fn by_tile<'a, 'b>(
    works: &'a [Work],
    mut rows: &'b mut [f32],
    width: usize,
) -> Vec<(&'a Work, &'b mut [f32])> {
    let mut parts = Vec::with_capacity(works.len());
    for work in works {
        let (own, rest) = rows.split_at_mut(work.tile.queries.len() * width);
        parts.push((work, own));
        rows = rest;
    }
    parts
}

/// Deals tiles to hands of about equal work. Later tiles see more keys, so every other round goes backwards.
pub(super) fn deal<T>(tiles: Vec<T>) -> Vec<Vec<T>> {
    let mut hands: Vec<Vec<T>> = Vec::new();
    hands.resize_with(HANDS.min(tiles.len()), Vec::new);
    let count = hands.len();
    for (index, tile) in tiles.into_iter().enumerate() {
        let (round, place) = (index / count, index % count);
        hands[if round % 2 == 0 { place } else { count - 1 - place }].push(tile);
    }
    hands
}
