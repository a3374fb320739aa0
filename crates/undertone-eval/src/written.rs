//! What models write in the place of users' messages, and how near it comes to what was really written.
//!
//! [`write()`] lets a model write after exactly what it sees when it is scored; a conversation is run through the model once,
//! and every message continues a copy of its cache. [`Written`] is one message with its likeness to the true one.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_data::{InputError, Item, Place, Stream, Target};
use undertone_model::{Cache, Decoder, Opening, Sampling, SentenceEncoder, Stopped, derived_seed};

use crate::text::{chrf, rouge_l};

/// One message that an arm wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The message in whose place it stands: the id of a next prompt.
    pub item: String,
    /// The user whose message that is.
    pub user: String,
    /// The arm that wrote it.
    pub arm: String,
    /// The fold that the item was held out in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<usize>,
    /// The seed that the arm's model was trained with; none if it was not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether the item belongs to the primary comparison.
    pub primary: bool,
    /// What was written.
    pub text: String,
    /// Why writing stopped; none of a text that no model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// How near it comes to the true message.
    pub likeness: Likeness,
}

/// How near a text comes to another one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likeness {
    /// chrF2, from 0 to 100.
    pub chrf: f64,
    /// ROUGE-L F1, from 0 to 100.
    pub rouge_l: f64,
    /// 100 times the cosine of sentence vectors, where there is an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f64>,
    /// What a judge says, from 0 to 100, where one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<f64>,
}

impl Likeness {
    /// Compares what was written with what is true.
    pub fn new(text: &str, truth: &str, encoder: Option<&SentenceEncoder>) -> Self {
        let similarity = encoder.map(|encoder| {
            let (ours, theirs) = (encoder.encode(text), encoder.encode(truth));
            100.0 * ours.iter().zip(&theirs).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        });
        Self { chrf: chrf(text, truth), rouge_l: rouge_l(text, truth), similarity, judged: None }
    }
}

/// Lets a model write in the place of each chosen text of some streams, after what its path sees. The draws of an item depend on
/// the sampling's seed and the item alone, so that all arms draw alike.
pub fn write(
    model: &Decoder,
    streams: &[Stream],
    chosen: impl Fn(&Target) -> bool,
    end: u32,
    sampling: Sampling,
) -> Vec<(Item, Vec<u32>, Stopped)> {
    let mut items = Vec::new();
    let openings = streams.iter().flat_map(|stream| {
        let is_chosen = |target: &&Target| target.item.kind.labels().is_none() && target.is_truth() && chosen(target);
        // For each the trunk tokens it sees, and what comes after them.
        let mut prompts: Vec<(usize, &[u32], &Item)> = stream
            .targets
            .iter()
            .filter(is_chosen)
            .map(|target| {
                let start = target.span.start;
                let branch = stream.branches.iter().find(|branch| branch.span.contains(&start));
                let (anchor, from) = branch.map_or((start - 1, start - 1), |branch| (branch.anchor, branch.span.start));
                (anchor, &stream.tokens[from..start], &target.item)
            })
            .collect();
        prompts.sort_by_key(|(anchor, ..)| *anchor);
        // The trunk is read once, as far as some prompt sees it.
        let mut trunk = Cache::default();
        items.extend(prompts.iter().map(|(.., item)| (*item).clone()));
        prompts.into_iter().map(move |(anchor, prompt, item)| {
            if trunk.tokens < anchor {
                drop(model.logits(&stream.tokens[trunk.tokens..anchor], &mut trunk, true));
            }
            let sampling = Sampling { seed: seed_of(sampling.seed, item), ..sampling };
            Opening { cache: trunk.clone(), prompt: prompt.to_vec(), sampling }
        })
    });
    let texts = model.generate_all(openings, end);
    items.into_iter().zip(texts).map(|(item, (ids, stopped))| (item, ids, stopped)).collect()
}

fn seed_of(seed: u64, item: &Item) -> u64 {
    let hash = derived_seed(&["write", &seed.to_string(), &item.to_string()]);
    u64::from_le_bytes(hash[..8].try_into().expect("a seed has 32 bytes"))
}

/// Up to `count` of some items, chosen by hash, so that the choice depends on nothing else; 0 chooses none.
pub fn sample_of_items(items: &BTreeSet<String>, count: usize, seed: u64) -> BTreeSet<String> {
    let hashed = |item: &String| (derived_seed(&["sample", &seed.to_string(), item]), item.clone());
    let mut hashed: Vec<([u8; 32], String)> = items.iter().map(hashed).collect();
    hashed.sort();
    hashed.into_iter().take(count).map(|(_, item)| item).collect()
}

/// Written messages as JSON Lines.
pub fn written_lines(written: &[Written]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for one in written {
        serde_json::to_writer(&mut bytes, one)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads what [`written_lines`] made.
///
/// # Errors
/// The file cannot be read; a line that is no written message, or whose numbers are not from 0 to 100.
pub fn read_written(path: &Path) -> Result<Vec<Written>, InputError> {
    let text = std::fs::read_to_string(path).map_err(|error| InputError::io(path, "read", &error))?;
    let line = |(index, line): (usize, &str)| {
        let fault = |cause: String| InputError::new(path, cause).at(Place::Line(index + 1));
        let written: Written =
            serde_json::from_str(line).map_err(|error| fault(format!("not a written message: {error}")))?;
        let Likeness { chrf, rouge_l, similarity, judged } = written.likeness;
        let (of_100, of_cosine) = (-1e-6..=100.0 + 1e-6, -100.0 - 1e-3..=100.0 + 1e-3);
        let fine = [Some(chrf), Some(rouge_l), judged].into_iter().flatten().all(|value| of_100.contains(&value));
        match fine && similarity.is_none_or(|value| of_cosine.contains(&value)) {
            true => Ok(written),
            false => Err(fault(format!("a likeness of `{}` is not from 0 to 100", written.item))),
        }
    };
    text.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(item: &str, similarity: Option<f64>) -> Written {
        let likeness = Likeness { chrf: 50.0, rouge_l: 25.5, similarity, judged: None };
        Written {
            item: item.into(),
            user: "user1".into(),
            arm: "past".into(),
            fold: Some(0),
            seed: Some(3),
            primary: true,
            text: "two\nlines".into(),
            stopped: Some(Stopped::EndToken),
            likeness,
        }
    }

    #[test]
    fn what_is_saved_is_read_back_and_what_is_wrong_is_named() {
        let all = [written("a", Some(-3.5)), written("b", None)];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("written.jsonl");
        std::fs::write(&path, written_lines(&all).unwrap()).unwrap();
        assert_eq!(read_written(&path).unwrap(), all);
        std::fs::write(&path, written_lines(&[written("c", Some(400.0))]).unwrap()).unwrap();
        let error = read_written(&path).unwrap_err();
        assert_eq!(format!("{}: {}", error.place, error.cause), " line 1: a likeness of `c` is not from 0 to 100");
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read_written(&path).unwrap_err().cause.starts_with("not a written message: missing field"));
    }

    #[test]
    fn a_sample_depends_on_the_items_and_the_seed_alone_and_grows_with_its_size() {
        let items: BTreeSet<String> = (0..50).map(|index| format!("item{index}")).collect();
        let of = |count, seed| sample_of_items(&items, count, seed);
        assert_eq!(of(10, 1), of(10, 1));
        assert_ne!(of(10, 1), of(10, 2));
        assert!(of(10, 1).is_subset(&of(20, 1)));
        assert_eq!(of(80, 1), items);
        assert!(of(0, 1).is_empty());
    }
}
