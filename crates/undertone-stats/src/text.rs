//! Surface similarity of two texts (chrF, ROUGE-L) and diversity of several, by published definitions, from 0 to 100.

use std::collections::{BTreeMap, BTreeSet};

/// Longest character n-gram of chrF.
const CHRF_ORDER: usize = 6;
/// The β of chrF: recall weighs β times as much as precision.
const CHRF_BETA: f64 = 2.0;

/// chrF2 (Popović 2015) of one sentence, as sacreBLEU computes it with its defaults: character n-grams up to six
/// without white space; precision and recall are averaged over the orders that both texts have.
pub fn chrf(hypothesis: &str, reference: &str) -> f64 {
    let [hypothesis, reference] =
        [hypothesis, reference].map(|text| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<char>>());
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0);
    for order in 1..=CHRF_ORDER.min(hypothesis.len()).min(reference.len()) {
        let [ours, theirs] = [&hypothesis, &reference].map(|text| {
            let mut counts: BTreeMap<&[char], usize> = BTreeMap::new();
            text.windows(order).for_each(|gram| *counts.entry(gram).or_default() += 1);
            counts
        });
        let matches: usize = ours.iter().filter_map(|(gram, &count)| Some(count.min(*theirs.get(gram)?))).sum();
        precision += matches as f64 / (hypothesis.len() + 1 - order) as f64;
        recall += matches as f64 / (reference.len() + 1 - order) as f64;
        orders += 1;
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / f64::from(orders), recall / f64::from(orders));
    let factor = CHRF_BETA * CHRF_BETA;
    100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
}

/// ROUGE-L F1 (Lin 2004), as Google's `rouge-score` computes it without stemming: the longest common subsequence of
/// lower-cased runs of ASCII letters and digits. `None` if the reference has no such run, as in most scripts other than Latin.
pub fn rouge_l(hypothesis: &str, reference: &str) -> Option<f64> {
    let words = |text: &str| -> Vec<String> {
        let text = text.to_lowercase();
        let runs = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
        runs.filter(|run| !run.is_empty()).map(str::to_owned).collect()
    };
    let (ours, theirs) = (words(hypothesis), words(reference));
    let common = longest_common_subsequence(&ours, &theirs) as f64;
    (!theirs.is_empty()).then(|| 100.0 * 2.0 * common / (ours.len() + theirs.len()) as f64)
}

fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    // `lengths[j]` is the length for the words of `a` seen so far and the first `j` words of `b`.
    let mut lengths = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = lengths[j + 1];
            lengths[j + 1] = if word == other { diagonal + 1 } else { above.max(lengths[j]) };
            diagonal = above;
        }
    }
    lengths[b.len()]
}

/// Diversity: 100 · (1 − the mean Jaccard index of lower-cased words over all pairs). `None` for fewer than two texts.
pub fn diversity(texts: &[String]) -> Option<f64> {
    let words: Vec<BTreeSet<String>> =
        texts.iter().map(|text| text.to_lowercase().split_whitespace().map(str::to_owned).collect()).collect();
    let mut indices = Vec::new();
    for (index, a) in words.iter().enumerate() {
        for b in &words[index + 1..] {
            let union = a.union(b).count();
            // Two texts without words count as equal.
            indices.push(if union == 0 { 1.0 } else { a.intersection(b).count() as f64 / union as f64 });
        }
    }
    (!indices.is_empty()).then(|| 100.0 * (1.0 - indices.iter().sum::<f64>() / indices.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        hypothesis: String,
        reference: String,
        chrf: f64,
        rouge_l: f64,
    }

    #[test]
    fn equal_to_sacrebleu_and_rouge_score() {
        // Made by `tests/golden/make_text.py`.
        let golden: Vec<Golden> = serde_json::from_str(include_str!("../../../tests/golden/text.json")).unwrap();
        assert!(golden.len() > 10);
        for Golden { hypothesis, reference, chrf: expected_chrf, rouge_l: expected_rouge } in golden {
            // rouge-score gives 0 where the reference has no word that it counts.
            let (ours, rouge) = (chrf(&hypothesis, &reference), rouge_l(&hypothesis, &reference).unwrap_or(0.0));
            assert!((ours - expected_chrf).abs() < 1e-9, "{hypothesis:?}, {reference:?}: {ours}, not {expected_chrf}");
            assert!(
                (rouge - expected_rouge).abs() < 1e-9,
                "{hypothesis:?}, {reference:?}: {rouge}, not {expected_rouge}"
            );
        }
    }

    #[test]
    fn rouge_l_says_nothing_about_other_scripts() {
        assert_eq!(rouge_l("你好", "你好"), None);
        assert_eq!(rouge_l("", "…"), None);
        assert_eq!(rouge_l("你好", "hello"), Some(0.0));
        assert_eq!(rouge_l("hello", "HELLO 你好"), Some(100.0));
    }

    #[test]
    fn diversity_is_of_every_two() {
        let diversity_of = |texts: &[&str]| diversity(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(diversity_of(&["a b", "A  b"]), Some(0.0));
        assert_eq!(diversity_of(&["a b", "c d"]), Some(100.0));
        // Jaccard indices 1/3, 0, 1/3.
        assert!((diversity_of(&["a b", "b c", "c d"]).unwrap() - 100.0 * (1.0 - 2.0 / 9.0)).abs() < 1e-9);
        assert_eq!(diversity_of(&["", ""]), Some(0.0));
        assert_eq!(diversity_of(&["alone"]), None);
    }
}
