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
use super::{sum, unfilled, vectorised};
use crate::Heads;
use crate::tile::{Tile, tiles};

/// Queries of one tile.
const TILE_TOKENS: usize = 64;

/// Gradients of keys and values are summed in so many buffers, whatever the number of threads.
pub(super) const PARTS: usize = 8;

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

/// Queries of one head against the rows of one key head: `[queries, keys]`, through all runs of keys.
fn against_keys(out: &mut Vec<f32>, tile: &Tile, queries: View<'_>, rows: &[f32], of: usize, heads: Heads) {
    let count = tile.key_count();
    out.resize(tile.queries.len() * count, 0.0);
    let mut from = 0;
    for run in &tile.keys {
        let keys = head(rows, of, heads.key_heads, heads.width, run).transposed();
        multiply(&mut out[from..], count, false, queries, keys, 1.0, Workers::One);
        from += run.len();
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

/// `[tokens, heads, width]`; keys and values may have a past before the first query.
pub(crate) fn attend(q: &[f32], k: &[f32], v: &[f32], heads: Heads, documents: &[Document]) -> Vec<f32> {
    let Heads { heads: count, key_heads, width } = heads;
    let past = k.len() / (key_heads * width) - q.len() / (count * width);
    let tiles = tiles(documents, past, TILE_TOKENS);
    let mut out = unfilled(q.len());
    by_tile(&tiles, &mut out, count * width).into_par_iter().for_each(|(tile, out)| {
        let mut scores = Vec::new();
        for of in 0..count {
            let key_head = of / (count / key_heads);
            let queries = head(q, of, count, width, &tile.queries);
            against_keys(&mut scores, tile, queries, k, key_head, heads);
            normalise(&mut scores, tile.key_count(), &tile.seen, heads.scale());
            let mut from = 0;
            for run in &tile.keys {
                let p = View::strided(&scores[from..], tile.queries.len(), run.len(), tile.key_count());
                let values = head(v, key_head, key_heads, width, run);
                multiply(&mut out[of * width..], count * width, from > 0, p, values, 1.0, Workers::One);
                from += run.len();
            }
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
    let Heads { heads: count, key_heads, width } = heads;
    let tiles = tiles(documents, 0, TILE_TOKENS);
    let mut d_q = unfilled(q.len());
    let mut parts: Vec<Vec<_>> = Vec::new();
    parts.resize_with(PARTS.min(tiles.len()), Vec::new);
    for (index, tile) in by_tile(&tiles, &mut d_q, count * width).into_iter().enumerate() {
        parts[index % PARTS].push(tile);
    }
    let of_part = |part: Vec<(&Tile, &mut [f32])>| {
        let (mut d_k, mut d_v) = (vec![0.0; k.len()], vec![0.0; v.len()]);
        let (mut p, mut d_s) = (Vec::new(), Vec::new());
        for (tile, d_q) in part {
            for of in 0..count {
                let key_head = of / (count / key_heads);
                let queries = head(q, of, count, width, &tile.queries);
                let d_rows = head(d_out, of, count, width, &tile.queries);
                against_keys(&mut p, tile, queries, k, key_head, heads);
                normalise(&mut p, tile.key_count(), &tile.seen, heads.scale());
                against_keys(&mut d_s, tile, d_rows, v, key_head, heads);
                gradient_of_scores(&p, &mut d_s, tile.key_count(), heads.scale());
                let (rows, stride) = (tile.queries.len(), tile.key_count());
                let mut from = 0;
                for run in &tile.keys {
                    let place = run.start * key_heads * width + key_head * width;
                    let (p, d_s) = (&p[from..], &d_s[from..]);
                    let [p, d_s] = [p, d_s].map(|data| View::strided(data, rows, run.len(), stride));
                    let keys = head(k, key_head, key_heads, width, run);
                    let (wide, narrow) = (count * width, key_heads * width);
                    multiply(&mut d_q[of * width..], wide, from > 0, d_s, keys, 1.0, Workers::One);
                    multiply(&mut d_k[place..], narrow, true, d_s.transposed(), queries, 1.0, Workers::One);
                    multiply(&mut d_v[place..], narrow, true, p.transposed(), d_rows, 1.0, Workers::One);
                    from += run.len();
                }
            }
        }
        [d_k, d_v]
    };
    let parts: Vec<[Vec<f32>; 2]> = parts.into_par_iter().map(of_part).collect();
    let [d_k, d_v] = parts
        .into_iter()
        .reduce(|mut total, part| {
            for (total, part) in total.iter_mut().zip(&part) {
                super::elementwise::add(total, part);
            }
            total
        })
        .unwrap_or_default();
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
