//! Messages that models wrote in the place of users' messages, and how similar they are to the true ones.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_data::StopReason;
use undertone_files::{InputError, Place};

/// One message that an arm wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// The message that it replaces: the id of a next prompt.
    pub item: String,
    /// The user who wrote the true message.
    pub user: String,
    /// The arm that wrote it.
    pub arm: String,
    /// The fold that the item was held out in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<usize>,
    /// The seed that the arm's model was trained with; `None` if it was not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether the item belongs to the primary comparison.
    pub primary: bool,
    /// What was written.
    pub text: String,
    /// Why writing stopped; `None` for a text that no model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StopReason>,
    /// How similar it is to the true message.
    pub likeness: Likeness,
}

/// How similar one text is to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likeness {
    /// chrF2, from 0 to 100.
    pub chrf: f64,
    /// ROUGE-L F1, from 0 to 100; `None` if the true text has no word that it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rouge_l: Option<f64>,
    /// 100 times the cosine of sentence vectors, if there is an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<f64>,
    /// A judge's score from 0 to 100, if a judge was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<f64>,
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

/// Reads the lines that [`written_lines`] made.
///
/// # Errors
/// The file cannot be read; or a line is not a written message, or one of its numbers is out of range.
pub fn read_written(path: &Path) -> Result<Vec<Written>, InputError> {
    let text = std::fs::read_to_string(path).map_err(|error| InputError::io(path, "read", &error))?;
    let line = |(index, line): (usize, &str)| {
        let fault = |cause: String| InputError::new(path, cause).at(Place::Line(index + 1));
        let written: Written =
            serde_json::from_str(line).map_err(|error| fault(format!("not a written message: {error}")))?;
        let Likeness { chrf, rouge_l, similarity, judged } = written.likeness;
        let (score_range, cosine_range) = (-1e-6..=100.0 + 1e-6, -100.0 - 1e-3..=100.0 + 1e-3);
        let fine = [Some(chrf), rouge_l, judged].into_iter().flatten().all(|value| score_range.contains(&value));
        match fine && similarity.is_none_or(|value| cosine_range.contains(&value)) {
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
        let likeness = Likeness { chrf: 50.0, rouge_l: Some(25.5), similarity, judged: None };
        Written {
            item: item.into(),
            user: "user1".into(),
            arm: "past".into(),
            fold: Some(0),
            seed: Some(3),
            primary: true,
            text: "two\nlines".into(),
            stopped: Some(StopReason::EndToken),
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
}
