//! What one arm made of one target: the record that every metric and comparison is computed from.
//!
//! In come scored targets (or a file of them), out goes JSON Lines, one [`ItemRecord`] a line. A
//! record is checked whenever it is written, read or summed: a loss that is not a finite number, a
//! target without tokens or an item that is there twice is an error, never a silent `NaN`. How a
//! target is scored is not in here.

mod check;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_data::{InputError, Place, TargetKind};

use self::check::Checker;
pub use self::check::{RecordFault, RecordProblem, check_records};

/// The longest line a file of records may have, in bytes: the longest of ours is a few kilobytes.
const MAX_LINE_BYTES: usize = 1 << 20;

/// One target, scored by one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemRecord {
    /// The target's id: the same in every arm, unique within one, for each training seed.
    pub item: String,
    /// The conversation the target is from.
    pub conversation: String,
    /// The user whose conversation it is: the unit that the bootstrap resamples.
    pub user: String,
    /// What was predicted. Kinds are never pooled.
    pub kind: TargetKind,
    /// The arm that scored it.
    pub arm: String,
    /// The loss: −ln p of the target, summed over its supervised tokens.
    pub nats: f64,
    /// The nats of each supervised token, where they were kept; of a label, those of the true one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_nats: Vec<f32>,
    /// The supervised tokens: the content's and the end token.
    pub tokens: usize,
    /// The UTF-8 bytes of the content.
    pub bytes: usize,
    /// For label kinds, how the candidates were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<LabelOutcome>,
    /// How messages of other users scored in the place of this one, where the study asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distractors: Vec<Distractor>,
    /// Whether the item belongs to the primary comparison.
    pub primary: bool,
    /// Whether a thought that is visible to the arm shares a 5-gram with the target.
    pub quotes_target: bool,
    /// How many thoughts the arm could see before the target.
    pub visible_thoughts: usize,
    /// The cross-validation fold that the item was held out in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<usize>,
    /// The seed that the arm's model was trained with; none if it was not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The candidates of one label target, scored side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelOutcome {
    /// The index of the true label.
    pub truth: usize,
    /// The probability of each label, in the order of the kind's labels: the softmax of the
    /// candidates' negated summed nats. Sums to 1.
    pub probabilities: Vec<f64>,
}

/// A message of another user, scored where the true one stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distractor {
    /// Its loss, summed over its tokens.
    pub nats: f64,
    /// Its tokens, the end token among them.
    pub tokens: usize,
}

impl LabelOutcome {
    /// The index of the most probable label; of equals, the first.
    pub fn prediction(&self) -> usize {
        let mut best = 0;
        for (class, probability) in self.probabilities.iter().enumerate() {
            if *probability > self.probabilities[best] {
                best = class;
            }
        }
        best
    }
}

impl ItemRecord {
    /// The place of the true message among itself and its distractors by nats per token, the least first, so that
    /// length alone decides nothing; of equals it is the last. None without distractors.
    pub fn rank(&self) -> Option<usize> {
        let own = self.nats / self.tokens as f64;
        let before = self.distractors.iter().filter(|other| other.nats / other.tokens as f64 <= own).count();
        (!self.distractors.is_empty()).then_some(before + 1)
    }
}

/// Writes records as JSON Lines, in the order given.
///
/// # Errors
///
/// Those of `out`; and [`io::ErrorKind::InvalidData`] around a [`RecordFault`], before anything is
/// written: JSON has no `NaN`, and a file that cannot be read back is none.
pub fn write_records(mut out: impl Write, records: &[ItemRecord]) -> io::Result<()> {
    check_records(records).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Reads records written by [`write_records`], in file order; blank lines are passed over.
///
/// # Errors
///
/// The file cannot be read; or a line is too long, no record, or at fault as in [`check_records`].
pub fn read_records(path: impl AsRef<Path>) -> Result<Vec<ItemRecord>, InputError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|error| InputError::io(path, "open", &error))?;
    let mut reader = BufReader::new(file);
    let mut checker = Checker::default();
    let mut records = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = (&mut reader)
            .take(MAX_LINE_BYTES as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| InputError::io(path, "read", &error))?;
        if length == 0 {
            break;
        }
        let at_line = |cause: String| InputError::new(path, cause).at(Place::Line(number));
        if length > MAX_LINE_BYTES {
            return Err(at_line(format!("longer than {MAX_LINE_BYTES} bytes, so it is no item record")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record: ItemRecord = serde_json::from_slice(&line)
            .map_err(|error| at_line(format!("not an item record: {}", without_line(&error))))?;
        checker.check(&record).map_err(|problem| at_line(format!("item `{}`: {problem}", record.item)))?;
        records.push(record);
    }
    Ok(records)
}

/// A JSON error without its line, which is always 1 where each line is parsed alone.
fn without_line(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    match text.strip_suffix(&format!(" at line {line} column {column}")) {
        Some(cause) => format!("{cause} at column {column}"),
        None => text,
    }
}

#[cfg(test)]
mod tests;
