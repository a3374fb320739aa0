//! The keys of a tile, in blocks whose scores stay in the second-level cache.

use std::ops::Range;

use undertone_data::Document;

use crate::tile::Tile;

/// Most keys in a block; the scores of one block exist at one time.
const BLOCK_KEYS: usize = 256;

/// Some of a tile's keys, all in the trunk or all in branches.
pub(super) struct Block {
    /// Rows of keys, counted from the first token of the document.
    pub(super) keys: Range<usize>,
    /// Index of the first of them among the keys of all blocks.
    first: usize,
}

/// A tile's keys in blocks. Each run is widened to multiples of a size; the added keys are hidden from every query.
pub(super) struct Blocks {
    pub(super) all: Vec<Block>,
    /// [`Tile::seen`] as ranges among the keys of all blocks.
    seen: Vec<[Range<usize>; 2]>,
}

impl Blocks {
    pub(super) fn new(tile: &Tile, document: &Document, size: usize) -> Self {
        let whole = |run: &Range<usize>| {
            let (start, end) = (run.start - document.start, run.end - document.start);
            start / size * size..end.next_multiple_of(size)
        };
        let runs: Vec<Range<usize>> = tile.keys.iter().map(whole).collect();
        // A range in one of the runs, moved from an index among the tile's keys to one among the keys of all blocks.
        let moved = |range: &Range<usize>, run: usize| {
            let from: usize = tile.keys[..run].iter().map(Range::len).sum();
            let to: usize = runs[..run].iter().map(Range::len).sum();
            let to = to + tile.keys[run].start - document.start - runs[run].start;
            range.start - from + to..range.end - from + to
        };
        let last = tile.keys.len() - 1;
        let seen = tile.seen.iter().map(|[trunk, own]| {
            let trunk = if trunk.is_empty() { 0..0 } else { moved(trunk, 0) };
            let own = if own.is_empty() { trunk.end..trunk.end } else { moved(own, last) };
            [trunk, own]
        });
        let mut all = Vec::new();
        let mut first = 0;
        for run in &runs {
            for start in run.clone().step_by(BLOCK_KEYS) {
                let keys = start..run.end.min(start + BLOCK_KEYS);
                all.push(Block { first, keys: keys.clone() });
                first += keys.len();
            }
        }
        Self { all, seen: seen.collect() }
    }

    /// The keys of a block that a token of the tile sees.
    pub(super) fn seen(&self, block: &Block, token: usize) -> Range<usize> {
        let [trunk, own] = &self.seen[token];
        let seen = if block.first < trunk.end { trunk } else { own };
        let here = |place: usize| place.clamp(block.first, block.first + block.keys.len()) - block.first;
        here(seen.start)..here(seen.end)
    }
}
