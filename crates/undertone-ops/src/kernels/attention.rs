//! Attention by the rule of trunk and branches, tile by tile.
//!
//! As FlashAttention does (arXiv 2205.14135), a tile of queries goes through its keys block by block, with
//! running maxima and sums, and the backward computes the scores again: those of one block stay in the
//! second-level cache. Keys that a query must not see get probability exactly 0. Grouped heads read their key
//! head in place: nothing is copied.

use std::ops::Range;

use rayon::prelude::*;
use undertone_data::Document;

use super::matmul::{View, Workers, multiply};
use super::softmax::{exponentials, maximum, scale};
use super::{elementwise, exp, sum, unfilled, vectorised};
use crate::Heads;
use crate::tile::{Tile, tiles};

/// Queries of one tile.
const TILE_TOKENS: usize = 64;

/// Keys whose scores exist at one time.
const BLOCK_KEYS: usize = 256;

/// Tiles are computed in so many hands, whatever the number of threads; gradients of keys and values are
/// summed in a buffer of each.
const HANDS: usize = 8;

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

    /// The place of a row that fills no block in the tile's part of `[tokens, heads]`.
    fn index(&self, row: usize, tile: &Tile) -> usize {
        let (of, token) = self.place(row, tile);
        token.expect("a row of the tile") * self.heads.heads + of
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

    /// Gathered rows against a block of rows of the key head: `[group, block]`.
    fn against(&self, out: &mut Vec<f32>, gathered: &[f32], rows: &[f32], block: &Block) {
        let Heads { key_heads, width, .. } = self.heads;
        out.resize(self.count() * block.keys.len(), 0.0);
        let rows = head(rows, self.key_head, key_heads, width, &block.keys).transposed();
        let gathered = View::new(gathered, self.count(), width);
        multiply(out, block.keys.len(), false, gathered, rows, 1.0, Workers::One);
    }

    /// Adds `[group, block]` times a block of rows of the key head to `[group, width]`.
    fn add_over(&self, out: &mut [f32], scores: &[f32], rows: &[f32], block: &Block) {
        let Heads { key_heads, width, .. } = self.heads;
        let rows = head(rows, self.key_head, key_heads, width, &block.keys);
        let scores = View::new(scores, self.count(), block.keys.len());
        multiply(out, width, true, scores, rows, 1.0, Workers::One);
    }

    /// Adds `[group, block]`ᵀ times gathered rows to a block of rows of the key head.
    fn add_to(&self, out: &mut [f32], scores: &[f32], gathered: &[f32], block: &Block) {
        let Heads { key_heads, width, .. } = self.heads;
        let out = &mut out[(block.keys.start * key_heads + self.key_head) * width..];
        let scores = View::new(scores, self.count(), block.keys.len()).transposed();
        multiply(out, key_heads * width, true, scores, View::new(gathered, self.count(), width), 1.0, Workers::One);
    }
}

/// Some of a tile's keys, all of the trunk or all behind it.
struct Block {
    /// Rows of keys.
    keys: Range<usize>,
    /// The first of them among the tile's keys.
    first: usize,
}

impl Block {
    /// The blocks of a tile, in order.
    fn all(tile: &Tile) -> Vec<Self> {
        let mut blocks = Vec::new();
        let mut first = 0;
        for run in &tile.keys {
            for start in run.clone().step_by(BLOCK_KEYS) {
                let keys = start..run.end.min(start + BLOCK_KEYS);
                blocks.push(Self { first, keys: keys.clone() });
                first += keys.len();
            }
        }
        blocks
    }

    /// Which keys of the block a query sees.
    fn seen(&self, [trunk, own]: &[Range<usize>; 2]) -> Range<usize> {
        let seen = if self.first < trunk.end { trunk } else { own };
        let here = |place: usize| place.clamp(self.first, self.first + self.keys.len()) - self.first;
        here(seen.start)..here(seen.end)
    }
}

/// What a group's queries have seen so far: the largest score, and the sum of e^(score − largest).
#[derive(Default)]
struct Running {
    highest: Vec<f32>,
    total: Vec<f32>,
}

impl Running {
    fn reset(&mut self, rows: usize) {
        self.highest.clear();
        self.highest.resize(rows, f32::NEG_INFINITY);
        self.total.clear();
        self.total.resize(rows, 0.0);
    }

    /// Turns a block's products of queries and keys into e^(`factor` · (product − highest)), 0 for hidden keys.
    /// What `out` holds of earlier blocks is scaled down wherever the highest grows.
    fn take(&mut self, scores: &mut [f32], out: &mut [f32], block: &Block, group: Group, tile: &Tile) {
        let (factor, width) = (group.heads.scale(), group.heads.width);
        let rows = scores.chunks_exact_mut(block.keys.len()).zip(out.chunks_exact_mut(width));
        let states = self.highest.iter_mut().zip(&mut self.total);
        vectorised(
            #[inline(always)]
            || {
                for (row, ((scores, out), (highest, total))) in rows.zip(states).enumerate() {
                    let seen = block.seen(&tile.seen[row % group.rows]);
                    scores[..seen.start].fill(0.0);
                    scores[seen.end..].fill(0.0);
                    if seen.is_empty() {
                        continue;
                    }
                    let scores = &mut scores[seen];
                    let new = maximum(scores).max(*highest);
                    if new > *highest {
                        let down = exp((*highest - new) * factor);
                        *total *= down;
                        scale(out, down);
                        *highest = new;
                    }
                    *total += exponentials(scores, new, factor);
                }
            },
        );
    }
}

/// Buffers of one hand.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    d_rows: Vec<f32>,
    p: Vec<f32>,
    d_s: Vec<f32>,
    out: Vec<f32>,
    running: Running,
}

/// `[tokens, heads · width]`, and `[tokens, heads]`, the logarithm of each query's sum of exponentials; keys
/// and values may have a past before the first query.
pub(crate) fn attend([q, k, v]: [&[f32]; 3], heads: Heads, documents: &[Document]) -> [Vec<f32>; 2] {
    let row = heads.heads * heads.width;
    let past = k.len() / (heads.key_heads * heads.width) - q.len() / row;
    let tiles = tiles(documents, past, TILE_TOKENS);
    let [mut out, mut log_sums] = [unfilled(q.len()), unfilled(q.len() / heads.width)];
    let parts = by_tile(&tiles, &mut out, row).into_iter().zip(by_tile(&tiles, &mut log_sums, heads.heads));
    deal(parts.collect()).into_par_iter().for_each_init(Scratch::default, |scratch, hand| {
        let Scratch { queries, p, out, running, .. } = scratch;
        for ((tile, rows), (_, log_sums)) in hand {
            let blocks = Block::all(tile);
            for key_head in 0..heads.key_heads {
                let group = Group { heads, key_head, rows: tile.queries.len() };
                group.gather(queries, q, tile);
                running.reset(group.count());
                out.clear();
                out.resize(group.count() * heads.width, 0.0);
                for block in &blocks {
                    group.against(p, queries, k, block);
                    running.take(p, out, block, group, tile);
                    group.add_over(out, p, v, block);
                }
                for (row, out) in out.chunks_exact_mut(heads.width).enumerate() {
                    scale(out, 1.0 / running.total[row]);
                    let log_sum = running.highest[row] * heads.scale() + running.total[row].ln();
                    log_sums[group.index(row, tile)] = log_sum;
                }
                group.scatter(out, heads.width, tile, rows);
            }
        }
    });
    [out, log_sums]
}

/// Gradients of queries, keys and values; `out` and `log_sums` are what [`attend`] gave.
///
/// With P the probabilities and s the scale: dV = Pᵀ dO, dP = dO Vᵀ, dS = s P ∘ (dP − rowsum(dO ∘ O)),
/// dQ = dS K, dK = dSᵀ Q.
pub(crate) fn attend_backward(
    [q, k, v]: [&[f32]; 3],
    [out, log_sums]: [&[f32]; 2],
    d_out: &[f32],
    heads: Heads,
    documents: &[Document],
) -> [Vec<f32>; 3] {
    let tiles = tiles(documents, 0, TILE_TOKENS);
    let mut d_q = unfilled(q.len());
    let of_hand = |hand: Vec<(&Tile, &mut [f32])>| {
        let (mut d_k, mut d_v) = (vec![0.0; k.len()], vec![0.0; v.len()]);
        let Scratch { mut queries, mut d_rows, mut p, mut d_s, out: mut d_queries, .. } = Scratch::default();
        let mut rows = Vec::new();
        for (tile, d_q) in hand {
            let blocks = Block::all(tile);
            for key_head in 0..heads.key_heads {
                let group = Group { heads, key_head, rows: tile.queries.len() };
                group.gather(&mut rows, out, tile);
                group.gather(&mut d_rows, d_out, tile);
                let both = rows.chunks_exact(heads.width).zip(d_rows.chunks_exact(heads.width));
                let along: Vec<f32> = both.map(|(out, d_out)| sum([out, d_out], |[out, d_out]| out * d_out)).collect();
                let first = tile.queries.start * heads.heads;
                let of_row = |row: usize| (log_sums[first + group.index(row, tile)], along[row]);
                group.gather(&mut queries, q, tile);
                d_queries.clear();
                d_queries.resize(queries.len(), 0.0);
                for block in &blocks {
                    group.against(&mut p, &queries, k, block);
                    group.against(&mut d_s, &d_rows, v, block);
                    to_gradients(&mut p, &mut d_s, block, group, tile, of_row);
                    group.add_over(&mut d_queries, &d_s, k, block);
                    group.add_to(&mut d_k, &d_s, &queries, block);
                    group.add_to(&mut d_v, &p, &d_rows, block);
                }
                group.scatter(&d_queries, heads.width, tile, d_q);
            }
        }
        [d_k, d_v]
    };
    let hands = deal(by_tile(&tiles, &mut d_q, heads.heads * heads.width));
    let [d_k, d_v] = add_parts(hands.into_par_iter().map(of_hand).collect());
    [d_q, d_k, d_v]
}

/// A block's products of queries and keys to P, and dP to dS, in place. Hidden keys get 0 in both. `of_row` gives
/// the logarithm of a query's sum and its rowsum(dO ∘ O).
fn to_gradients(
    scores: &mut [f32],
    d_p: &mut [f32],
    block: &Block,
    group: Group,
    tile: &Tile,
    of_row: impl Fn(usize) -> (f32, f32),
) {
    let (factor, count) = (group.heads.scale(), block.keys.len());
    vectorised(
        #[inline(always)]
        || {
            for (row, (p, d_p)) in scores.chunks_exact_mut(count).zip(d_p.chunks_exact_mut(count)).enumerate() {
                let seen = block.seen(&tile.seen[row % group.rows]);
                for hidden in [0..seen.start, seen.end..count] {
                    p[hidden.clone()].fill(0.0);
                    d_p[hidden].fill(0.0);
                }
                let (log_sum, along) = of_row(row);
                for (p, d_p) in p[seen.clone()].iter_mut().zip(&mut d_p[seen]) {
                    *p = exp(*p * factor - log_sum);
                    *d_p = *p * (*d_p - along) * factor;
                }
            }
        },
    );
}
