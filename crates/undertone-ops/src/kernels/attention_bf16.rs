//! Attention with products of bf16 numbers; softmax and sums are f32.
//!
//! As [`super::attention`], but a tile is one block of queries, the query heads that share a key head lie
//! under one another, and runs of keys are widened to whole blocks: what that adds is hidden from
//! every query, with probability exactly 0.

use std::ops::Range;

use rayon::prelude::*;
use undertone_data::Document;

use super::attention::{Group, add_parts, by_tile, deal, head};
use super::bf16::{BLOCK, Left, Right, multiply_part};
use super::matmul::View;
use super::softmax::{exponentials, maximum, scale};
use super::{sum, unfilled, vectorised};
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

    /// The runs, each with where it begins among these keys.
    fn placed(&self) -> impl Iterator<Item = (usize, &Range<usize>)> {
        self.runs.iter().scan(0, |from, run| {
            let here = *from;
            *from += run.len();
            Some((here, run))
        })
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
    /// Queries of the group, one row after another.
    queries: Vec<f32>,
    /// Gradients of what the queries gave.
    d_rows: Vec<f32>,
    scores: Vec<f32>,
    d_scores: Vec<f32>,
    left: Left,
    right: Right,
    out: Vec<f32>,
}

impl Scratch {
    fn new(parts: usize) -> Self {
        let buffer = Vec::new;
        Self {
            queries: buffer(),
            d_rows: buffer(),
            scores: buffer(),
            d_scores: buffer(),
            left: Left::empty(parts),
            right: Right::empty(parts),
            out: buffer(),
        }
    }
}

/// One tile and the query heads of one key head.
struct Task<'a> {
    group: Group,
    tile: &'a Tile,
    blocks: &'a Blocks,
    keys: &'a Keys,
}

impl Task<'_> {
    /// Products of gathered rows with the tile's keys: `[group · BLOCK, keys]`.
    fn against_keys(&self, out: &mut Vec<f32>, left: &mut Left, rows: &[f32], keys: &Right) {
        let (count, width) = (self.blocks.key_count(), self.group.heads.width);
        left.refill(View::new(rows, self.group.count(), width));
        out.resize(self.group.count() * count, 0.0);
        for (from, run) in self.blocks.placed() {
            multiply_part(&mut out[from..], count, false, left, keys, 0..width, run.clone());
        }
    }

    /// Products of rows over the tile's keys with the keys' rows, put where they belong in `to`.
    fn over_keys(&self, out: &mut Vec<f32>, left: &mut Left, scores: &[f32], to: &mut [f32]) {
        let width = self.group.heads.width.next_multiple_of(BLOCK);
        let (rows, count) = (self.group.count(), self.blocks.key_count());
        out.resize(rows * width, 0.0);
        for (from, run) in self.blocks.placed() {
            left.refill(View::strided(&scores[from..], rows, run.len(), count));
            multiply_part(out, width, from > 0, left, &self.keys.rows, run.clone(), 0..width);
        }
        self.group.scatter(out, width, self.tile, to);
    }

    /// Probabilities of gathered queries.
    fn probabilities(&self, scores: &mut Vec<f32>, left: &mut Left, queries: &[f32]) {
        self.against_keys(scores, left, queries, &self.keys.k_transposed);
        let count = self.blocks.key_count();
        for of_head in scores.chunks_exact_mut(BLOCK * count) {
            let (seen, filling) = of_head.split_at_mut(self.tile.queries.len() * count);
            normalise(seen, count, &self.blocks.seen, self.group.heads.scale());
            filling.fill(0.0);
        }
    }

    fn attend(&self, scratch: &mut Scratch, q: &[f32], to: &mut [f32]) {
        let Scratch { queries, scores, left, out, .. } = scratch;
        self.group.gather(queries, q, self.tile);
        self.probabilities(scores, left, queries);
        self.over_keys(out, left, scores, to);
    }

    /// `d_k` and `d_v` are `[width, tokens]`, in whole blocks.
    fn backward(
        &self,
        scratch: &mut Scratch,
        [q, d_out]: [&[f32]; 2],
        d_q: &mut [f32],
        [d_k, d_v]: [&mut [f32]; 2],
        tokens: usize,
    ) {
        let Scratch { queries, d_rows, scores, d_scores, left, right, out } = scratch;
        let (rows, width, count) = (self.group.count(), self.group.heads.width, self.blocks.key_count());
        self.group.gather(queries, q, self.tile);
        self.group.gather(d_rows, d_out, self.tile);
        self.probabilities(scores, left, queries);
        let v_transposed = self.keys.v_transposed.as_ref().expect("made for the backward");
        self.against_keys(d_scores, left, d_rows, v_transposed);
        gradient_of_scores(scores, d_scores, count, self.group.heads.scale());
        self.over_keys(out, left, d_scores, d_q);
        // dKᵀ += Qᵀ dS and dVᵀ += dOᵀ P.
        for (gathered, scores, to) in [(queries, d_scores, d_k), (d_rows, scores, d_v)] {
            left.refill(View::new(gathered, rows, width).transposed());
            right.refill(View::new(scores, rows, count));
            for (from, run) in self.blocks.placed() {
                multiply_part(&mut to[run.start..], tokens, true, left, right, 0..rows, from..from + run.len());
            }
        }
    }
}

/// `[tokens, heads · width]`; there is no past. Factors have so many parts.
pub(crate) fn attend([q, k, v]: [&[f32]; 3], heads: Heads, documents: &[Document], parts: usize) -> Vec<f32> {
    let row = heads.heads * heads.width;
    let mut out = unfilled(q.len());
    for document in documents {
        let keys = keys_of(heads, |key_head| {
            let [k, v] = [k, v].map(|rows| head(rows, key_head, heads.key_heads, heads.width, &range(document)));
            Keys { k_transposed: Right::new(k.transposed(), parts), v_transposed: None, rows: Right::new(v, parts) }
        });
        let tiles = tiles(std::slice::from_ref(document), 0, BLOCK);
        let own = &mut out[document.start * row..(document.start + document.tokens) * row];
        by_tile(&tiles, own, row).into_par_iter().for_each_init(
            || Scratch::new(parts),
            |scratch, (tile, out)| {
                let blocks = Blocks::new(tile, document);
                for (key_head, keys) in keys.iter().enumerate() {
                    let group = Group { heads, key_head, rows: BLOCK };
                    Task { group, tile, blocks: &blocks, keys }.attend(scratch, q, out);
                }
            },
        );
    }
    out
}

/// Gradients of queries, keys and values, as [`super::attention::attend_backward`].
pub(crate) fn attend_backward(
    [q, k, v]: [&[f32]; 3],
    d_out: &[f32],
    heads: Heads,
    documents: &[Document],
    parts: usize,
) -> [Vec<f32>; 3] {
    let (row, key_row) = (heads.heads * heads.width, heads.key_heads * heads.width);
    let mut gradients = [unfilled(q.len()), unfilled(k.len()), unfilled(v.len())];
    for document in documents {
        let keys = keys_of(heads, |key_head| {
            let [k, v] = [k, v].map(|rows| head(rows, key_head, heads.key_heads, heads.width, &range(document)));
            let [k_transposed, v_transposed] = [k, v].map(|rows| Right::new(rows.transposed(), parts));
            Keys { k_transposed, v_transposed: Some(v_transposed), rows: Right::new(k, parts) }
        });
        let tiles = tiles(std::slice::from_ref(document), 0, BLOCK);
        let [d_q, d_k, d_v] = &mut gradients;
        let own = &mut d_q[document.start * row..(document.start + document.tokens) * row];
        // Gradients of keys and values: [key heads, width, tokens].
        let tokens = document.tokens.next_multiple_of(BLOCK);
        let stride = heads.width.next_multiple_of(BLOCK) * tokens;
        let of_hand = |hand: Vec<(&Tile, &mut [f32])>| {
            let mut d_keys = [0, 1].map(|_| vec![0.0; heads.key_heads * stride]);
            let mut scratch = Scratch::new(parts);
            for (tile, d_q) in hand {
                let blocks = Blocks::new(tile, document);
                for (key_head, keys) in keys.iter().enumerate() {
                    let group = Group { heads, key_head, rows: BLOCK };
                    let places = d_keys.each_mut().map(|all| &mut all[key_head * stride..][..stride]);
                    let task = Task { group, tile, blocks: &blocks, keys };
                    task.backward(&mut scratch, [q, d_out], d_q, places, tokens);
                }
            }
            d_keys
        };
        let total = add_parts(deal(by_tile(&tiles, own, row)).into_par_iter().map(of_hand).collect());
        for (out, total) in [d_k, d_v].into_iter().zip(total) {
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

fn range(document: &Document) -> Range<usize> {
    document.start..document.start + document.tokens
}

fn keys_of(heads: Heads, of_head: impl Fn(usize) -> Keys + Send + Sync) -> Vec<Keys> {
    (0..heads.key_heads).into_par_iter().map(of_head).collect()
}

/// Products of queries and keys, `count` a row, to probabilities, in place: softmax of `factor` times them
/// over the keys that are seen.
fn normalise(scores: &mut [f32], count: usize, seen: &[[Range<usize>; 2]], factor: f32) {
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

/// dP to dS, in place. Where P is exactly 0, so is dS.
fn gradient_of_scores(p: &[f32], d_p: &mut [f32], count: usize, scale: f32) {
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
