//! The tiles of a row, and who computes which.

use undertone_data::Document;

use super::block::Blocks;
use super::factors::Numbers;
use super::group::Group;
use crate::Heads;
use crate::tile::{Tile, tiles};

/// Queries of one tile.
const TILE_TOKENS: usize = 64;

/// Tiles are computed in so many hands, whatever the number of threads; gradients of keys and values are
/// summed in a buffer of each.
const HANDS: usize = 8;

/// A tile of queries of one document.
pub(super) struct Work {
    pub(super) document: usize,
    pub(super) tile: Tile,
    pub(super) blocks: Blocks,
}

impl Work {
    /// The tiles of all documents, in the order of their queries.
    pub(super) fn all(documents: &[Document], past: usize, numbers: Numbers) -> Vec<Self> {
        let of_document = |(index, document)| {
            tiles(std::slice::from_ref(document), past, TILE_TOKENS).into_iter().map(move |tile| {
                let blocks = Blocks::new(&tile, document, numbers.block());
                Self { document: index, tile, blocks }
            })
        };
        assert!(past == 0 || documents.len() == 1, "a cache serves one plain row");
        documents.iter().enumerate().flat_map(of_document).collect()
    }

    pub(super) fn group(&self, heads: Heads, key_head: usize, numbers: Numbers) -> Group<'_> {
        Group { heads, key_head, tile: &self.tile, rows: self.tile.queries.len().next_multiple_of(numbers.block()) }
    }
}

/// Cuts rows of `width` elements at the tiles' borders.
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

/// Deals tiles to hands of about equal work: later tiles see more keys, so every other round goes backwards.
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
