//! The attention rule as tiles: runs of queries, each with the keys that its queries may see.

use std::ops::Range;

use undertone_data::Document;

/// The queries of one tile, the keys that at least one of them sees, and the keys that each query sees.
#[derive(Debug, Clone)]
pub(crate) struct Tile {
    /// Index of its document in the row.
    pub(crate) document: usize,
    /// Rows of queries.
    pub(crate) queries: Range<usize>,
    /// Rows of keys, in order: a run of the trunk, then a run of the branches. No run is empty.
    pub(crate) keys: Vec<Range<usize>>,
    /// For each query, the two ranges of keys that it sees: in the trunk, and in its own branch. They index the
    /// concatenated runs of keys. Other keys are hidden from the query.
    pub(crate) seen: Vec<[Range<usize>; 2]>,
}

impl Tile {
    fn new(
        document: usize,
        queries: Range<usize>,
        keys: [Range<usize>; 2],
        seen: impl Fn(usize) -> [Range<usize>; 2],
    ) -> Self {
        let seen = queries.clone().map(seen).collect();
        Self { document, queries, keys: keys.into_iter().filter(|run| !run.is_empty()).collect(), seen }
    }

    /// Number of keys.
    pub(crate) fn key_count(&self) -> usize {
        self.keys.iter().map(Range::len).sum()
    }
}

/// The tiles of all documents, of at most `size` queries, in the order of their queries. `past` cached keys
/// precede the key of the first query. With a window, a query sees only the last so many keys of its path.
///
/// # Panics
/// If `past` is not 0 and the row is not a single document without branches.
pub(crate) fn tiles(documents: &[Document], past: usize, size: usize, window: Option<usize>) -> Vec<Tile> {
    let is_plain = documents.len() == 1 && documents[0].branches.is_empty();
    assert!(past == 0 || is_plain, "a cache serves one plain row");
    let of_document = |(index, document)| of_document(index, document, past, size, window);
    documents.iter().enumerate().flat_map(of_document).collect()
}

fn of_document(index: usize, document: &Document, past: usize, size: usize, window: Option<usize>) -> Vec<Tile> {
    let start = document.start;
    // The first key that is seen at a position of a path.
    let first_seen = |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
    let mut tiles = Vec::new();
    for from in (0..document.trunk).step_by(size) {
        let queries = start + from..start + document.trunk.min(from + size);
        let lowest = first_seen(past + from);
        let keys = [start + lowest..past + queries.end, 0..0];
        tiles.push(Tile::new(index, queries, keys, |query| {
            let position = past + query - start;
            let seen = first_seen(position) - lowest..position + 1 - lowest;
            [seen.clone(), seen.end..seen.end]
        }));
    }
    let mut first = 0;
    while first < document.branches.len() {
        let mut last = first + 1;
        let begin = document.branches[first].span.start;
        while document.branches.get(last).is_some_and(|branch| branch.span.end - begin <= size) {
            last += 1;
        }
        let group = &document.branches[first..last];
        let anchor = group.iter().map(|branch| branch.anchor).max().unwrap_or(0);
        let own = start + begin..start + group[group.len() - 1].span.end;
        // The branch of a query, and the first position of its path that the query sees.
        let place = |query: usize| {
            let branch = group.iter().find(|branch| branch.span.contains(&(query - start)));
            let branch = branch.expect("queries of a tile are tokens of its branches");
            (branch, first_seen(branch.anchor + query - start - branch.span.start))
        };
        // One long branch takes several tiles.
        for from in own.clone().step_by(size) {
            let queries = from..own.end.min(from + size);
            let lowest = queries.clone().map(&place).map(|(branch, seen)| seen.min(branch.anchor));
            let lowest = lowest.min().unwrap_or(0);
            let keys = [start + lowest..start + anchor, own.start..queries.end];
            tiles.push(Tile::new(index, queries, keys, |query| {
                let (branch, seen) = place(query);
                let behind = |token: usize| anchor - lowest + token - own.start;
                let own_seen = start + branch.span.start + seen.saturating_sub(branch.anchor);
                [seen.min(branch.anchor) - lowest..branch.anchor - lowest, behind(own_seen)..behind(query) + 1]
            }));
        }
        first = last;
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use undertone_data::{Branch, Row, Stream};

    /// The keys that a query sees, as attention reads them from the tiles.
    fn seen(tiles: &[Tile], query: usize) -> Vec<usize> {
        let tiles_of_query = tiles.iter().filter(|tile| tile.queries.contains(&query));
        tiles_of_query
            .flat_map(|tile| {
                let keys: Vec<usize> = tile.keys.iter().cloned().flatten().collect();
                let [trunk, own] = tile.seen[query - tile.queries.start].clone();
                assert!(trunk.end <= own.start);
                trunk.chain(own).map(move |index| keys[index])
            })
            .collect()
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
        // After another document, so that offsets matter.
        let row = Row::of([&stream(7, Vec::new()), &branched]);
        for (size, window) in [(1, None), (64, None), (256, None), (64, Some(1)), (64, Some(130)), (256, Some(700))] {
            let tiles = tiles(&row.documents, 0, size, window);
            let queries: Vec<usize> = tiles.iter().flat_map(|tile| tile.queries.clone()).collect();
            assert_eq!(queries, (0..1312).collect::<Vec<_>>(), "every query once, in order");
            for query in 0..1305 {
                // A path has its keys in the order of their rows, so a window keeps the last ones.
                let path: Vec<usize> = (0..1305).filter(|&key| branched.sees(query, key)).map(|key| key + 7).collect();
                let hidden = path.len().saturating_sub(window.unwrap_or(usize::MAX));
                assert_eq!(seen(&tiles, query + 7), path[hidden..], "query {query}, window {window:?}");
            }
        }
    }
}
