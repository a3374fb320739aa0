//! Attention by the rule of trunk and branches, tile by tile.
//!
//! As in FlashAttention (arXiv 2205.14135), a tile of queries takes its keys block by block, with running maxima
//! and sums, and the backward computes the scores again; the scores of one block stay in the second-level cache.
//! Keys that a query must not see get probability exactly 0. Grouped query heads share their key head; it is not
//! repeated. Products are of f32 or of bf16 numbers; softmax and all sums are f32.

mod block;
mod factors;
mod group;
mod key_gradients;
mod work;

use std::ops::Range;

use rayon::prelude::*;
use undertone_data::Document;

use self::block::{Block, Blocks};
pub(crate) use self::factors::Numbers;
use self::factors::{LhsBuffer, Rhs, RhsBuffer, multiply};
use self::group::Group;
use self::key_gradients::KeyGradients;
use self::work::{Work, by_tile, deal};
use super::matmul::MatRef;
use super::out::Out;
use super::softmax::{exponentials, maximum, scale};
use super::{Aligned, elementwise, exp, sum, vectorised};
use crate::types::Heads;

/// Results of `make` for every document and key head; `make` takes the key head and the rows of its keys.
fn for_each_key_head<T: Send>(
    documents: &[Document],
    past: usize,
    heads: Heads,
    make: impl Fn(usize, Range<usize>) -> T + Sync,
) -> Vec<Vec<T>> {
    let key_heads = |document: &Document| {
        let rows = document.start..document.start + past + document.tokens;
        (0..heads.key_heads).into_par_iter().map(|key_head| make(key_head, rows.clone())).collect()
    };
    documents.par_iter().map(key_heads).collect()
}

/// One head of some rows of `[tokens, heads, width]`.
fn head<'a>(rows: &'a [f32], index: usize, heads: usize, width: usize, tokens: &Range<usize>) -> MatRef<'a> {
    let stride = heads * width;
    MatRef::strided(&rows[tokens.start * stride + index * width..], tokens.len(), width, stride)
}

/// Running softmax of a group's queries: the largest score, and the sum of e^(score − largest).
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
    /// Where the highest grows, scales down the sums of earlier blocks in `out`, in rows of `width`.
    fn take(&mut self, scores: &mut [f32], out: &mut [f32], width: usize, place: (&Blocks, &Block, Group<'_>)) {
        let (blocks, block, group) = place;
        let factor = group.heads.scale;
        let rows = scores.chunks_exact_mut(block.keys.len()).zip(out.chunks_exact_mut(width));
        let states = self.highest.iter_mut().zip(&mut self.total);
        vectorised(
            #[inline(always)]
            || {
                for (row, ((scores, out), (highest, total))) in rows.zip(states).enumerate() {
                    let seen = group.token(row).map_or(0..0, |token| blocks.seen(block, token));
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

/// Attended rows, `[tokens, heads · width]`, and the logarithm of each query's sum of exponentials,
/// `[tokens, heads]`. Keys and values may begin with a past, before the first query.
pub(crate) fn attend(numbers: Numbers, [q, k, v]: [&[f32]; 3], heads: Heads, documents: &[Document]) -> [Vec<f32>; 2] {
    let Heads { key_heads, width, .. } = heads;
    let row = heads.heads * width;
    let past = k.len() / (key_heads * width) - q.len() / row;
    let works = Work::all(documents, past, numbers, heads.window);
    let keys: Vec<Vec<[Rhs<'_>; 2]>> = for_each_key_head(documents, past, heads, |key_head, tokens| {
        let [k, v] = [k, v].map(|rows| head(rows, key_head, key_heads, width, &tokens));
        [numbers.shared(k.transposed()), numbers.shared(v)]
    });
    // Row length of the products with values, in whole blocks.
    let wide = numbers.whole(width);
    let [mut out, mut logsumexp] = [vec![0.0; q.len()], vec![0.0; q.len() / width]];
    let parts = by_tile(&works, &mut out, row).into_iter().zip(by_tile(&works, &mut logsumexp, heads.heads));
    deal(parts.collect()).into_par_iter().for_each(|hand| {
        let [mut lhs_queries, mut lhs_scores] = [(); 2].map(|()| LhsBuffer::new(numbers));
        let [mut p, mut out] = [(); 2].map(|()| Aligned::default());
        let (mut queries, mut running) = (Vec::new(), Running::default());
        for ((work, rows), (_, logsumexp)) in hand {
            for key_head in 0..key_heads {
                let group = work.group(heads, key_head, numbers);
                let (count, [k_transposed, v]) = (group.count(), &keys[work.tile.document][key_head]);
                group.gather(&mut queries, q);
                let queries = lhs_queries.fill(MatRef::new(&queries, count, width));
                let out = out.first(count * wide);
                out.fill(0.0);
                running.reset(count);
                for block in &work.blocks.all {
                    let keys = block.keys.len();
                    let p = p.first(count * keys);
                    multiply(Out::overwrite(p), keys, &queries, k_transposed, [0..width, block.keys.clone()]);
                    running.take(p, out, wide, (&work.blocks, block, group));
                    let p = lhs_scores.fill(MatRef::new(p, count, keys));
                    multiply(Out::add(out), wide, &p, v, [block.keys.clone(), 0..wide]);
                }
                for (row, out) in out.chunks_exact_mut(wide).enumerate() {
                    let Some(index) = group.index(row) else { continue };
                    scale(out, 1.0 / running.total[row]);
                    logsumexp[index] = running.highest[row] * heads.scale + running.total[row].ln();
                }
                group.scatter(out, wide, rows);
            }
        }
    });
    [out, logsumexp]
}

/// Gradients of queries, keys and values; `out` and `logsumexp` are the results of [`attend`].
///
/// With P the probabilities and s the scale: dV = Pᵀ dO, dP = dO Vᵀ, dS = s P ∘ (dP − rowsum(dO ∘ O)),
/// dQ = dS K, dK = dSᵀ Q.
pub(crate) fn attend_backward(
    numbers: Numbers,
    [q, k, v]: [&[f32]; 3],
    [out, logsumexp]: [&[f32]; 2],
    d_out: &[f32],
    heads: Heads,
    documents: &[Document],
) -> [Vec<f32>; 3] {
    let Heads { key_heads, width, .. } = heads;
    let works = Work::all(documents, 0, numbers, heads.window);
    let keys: Vec<Vec<[Rhs<'_>; 3]>> = for_each_key_head(documents, 0, heads, |key_head, tokens| {
        let [k, v] = [k, v].map(|rows| head(rows, key_head, key_heads, width, &tokens));
        [numbers.shared(k.transposed()), numbers.shared(v.transposed()), numbers.shared(k)]
    });
    let wide = numbers.whole(width);
    let key_gradients = KeyGradients::new(documents, heads, numbers);
    let mut d_q = vec![0.0; q.len()];
    let gradients_of_hand = |hand: Vec<(&Work, &mut [f32])>| {
        let mut d_keys = [(); 2].map(|()| key_gradients.zeros());
        let mut lefts = [(); 5].map(|()| LhsBuffer::new(numbers));
        let mut rights = [(); 2].map(|()| RhsBuffer::new(numbers));
        let [mut p, mut d_s, mut d_queries] = [(); 3].map(|()| Aligned::default());
        let [mut queries, mut d_rows] = [Vec::new(), Vec::new()];
        for (work, d_q) in hand {
            for key_head in 0..key_heads {
                let group = work.group(heads, key_head, numbers);
                let (count, [k_transposed, v_transposed, k]) = (group.count(), &keys[work.tile.document][key_head]);
                let row_sums = group.logsumexp_and_sums(logsumexp, out, d_out);
                group.gather(&mut queries, q);
                group.gather(&mut d_rows, d_out);
                let [queries, d_rows] = [&queries, &d_rows].map(|rows| MatRef::new(rows, count, width));
                let [lhs_q, lhs_d, lhs_q_transposed, lhs_d_transposed, lhs_d_s] = &mut lefts;
                let (q_left, d_left) = (lhs_q.fill(queries), lhs_d.fill(d_rows));
                let q_transposed = lhs_q_transposed.fill(queries.transposed());
                let d_transposed = lhs_d_transposed.fill(d_rows.transposed());
                let d_queries = d_queries.first(count * wide);
                d_queries.fill(0.0);
                for block in &work.blocks.all {
                    let keys = block.keys.len();
                    let [p, d_s] = [&mut p, &mut d_s].map(|scores| scores.first(count * keys));
                    multiply(Out::overwrite(p), keys, &q_left, k_transposed, [0..width, block.keys.clone()]);
                    multiply(Out::overwrite(d_s), keys, &d_left, v_transposed, [0..width, block.keys.clone()]);
                    to_gradients(p, d_s, &row_sums, (&work.blocks, block, group));
                    let [p, d_s] = [p, d_s].map(|scores| MatRef::new(scores, count, keys));
                    multiply(Out::add(d_queries), wide, &lhs_d_s.fill(d_s), k, [block.keys.clone(), 0..wide]);
                    // dKᵀ += Qᵀ dS and dVᵀ += dOᵀ P.
                    let factors = [(&q_transposed, d_s), (&d_transposed, p)];
                    for (((left, scores), right), d) in factors.into_iter().zip(&mut rights).zip(&mut d_keys) {
                        let d = &mut d[key_gradients.place(work.tile.document, key_head, block.keys.start)..];
                        multiply(Out::add(d), key_gradients.columns, left, &right.fill(scores), [0..count, 0..keys]);
                    }
                }
                group.scatter(d_queries, wide, d_q);
            }
        }
        d_keys
    };
    let hands = deal(by_tile(&works, &mut d_q, heads.heads * width));
    let add = |mut total: [Aligned; 2], part: [Aligned; 2]| {
        total.iter_mut().zip(&part).for_each(|(total, part)| elementwise::add(total, part));
        total
    };
    // The parts are added one after another, in a fixed order.
    let parts: Vec<[Aligned; 2]> = hands.into_par_iter().map(gradients_of_hand).collect();
    let total = parts.into_iter().reduce(add).unwrap_or_default();
    let [d_k, d_v] = total.map(|total| key_gradients.to_rows(&total));
    [d_q, d_k, d_v]
}

impl Group<'_> {
    /// For each row, the logarithm of the query's sum of exponentials and rowsum(dO ∘ O); zeros for a padding row.
    fn logsumexp_and_sums(&self, logsumexp: &[f32], out: &[f32], d_out: &[f32]) -> Vec<(f32, f32)> {
        let first = self.tile.queries.start * self.heads.heads;
        let mut sums = vec![(0.0, 0.0); self.count()];
        vectorised(
            #[inline(always)]
            || {
                for (row, sums) in sums.iter_mut().enumerate() {
                    if let (Some(index), Some(out), Some(d_out)) =
                        (self.index(row), self.row(out, row), self.row(d_out, row))
                    {
                        *sums = (logsumexp[first + index], sum([out, d_out], |[out, d_out]| out * d_out));
                    }
                }
            },
        );
        sums
    }
}

/// Turns a block's products of queries and keys into P, and dP into dS, in place. Hidden keys get 0 in both.
fn to_gradients(
    scores: &mut [f32],
    d_p: &mut [f32],
    row_sums: &[(f32, f32)],
    (blocks, block, group): (&Blocks, &Block, Group<'_>),
) {
    let (factor, count) = (group.heads.scale, block.keys.len());
    vectorised(
        #[inline(always)]
        || {
            let rows = scores.chunks_exact_mut(count).zip(d_p.chunks_exact_mut(count)).zip(row_sums);
            for (row, ((p, d_p), (lse, along))) in rows.enumerate() {
                let seen = group.token(row).map_or(0..0, |token| blocks.seen(block, token));
                for hidden in [0..seen.start, seen.end..count] {
                    p[hidden.clone()].fill(0.0);
                    d_p[hidden].fill(0.0);
                }
                for (p, d_p) in p[seen.clone()].iter_mut().zip(&mut d_p[seen]) {
                    *p = exp(*p * factor - lse);
                    *d_p = *p * (*d_p - along) * factor;
                }
            }
        },
    );
}
