//! Attention by the rule of trunk and branches, tile by tile.
//!
//! A tile's scores are a buffer of one task, and the backward computes them again (as FlashAttention
//! does, arXiv 2205.14135). Keys that a query must not see get probability exactly 0. Grouped heads
//! read their key head in place: nothing is copied.

use std::ops::Range;

use rayon::prelude::*;
use undertone_data::Document;

use super::matmul::{View, Workers, multiply};
use super::softmax::{exponentials, maximum, scale};
use super::{elementwise, sum, unfilled, vectorised};
use crate::Heads;
use crate::tile::{Tile, tiles};

/// Queries of one tile.
const TILE_TOKENS: usize = 64;

/// Gradients of keys and values are summed in so many buffers, whatever the number of threads.
const HANDS: usize = 8;

/// Deals tiles to hands of about equal work; each hand has a buffer.
pub(super) fn deal<T>(tiles: Vec<T>) -> Vec<Vec<T>> {
    let mut hands: Vec<Vec<T>> = Vec::new();
    hands.resize_with(HANDS.min(tiles.len()), Vec::new);
    let count = hands.len();
    for (index, tile) in tiles.into_iter().enumerate() {
        hands[index % count].push(tile);
    }
    hands
}

/// The sums of the hands' buffers, in one order.
pub(super) fn add_parts(parts: Vec<[Vec<f32>; 2]>) -> [Vec<f32>; 2] {
    let sum = |mut total: [Vec<f32>; 2], part: [Vec<f32>; 2]| {
        total.iter_mut().zip(&part).for_each(|(total, part)| elementwise::add(total, part));
        total
    };
    parts.into_iter().reduce(sum).unwrap_or_default()
}

/// One head of some rows of `[tokens, heads, width]`.
pub(super) fn head<'a>(rows: &'a [f32], of: usize, heads: usize, width: usize, tokens: &Range<usize>) -> View<'a> {
    let stride = heads * width;
    View::strided(&rows[tokens.start * stride + of * width..], tokens.len(), width, stride)
}

/// Cuts rows of `width` elements at the tiles' borders.
pub(super) fn by_tile<'a, 'b>(
    tiles: &'a [Tile],
    mut rows: &'b mut [f32],
    width: usize,
) -> Vec<(&'a Tile, &'b mut [f32])> {
    let mut parts = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let (own, rest) = rows.split_at_mut(tile.queries.len() * width);
        parts.push((tile, own));
        rows = rest;
    }
    parts
}

/// The query heads that share a key head, under one another: row `g · rows + i` is token i of a tile in head g.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub(super) heads: Heads,
    pub(super) key_head: usize,
    /// Rows of one head: the tile's queries, and what fills a block.
    pub(super) rows: usize,
}

impl Group {
    /// Rows of all heads.
    pub(super) fn count(&self) -> usize {
        self.heads.heads / self.heads.key_heads * self.rows
    }

    /// The head and the token of a row; no token for a row that fills a block.
    fn place(&self, row: usize, tile: &Tile) -> (usize, Option<usize>) {
        let first = self.key_head * (self.heads.heads / self.heads.key_heads);
        (first + row / self.rows, Some(row % self.rows).filter(|token| *token < tile.queries.len()))
    }

    /// A row of `[tokens, heads · width]`; nothing for a row that fills a block.
    fn row<'a>(&self, rows: &'a [f32], tile: &Tile, row: usize) -> &'a [f32] {
        let (of, Some(token)) = self.place(row, tile) else { return &[] };
        let start = ((tile.queries.start + token) * self.heads.heads + of) * self.heads.width;
        &rows[start..start + self.heads.width]
    }

    /// Puts rows of `[group, stride]` where they belong in the tile's rows of `[tokens, heads · width]`.
    pub(super) fn scatter(&self, from: &[f32], stride: usize, tile: &Tile, to: &mut [f32]) {
        let Heads { heads, width, .. } = self.heads;
        for (row, from) in from.chunks_exact(stride).enumerate() {
            if let (of, Some(token)) = self.place(row, tile) {
                to[(token * heads + of) * width..][..width].copy_from_slice(&from[..width]);
            }
        }
    }

    /// The group's rows one after another; zeros where a row fills a block.
    pub(super) fn gather(&self, buffer: &mut Vec<f32>, rows: &[f32], tile: &Tile) {
        buffer.clear();
        for row in 0..self.count() {
            buffer.extend_from_slice(self.row(rows, tile, row));
            buffer.resize((row + 1) * self.heads.width, 0.0);
        }
    }

    /// Gathered rows against the rows of the key head: `[group, keys]`, through all runs of keys.
    fn against_keys(&self, out: &mut Vec<f32>, tile: &Tile, gathered: &[f32], keys: &[f32]) {
        let count = tile.key_count();
        out.resize(self.count() * count, 0.0);
        let gathered = View::new(gathered, self.count(), self.heads.width);
        let mut from = 0;
        for run in &tile.keys {
            let keys = head(keys, self.key_head, self.heads.key_heads, self.heads.width, run).transposed();
            multiply(&mut out[from..], count, false, gathered, keys, 1.0, Workers::One);
            from += run.len();
        }
    }

    /// `[group, keys]` times the rows of the key head: `[group, width]`.
    fn over_keys(&self, out: &mut Vec<f32>, tile: &Tile, scores: &[f32], keys: &[f32]) {
        let width = self.heads.width;
        out.resize(self.count() * width, 0.0);
        let mut from = 0;
        for run in &tile.keys {
            let scores = View::strided(&scores[from..], self.count(), run.len(), tile.key_count());
            let keys = head(keys, self.key_head, self.heads.key_heads, width, run);
            multiply(out, width, from > 0, scores, keys, 1.0, Workers::One);
            from += run.len();
        }
    }

    /// Adds `[group, keys]`ᵀ times gathered rows to the rows of the key head.
    fn add_to_keys(&self, out: &mut [f32], tile: &Tile, scores: &[f32], gathered: &[f32]) {
        let Heads { key_heads, width, .. } = self.heads;
        let gathered = View::new(gathered, self.count(), width);
        let mut from = 0;
        for run in &tile.keys {
            let scores = View::strided(&scores[from..], self.count(), run.len(), tile.key_count()).transposed();
            let out = &mut out[(run.start * key_heads + self.key_head) * width..];
            multiply(out, key_heads * width, true, scores, gathered, 1.0, Workers::One);
            from += run.len();
        }
    }

    /// Probabilities of gathered queries.
    fn probabilities(&self, p: &mut Vec<f32>, tile: &Tile, queries: &[f32], keys: &[f32]) {
        self.against_keys(p, tile, queries, keys);
        let count = tile.key_count();
        p.chunks_exact_mut(self.rows * count).for_each(|of_head| {
            normalise(of_head, count, &tile.seen, self.heads.scale());
        });
    }
}

/// Products of queries and keys, `count` a row, to probabilities, in place: softmax of `factor` times them
/// over the keys that are seen.
pub(super) fn normalise(scores: &mut [f32], count: usize, seen: &[[Range<usize>; 2]], factor: f32) {
    vectorised(
        #[inline(always)]
        || {
            for (row, [trunk, own]) in scores.chunks_exact_mut(count).zip(seen) {
                let highest = maximum(&row[trunk.clone()]).max(maximum(&row[own.clone()]));
                let total = exponentials(&mut row[trunk.clone()], highest, factor)
                    + exponentials(&mut row[own.clone()], highest, factor);
                scale(&mut row[trunk.clone()], 1.0 / total);
                scale(&mut row[own.clone()], 1.0 / total);
                row[trunk.end..own.start].fill(0.0);
                row[own.end..].fill(0.0);
            }
        },
    );
}

/// Buffers of one task.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    d_rows: Vec<f32>,
    p: Vec<f32>,
    d_s: Vec<f32>,
    out: Vec<f32>,
}

/// `[tokens, heads · width]`; keys and values may have a past before the first query.
pub(crate) fn attend(q: &[f32], k: &[f32], v: &[f32], heads: Heads, documents: &[Document]) -> Vec<f32> {
    let row = heads.heads * heads.width;
    let past = k.len() / (heads.key_heads * heads.width) - q.len() / row;
    let tiles = tiles(documents, past, TILE_TOKENS);
    let mut out = unfilled(q.len());
    by_tile(&tiles, &mut out, row).into_par_iter().for_each_init(Scratch::default, |scratch, (tile, rows)| {
        let Scratch { queries, p, out, .. } = scratch;
        for key_head in 0..heads.key_heads {
            let group = Group { heads, key_head, rows: tile.queries.len() };
            group.gather(queries, q, tile);
            group.probabilities(p, tile, queries, k);
            group.over_keys(out, tile, p, v);
            group.scatter(out, heads.width, tile, rows);
        }
    });
    out
}

/// Gradients of queries, keys and values.
///
/// With P the probabilities and s the scale: dV = Pᵀ dO, dP = dO Vᵀ, dS = s P ∘ (dP − rowsum(P ∘ dP)),
/// dQ = dS K, dK = dSᵀ Q.
pub(crate) fn attend_backward(
    [q, k, v]: [&[f32]; 3],
    d_out: &[f32],
    heads: Heads,
    documents: &[Document],
) -> [Vec<f32>; 3] {
    let tiles = tiles(documents, 0, TILE_TOKENS);
    let mut d_q = unfilled(q.len());
    let of_hand = |hand: Vec<(&Tile, &mut [f32])>| {
        let (mut d_k, mut d_v) = (vec![0.0; k.len()], vec![0.0; v.len()]);
        let Scratch { mut queries, mut d_rows, mut p, mut d_s, mut out } = Scratch::default();
        for (tile, d_q) in hand {
            for key_head in 0..heads.key_heads {
                let group = Group { heads, key_head, rows: tile.queries.len() };
                group.gather(&mut queries, q, tile);
                group.gather(&mut d_rows, d_out, tile);
                group.probabilities(&mut p, tile, &queries, k);
                group.against_keys(&mut d_s, tile, &d_rows, v);
                gradient_of_scores(&p, &mut d_s, tile.key_count(), heads.scale());
                group.over_keys(&mut out, tile, &d_s, k);
                group.scatter(&out, heads.width, tile, d_q);
                group.add_to_keys(&mut d_k, tile, &d_s, &queries);
                group.add_to_keys(&mut d_v, tile, &p, &d_rows);
            }
        }
        [d_k, d_v]
    };
    let hands = deal(by_tile(&tiles, &mut d_q, heads.heads * heads.width));
    let [d_k, d_v] = add_parts(hands.into_par_iter().map(of_hand).collect());
    [d_q, d_k, d_v]
}

/// dP to dS, in place. Where P is exactly 0, so is dS.
pub(super) fn gradient_of_scores(p: &[f32], d_p: &mut [f32], count: usize, scale: f32) {
    vectorised(
        #[inline(always)]
        || {
            for (p, d_p) in p.chunks_exact(count).zip(d_p.chunks_exact_mut(count)) {
                let along = sum([p, d_p], |[p, d_p]| p * d_p);
                for (p, d_p) in p.iter().zip(d_p) {
                    *d_p = p * (*d_p - along) * scale;
                }
            }
        },
    );
}
