//! Near-duplicate tasks: pairs of conversations whose task texts share most of their shingles.
//!
//! Texts are sets of word 3-shingles, compared by Jaccard similarity (Broder 1997). All pairs at or
//! above the threshold are found exactly by prefix filtering (Chaudhuri et al. 2006; Bayardo et al.
//! 2007): if each set is ordered from its rarest shingle to its most common one, two sets of
//! similarity *t* or more share a shingle within the first `|set| − ⌈t·|set|⌉ + 1` of each. An index
//! of those prefixes therefore yields every candidate. Unlike MinHash with banding it misses nothing
//! and draws no random numbers; it is as fast if few sets share their rarest shingles.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

/// Words per shingle.
const SHINGLE_WORDS: usize = 3;

/// Words of a text that are compared; a longer text is compared by its beginning.
const COMPARED_WORDS: usize = 2_000;

/// The threshold 0.6 as a fraction, so that comparison is exact.
const THRESHOLD: (usize, usize) = (3, 5);

/// The most steps through shingles before counting stops; they take a few seconds.
///
/// 100,000 unrelated tasks stay far below this limit; 100,000 instances of one template do not, since nearly all of
/// their five billion pairs are near-duplicates.
const MAX_STEPS: u64 = 1_000_000_000;

/// Pairs of ids that a report shows.
const EXAMPLES: usize = 5;

/// The text of a task as hashes, which can be compared but not read.
///
/// The text is `task_summary`, which users wrote after the conversation and which must not reach any view, or the first
/// user message if there is no summary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostHoc {
    /// Sorted, without repeats; empty for a text too short to have one.
    shingles: Vec<u64>,
}

impl PostHoc {
    /// Hashes a text; upper and lower case, punctuation and white space make no difference.
    ///
    /// A text of fewer than three words, such as `Hi`, states no task: it is similar to no text, not even to itself.
    pub fn of(text: &str) -> Self {
        let words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .take(COMPARED_WORDS)
            .map(str::to_lowercase)
            .collect();
        let hash = |shingle: &[String]| {
            let mut hasher = DefaultHasher::new();
            shingle.hash(&mut hasher);
            hasher.finish()
        };
        let mut shingles: Vec<u64> = words.windows(SHINGLE_WORDS).map(hash).collect();
        shingles.sort_unstable();
        shingles.dedup();
        Self { shingles }
    }
}

/// How many pairs of texts of different groups are near-duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NearDuplicates {
    /// Pairs whose Jaccard similarity of word 3-shingles is at least 0.6.
    pub pairs: u64,
    /// Whether all pairs were counted; if not, there are at least `pairs`.
    pub complete: bool,
    /// Texts of fewer than three words, which were not compared.
    pub too_short: usize,
    /// The ids of a few such pairs.
    pub examples: Vec<(String, String)>,
}

/// Texts with the same shingles.
struct Distinct<'a> {
    /// Ranks of the shingles by frequency, rarest first, ascending.
    ranks: Vec<u32>,
    /// How many texts each group has, and the id of one of them.
    groups: BTreeMap<&'a str, (u64, &'a str)>,
}

impl Distinct<'_> {
    fn texts(&self) -> u64 {
        self.groups.values().map(|(count, _)| count).sum()
    }

    /// The leading ranks, which go into the index.
    fn prefix(&self) -> &[u32] {
        let size = self.ranks.len();
        &self.ranks[..size - (size * THRESHOLD.0).div_ceil(THRESHOLD.1) + 1]
    }

    /// Ids of one text of each set, from different groups, if there are any.
    fn example(&self, other: &Self) -> Option<(String, String)> {
        self.groups.iter().find_map(|(group, (_, id))| {
            let (_, (_, other_id)) = other.groups.iter().find(|(other, _)| *other != group)?;
            Some(((*id).to_owned(), (*other_id).to_owned()))
        })
    }
}

/// Counts pairs of near-duplicate texts of different groups; texts are given as (group, id, text).
///
/// With users as groups, counts the tasks that users have in common; with splits as groups, the tasks that leak from
/// one split into another. The order of the texts does not change the counts.
pub fn near_duplicates<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str, &'a PostHoc)>) -> NearDuplicates {
    let mut found = NearDuplicates { complete: true, ..NearDuplicates::default() };
    let texts = texts.into_iter().filter(|(_, _, text)| {
        let comparable = !text.shingles.is_empty();
        found.too_short += usize::from(!comparable);
        comparable
    });
    let distinct = distinct_texts(texts);

    for same in &distinct {
        let texts = same.texts();
        let same_group_pairs: u64 = same.groups.values().map(|(count, _)| count * count).sum();
        found.add((texts * texts - same_group_pairs) / 2, || same.example(same));
    }

    // Sets come in ascending size, so that an indexed set is never the larger one.
    let mut index: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut last_compared_with = vec![usize::MAX; distinct.len()];
    let mut steps = 0;
    for (current, larger) in distinct.iter().enumerate() {
        let size = larger.ranks.len();
        for rank in larger.prefix() {
            for &candidate in index.get(rank).into_iter().flatten() {
                steps += 1;
                let smaller = &distinct[candidate];
                if last_compared_with[candidate] == current || smaller.ranks.len() * THRESHOLD.1 < size * THRESHOLD.0 {
                    continue;
                }
                last_compared_with[candidate] = current;
                steps += size as u64;
                if are_similar(&smaller.ranks, &larger.ranks) {
                    let same_group_pairs: u64 = smaller
                        .groups
                        .iter()
                        .filter_map(|(group, (count, _))| Some(count * larger.groups.get(group)?.0))
                        .sum();
                    found.add(smaller.texts() * larger.texts() - same_group_pairs, || smaller.example(larger));
                }
            }
            if steps > MAX_STEPS {
                found.complete = false;
                return found;
            }
        }
        for &rank in larger.prefix() {
            index.entry(rank).or_default().push(current);
        }
    }
    found
}

impl NearDuplicates {
    fn add(&mut self, pairs: u64, example: impl FnOnce() -> Option<(String, String)>) {
        self.pairs += pairs;
        if pairs > 0 && self.examples.len() < EXAMPLES {
            self.examples.extend(example());
        }
    }
}

/// Groups texts with the same shingles, in ascending number of shingles.
fn distinct_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str, &'a PostHoc)>) -> Vec<Distinct<'a>> {
    let mut by_shingles: BTreeMap<&[u64], BTreeMap<&str, (u64, &str)>> = BTreeMap::new();
    let mut frequencies: HashMap<u64, u32> = HashMap::new();
    for (group, id, text) in texts {
        for &shingle in &text.shingles {
            *frequencies.entry(shingle).or_default() += 1;
        }
        let groups = by_shingles.entry(&text.shingles).or_default();
        groups.entry(group).or_insert((0, id)).0 += 1;
    }
    let mut order: Vec<(u32, u64)> = frequencies.iter().map(|(&shingle, &frequency)| (frequency, shingle)).collect();
    order.sort_unstable();
    let ranks: HashMap<u64, u32> = order.iter().zip(0_u32..).map(|(&(_, shingle), rank)| (shingle, rank)).collect();
    let mut distinct: Vec<Distinct<'a>> = by_shingles
        .into_iter()
        .map(|(shingles, groups)| {
            let mut ranks: Vec<u32> = shingles.iter().map(|shingle| ranks[shingle]).collect();
            ranks.sort_unstable();
            Distinct { ranks, groups }
        })
        .collect();
    distinct.sort_by_key(|text| text.ranks.len());
    distinct
}

/// Whether |a ∩ b| / |a ∪ b| reaches the threshold; both ascend.
fn are_similar(a: &[u32], b: &[u32]) -> bool {
    let mut shared = 0;
    let (mut rest_a, mut rest_b) = (a, b);
    while let ([first_a, ..], [first_b, ..]) = (rest_a, rest_b) {
        match first_a.cmp(first_b) {
            std::cmp::Ordering::Less => rest_a = &rest_a[1..],
            std::cmp::Ordering::Greater => rest_b = &rest_b[1..],
            std::cmp::Ordering::Equal => {
                shared += 1;
                rest_a = &rest_a[1..];
                rest_b = &rest_b[1..];
            }
        }
    }
    let union = a.len() + b.len() - shared;
    shared * THRESHOLD.1 >= union * THRESHOLD.0
}
