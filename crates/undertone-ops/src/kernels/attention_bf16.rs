//! Attention with its products on the unit for bf16; softmax and sums are f32.
//!
//! As [`super::attention`], but a tile is one block of queries, the query heads that share a key head lie
//! under one another, and runs of keys are widened to whole blocks: what that adds is hidden from
//! every query, with probability exactly 0.

use std::ops::Range;

use rayon::prelude::*;
use undertone_data::Document;

use super::amx::{BLOCK, Left, Right, multiply_part};
use super::attention::{Group, PARTS, by_tile, gradient_of_scores, head, normalise};
use super::{elementwise, unfilled};
use crate::Heads;
use crate::tile::{Tile, tiles};

/// A tile's keys in whole blocks, counted from the first token of the document.
struct Blocks {
    runs: Vec<Range<usize>>,
    /// What [`Tile::seen`] is among these keys.
    seen: Vec<[Range<usize>; 2]>,
}

impl Blocks {
    fn new(tile: &Tile, document: &Document) -> Self {
        let whole = |run: &Range<usize>| {
            let (start, end) = (run.start - document.start, run.end - document.start);
            start / BLOCK * BLOCK..end.next_multiple_of(BLOCK)
        };
        let runs: Vec<Range<usize>> = tile.keys.iter().map(whole).collect();
        // Where the last run begins among the tile's keys, and among these.
        let last = tile.keys.len() - 1;
        let from: usize = tile.keys[..last].iter().map(Range::len).sum();
        let to: usize = runs[..last].iter().map(Range::len).sum();
        let to = to + tile.keys[last].start - document.start - runs[last].start;
        let moved = |range: &Range<usize>| range.start - from + to..range.end - from + to;
        let seen = tile.seen.iter().map(|[trunk, own]| match own.is_empty() {
            true => [trunk.clone(), trunk.end..trunk.end],
            false => [trunk.clone(), moved(own)],
        });
        Self { seen: seen.collect(), runs }
    }

    fn key_count(&self) -> usize {
        self.runs.iter().map(Range::len).sum()
    }
}

/// The right factors of one key head of a document.
struct Keys {
    /// Kᵀ, `[width, keys]`.
    k_transposed: Right,
    /// Vᵀ, for the backward.
    v_transposed: Option<Right>,
    /// V, or K for the backward: `[keys, width]`.
    rows: Right,
}

/// Buffers of one task.
struct Scratch {
    scores: Vec<f32>,
    d_scores: Vec<f32>,
    left: Left,
    right: Right,
    rows: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        let (left, right) = (Left::empty(), Right::empty());
        Self { scores: Vec::new(), d_scores: Vec::new(), left, right, rows: Vec::new() }
    }
}

impl Group {
    /// The group's rows as a left factor.
    fn as_left(&self, left: &mut Left, rows: &[f32], tile: &Tile) {
        left.refill(self.count(), self.heads.width, |row| self.row(rows, tile, row));
    }

    /// The group's rows, transposed, as a left factor.
    fn left_transposed(&self, left: &mut Left, buffer: &mut Vec<f32>, rows: &[f32], tile: &Tile) {
        let count = self.count();
        buffer.clear();
        buffer.resize(self.heads.width * count, 0.0);
        for row in 0..count {
            for (column, x) in self.row(rows, tile, row).iter().enumerate() {
                buffer[column * count + row] = *x;
            }
        }
        left.refill(self.heads.width, count, |row| &buffer[row * count..][..count]);
    }

    /// Products of the left factor with the tile's keys: `[group · BLOCK, keys]`.
    fn left_against_keys(&self, out: &mut Vec<f32>, left: &Left, keys: &Right, blocks: &Blocks) {
        let count = blocks.key_count();
        out.resize(self.count() * count, 0.0);
        let width = self.heads.width.next_multiple_of(BLOCK);
        let mut from = 0;
        for run in &blocks.runs {
            multiply_part(&mut out[from..], count, false, left, keys, 0..width, run.clone());
            from += run.len();
        }
    }

    /// Products of rows over the tile's keys with the keys' rows: `[group · BLOCK, width]`, in `scratch.rows`.
    fn left_over_keys(&self, scratch: &mut Scratch, of_gradient: bool, keys: &Right, blocks: &Blocks) {
        let (rows, count, stride) = (self.count(), blocks.key_count(), self.heads.width.next_multiple_of(BLOCK));
        scratch.rows.resize(rows * stride, 0.0);
        let scores = if of_gradient { &scratch.d_scores } else { &scratch.scores };
        let mut from = 0;
        for run in &blocks.runs {
            scratch.left.refill(rows, run.len(), |row| &scores[row * count + from..][..run.len()]);
            let accumulate = from > 0;
            multiply_part(&mut scratch.rows, stride, accumulate, &scratch.left, keys, run.clone(), 0..stride);
            from += run.len();
        }
    }

    /// Probabilities of the group's rows, in `scratch.scores`.
    fn left_probabilities(&self, scratch: &mut Scratch, q: &[f32], tile: &Tile, blocks: &Blocks, keys: &Keys) {
        self.as_left(&mut scratch.left, q, tile);
        self.left_against_keys(&mut scratch.scores, &scratch.left, &keys.k_transposed, blocks);
        let count = blocks.key_count();
        for of_head in scratch.scores.chunks_exact_mut(BLOCK * count) {
            let (seen, filling) = of_head.split_at_mut(tile.queries.len() * count);
            normalise(seen, count, &blocks.seen, self.heads.scale());
            filling.fill(0.0);
        }
    }
}

/// `[tokens, heads · width]`; there is no past.
pub(crate) fn attend(q: &[f32], k: &[f32], v: &[f32], heads: Heads, documents: &[Document]) -> Vec<f32> {
    let row = heads.heads * heads.width;
    let mut out = unfilled(q.len());
    for document in documents {
        let keys = keys_of(heads, |key_head| {
            let [k, v] = [k, v].map(|rows| head(rows, key_head, heads.key_heads, heads.width, &range(document)));
            let k_transposed = Right::new(k.transposed(), 1.0, false);
            Keys { k_transposed, v_transposed: None, rows: Right::new(v, 1.0, false) }
        });
        let tiles = tiles(std::slice::from_ref(document), 0, BLOCK);
        let own = &mut out[document.start * row..(document.start + document.tokens) * row];
        by_tile(&tiles, own, row).into_par_iter().for_each_init(Scratch::new, |scratch, (tile, out)| {
            let blocks = Blocks::new(tile, document);
            for (key_head, keys) in keys.iter().enumerate() {
                let group = Group { heads, key_head, rows: BLOCK };
                group.left_probabilities(scratch, q, tile, &blocks, keys);
                group.left_over_keys(scratch, false, &keys.rows, &blocks);
                group.scatter(&scratch.rows, heads.width.next_multiple_of(BLOCK), tile, out);
            }
        });
    }
    out
}

/// Gradients of queries, keys and values, as [`super::attention::attend_backward`].
pub(crate) fn attend_backward(
    [q, k, v]: [&[f32]; 3],
    d_out: &[f32],
    heads: Heads,
    documents: &[Document],
) -> [Vec<f32>; 3] {
    let (row, key_row) = (heads.heads * heads.width, heads.key_heads * heads.width);
    let mut gradients = [unfilled(q.len()), unfilled(k.len()), unfilled(v.len())];
    for document in documents {
        let keys = keys_of(heads, |key_head| {
            let [k, v] = [k, v].map(|rows| head(rows, key_head, heads.key_heads, heads.width, &range(document)));
            let [k_transposed, v_transposed] = [k, v].map(|rows| Right::new(rows.transposed(), 1.0, false));
            Keys { k_transposed, v_transposed: Some(v_transposed), rows: Right::new(k, 1.0, false) }
        });
        let tiles = tiles(std::slice::from_ref(document), 0, BLOCK);
        let [d_q, d_k, d_v] = &mut gradients;
        let own = &mut d_q[document.start * row..(document.start + document.tokens) * row];
        let mut parts: Vec<Vec<_>> = Vec::new();
        parts.resize_with(PARTS.min(tiles.len()), Vec::new);
        for (index, tile) in by_tile(&tiles, own, row).into_iter().enumerate() {
            parts[index % PARTS].push(tile);
        }
        // Gradients of keys and values: [key heads, width, tokens].
        let tokens = document.tokens.next_multiple_of(BLOCK);
        let stride = heads.width.next_multiple_of(BLOCK) * tokens;
        let of_part = |part: Vec<(&Tile, &mut [f32])>| {
            let mut d_keys = [0, 1].map(|_| vec![0.0; heads.key_heads * stride]);
            let mut scratch = Scratch::new();
            for (tile, d_q) in part {
                let blocks = Blocks::new(tile, document);
                for (key_head, keys) in keys.iter().enumerate() {
                    let group = Group { heads, key_head, rows: BLOCK };
                    let places = d_keys.each_mut().map(|all| &mut all[key_head * stride..][..stride]);
                    backward_of_tile(&mut scratch, &group, [q, d_out], tile, &blocks, keys, d_q, places, tokens);
                }
            }
            d_keys
        };
        let parts: Vec<[Vec<f32>; 2]> = parts.into_par_iter().map(of_part).collect();
        let total = parts.into_iter().reduce(|mut total, part| {
            total.iter_mut().zip(&part).for_each(|(total, part)| elementwise::add(total, part));
            total
        });
        for (out, total) in [d_k, d_v].into_iter().zip(total.into_iter().flatten()) {
            let out = &mut out[document.start * key_row..(document.start + document.tokens) * key_row];
            out.par_chunks_mut(key_row).enumerate().for_each(|(token, out)| {
                for (index, out) in out.iter_mut().enumerate() {
                    let (key_head, column) = (index / heads.width, index % heads.width);
                    *out = total[key_head * stride + column * tokens + token];
                }
            });
        }
    }
    gradients
}

/// One tile and one key head.
#[allow(clippy::too_many_arguments)]
fn backward_of_tile(
    scratch: &mut Scratch,
    group: &Group,
    [q, d_out]: [&[f32]; 2],
    tile: &Tile,
    blocks: &Blocks,
    keys: &Keys,
    d_q: &mut [f32],
    [d_k, d_v]: [&mut [f32]; 2],
    tokens: usize,
) {
    let Heads { width, .. } = group.heads;
    let (rows, count) = (group.count(), blocks.key_count());
    group.left_probabilities(scratch, q, tile, blocks, keys);
    group.as_left(&mut scratch.left, d_out, tile);
    let v_transposed = keys.v_transposed.as_ref().expect("made for the backward");
    group.left_against_keys(&mut scratch.d_scores, &scratch.left, v_transposed, blocks);
    gradient_of_scores(&scratch.scores, &mut scratch.d_scores, count, group.heads.scale());
    group.left_over_keys(scratch, true, &keys.rows, blocks);
    group.scatter(&scratch.rows, width.next_multiple_of(BLOCK), tile, d_q);
    // dKᵀ += Qᵀ dS and dVᵀ += dOᵀ P.
    for (from, of_gradient, to) in [(q, true, d_k), (d_out, false, d_v)] {
        let Scratch { scores, d_scores, left, right, rows: buffer } = scratch;
        group.left_transposed(left, buffer, from, tile);
        right.refill(if of_gradient { d_scores } else { scores }, count);
        let mut from = 0;
        for run in &blocks.runs {
            multiply_part(&mut to[run.start..], tokens, true, left, right, 0..rows, from..from + run.len());
            from += run.len();
        }
    }
}

fn range(document: &Document) -> Range<usize> {
    document.start..document.start + document.tokens
}

fn keys_of(heads: Heads, of_head: impl Fn(usize) -> Keys + Send + Sync) -> Vec<Keys> {
    (0..heads.key_heads).into_par_iter().map(of_head).collect()
}
