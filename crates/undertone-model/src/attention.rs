//! Attention over documents with trunk and branches, forward and backward, tile by tile.
//!
//! A tile is a run of queries with the keys they may see; scores exist for one tile at a time, so
//! memory is linear in the row. The backward recomputes each tile's probabilities from queries and
//! keys (as FlashAttention does, arXiv 2205.14135), outside autodiff, which would keep them all.
//!
//! Grouped-query attention without copies of keys: the query heads of one key head are laid under
//! one another, so that each key head takes one matrix product.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use undertone_data::Document;

/// Queries of one tile.
const TILE_TOKENS: usize = 256;

/// Added to the score of a hidden key: large enough to absorb any score whole, so that what is
/// hidden cannot change a bit, and finite, so that no backend meets an infinity.
const HIDDEN: f32 = -1e30;

/// The queries of one tile, the keys they see, and which pairs are hidden nevertheless.
struct Tile {
    queries: Range<usize>,
    /// One or two runs of keys, in order: trunk, then the branches themselves.
    keys: Vec<Range<usize>>,
    /// `[queries, keys]`, 0 or [`HIDDEN`].
    bias: Vec<f32>,
}

impl Tile {
    fn new(queries: Range<usize>, keys: Vec<Range<usize>>, sees: impl Fn(usize, usize) -> bool) -> Self {
        let bias = queries
            .clone()
            .flat_map(|query| keys.iter().cloned().flatten().map(move |key| (query, key)))
            .map(|(query, key)| if sees(query, key) { 0.0 } else { HIDDEN })
            .collect();
        Self { queries, keys, bias }
    }
}

/// The tiles of one document. `past` keys of a cache stand before its trunk.
fn tiles(document: &Document, past: usize) -> Vec<Tile> {
    assert!(past == 0 || (document.start == 0 && document.branches.is_empty()), "a cache serves one plain row");
    let start = document.start;
    let mut tiles = Vec::new();
    for from in (0..document.trunk).step_by(TILE_TOKENS) {
        let to = document.trunk.min(from + TILE_TOKENS);
        let keys = start..start + past + to;
        tiles.push(Tile::new(start + from..start + to, vec![keys], |query, key| key <= past + query));
    }
    let mut first = 0;
    while first < document.branches.len() {
        let mut last = first + 1;
        let begin = document.branches[first].span.start;
        while document.branches.get(last).is_some_and(|branch| branch.span.end - begin <= TILE_TOKENS) {
            last += 1;
        }
        let group = &document.branches[first..last];
        let anchor = group.iter().map(|branch| branch.anchor).max().unwrap_or(0);
        let own = start + begin..start + group[group.len() - 1].span.end;
        let branch_of = |token: usize| group.iter().find(|branch| branch.span.contains(&(token - start)));
        // One long branch takes several tiles.
        for from in own.clone().step_by(TILE_TOKENS) {
            let queries = from..own.end.min(from + TILE_TOKENS);
            let keys = vec![start..start + anchor, own.start..queries.end];
            tiles.push(Tile::new(queries, keys, |query, key| {
                let branch = branch_of(query).expect("queries of a tile are tokens of its branches");
                if key >= own.start {
                    branch.span.start + start <= key && key <= query
                } else {
                    key - start < branch.anchor
                }
            }));
        }
        first = last;
    }
    tiles
}

/// `[tokens, heads, width]` to `[kv_heads, heads/kv_heads · tokens, width]`.
fn fold(rows: Tensor<3>, kv_heads: usize) -> Tensor<3> {
    let [tokens, heads, width] = rows.dims();
    let group = heads / kv_heads;
    rows.reshape([tokens, kv_heads, group, width]).permute([1, 2, 0, 3]).reshape([kv_heads, group * tokens, width])
}

/// The inverse of [`fold`].
fn unfold(folded: Tensor<3>, tokens: usize) -> Tensor<3> {
    let [kv_heads, rows, width] = folded.dims();
    let group = rows / tokens;
    folded.reshape([kv_heads, group, tokens, width]).permute([2, 0, 1, 3]).reshape([tokens, kv_heads * group, width])
}

/// The tile's part of `[tokens, kv_heads, width]`, as `[kv_heads, keys, width]`.
fn gather(rows: &Tensor<3>, runs: &[Range<usize>]) -> Tensor<3> {
    let parts: Vec<_> =
        runs.iter().filter(|run| !run.is_empty()).map(|run| rows.clone().slice([run.clone()])).collect();
    let rows = if parts.len() == 1 { parts.into_iter().next().expect("one part") } else { Tensor::cat(parts, 0) };
    rows.permute([1, 0, 2])
}

/// Softmax of scaled scores: `[kv_heads, group · queries, keys]`.
fn probabilities(queries: &Tensor<3>, keys: &Tensor<3>, tile: &Tile, device: &Device) -> Tensor<3> {
    let [kv_heads, rows, width] = queries.dims();
    let tokens = tile.queries.len();
    let group = rows / tokens;
    let count = tile.bias.len() / tokens;
    let bias = Tensor::<2>::from_data(TensorData::new(tile.bias.clone(), [tokens, count]), device);
    let scores = queries.clone().matmul(keys.clone().swap_dims(1, 2)) * (width as f64).powf(-0.5);
    let scores = scores.reshape([kv_heads, group, tokens, count]) + bias.reshape([1, 1, tokens, count]);
    softmax(scores, 3).reshape([kv_heads, rows, count])
}

/// Attention of every document over itself.
///
/// # Shapes
/// `queries` `[tokens, heads, width]`; `keys` and `values` `[past + tokens, kv_heads, width]`; the
/// result `[tokens, heads, width]`. No tensor may be tracked by autodiff.
pub(crate) fn attend(queries: &Tensor<3>, keys: &Tensor<3>, values: &Tensor<3>, documents: &[Document]) -> Tensor<3> {
    let device = queries.device();
    let [_, kv_heads, _] = keys.dims();
    let past = keys.dims()[0] - queries.dims()[0];
    let mut outputs = Vec::new();
    for tile in documents.iter().flat_map(|document| tiles(document, past)) {
        let q = fold(queries.clone().slice([tile.queries.clone()]), kv_heads);
        let p = probabilities(&q, &gather(keys, &tile.keys), &tile, &device);
        outputs.push(unfold(p.matmul(gather(values, &tile.keys)), tile.queries.len()));
    }
    Tensor::cat(outputs, 0)
}

/// Gradients of a loss with respect to queries, keys and values, given `d_output`, its gradient with
/// respect to [`attend`]'s result `output`.
///
/// With P the probabilities: dV = Pᵀ dO, dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)), dQ = s dS K, dK = s dSᵀ Q.
pub(crate) fn attend_backward(
    [queries, keys, values]: [&Tensor<3>; 3],
    output: &Tensor<3>,
    d_output: &Tensor<3>,
    documents: &[Document],
) -> [Tensor<3>; 3] {
    let device = queries.device();
    let [_, kv_heads, width] = keys.dims();
    let scale = (width as f64).powf(-0.5);
    let mut d_queries = Vec::new();
    let mut d_keys = keys.zeros_like();
    let mut d_values = values.zeros_like();
    for tile in documents.iter().flat_map(|document| tiles(document, 0)) {
        let part = |rows: &Tensor<3>| fold(rows.clone().slice([tile.queries.clone()]), kv_heads);
        let (q, o, d_o) = (part(queries), part(output), part(d_output));
        let (k, v) = (gather(keys, &tile.keys), gather(values, &tile.keys));
        let p = probabilities(&q, &k, &tile, &device);
        let d_v = p.clone().swap_dims(1, 2).matmul(d_o.clone());
        let row_sums = (d_o.clone() * o).sum_dim(2);
        let d_s = p * (d_o.matmul(v.swap_dims(1, 2)) - row_sums);
        d_queries.push(unfold(d_s.clone().matmul(k) * scale, tile.queries.len()));
        let d_k = d_s.swap_dims(1, 2).matmul(q) * scale;
        let mut from = 0;
        for run in tile.keys.iter().filter(|run| !run.is_empty()) {
            let own = |gradient: &Tensor<3>| gradient.clone().narrow(1, from, run.len()).permute([1, 0, 2]);
            let sum = d_keys.clone().slice([run.clone()]) + own(&d_k);
            d_keys = d_keys.slice_assign([run.clone()], sum);
            let sum = d_values.clone().slice([run.clone()]) + own(&d_v);
            d_values = d_values.slice_assign([run.clone()], sum);
            from += run.len();
        }
    }
    [Tensor::cat(d_queries, 0), d_keys, d_values]
}

#[cfg(test)]
mod tests {
    use super::*;
    use undertone_data::{Branch, Row, Stream};

    /// Shows which keys each query sees, tile by tile, as the model will apply it.
    fn seen(document: &Document, query: usize) -> Vec<usize> {
        let mut seen = Vec::new();
        for tile in tiles(document, 0) {
            if tile.queries.contains(&query) {
                let count = tile.bias.len() / tile.queries.len();
                let row = &tile.bias[(query - tile.queries.start) * count..][..count];
                seen.extend(
                    tile.keys.iter().cloned().flatten().zip(row).filter(|(_, bias)| **bias == 0.0).map(|(key, _)| key),
                );
            }
        }
        seen
    }

    #[test]
    fn tiles_apply_the_attention_rule_of_the_stream() {
        let branches = vec![
            Branch { anchor: 3, span: 600..700 },
            Branch { anchor: 600, span: 700..1300 },
            Branch { anchor: 0, span: 1300..1305 },
        ];
        let stream = |trunk: usize, branches: Vec<Branch>| Stream {
            id: String::new(),
            user: String::new(),
            tokens: vec![0; branches.last().map_or(trunk, |branch| branch.span.end)],
            trunk,
            branches,
            targets: Vec::new(),
            pieces: Vec::new(),
            hidden: Default::default(),
        };
        let branched = stream(600, branches);
        // Behind another document, so that offsets count.
        let row = Row::of([&stream(7, Vec::new()), &branched]);
        for query in 0..1305 {
            let expected: Vec<usize> = (0..1305).filter(|&key| branched.sees(query, key)).map(|key| key + 7).collect();
            assert_eq!(seen(&row.documents[1], query + 7), expected, "query {query}");
        }
    }
}
