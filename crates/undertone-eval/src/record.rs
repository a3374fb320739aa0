//! What one arm made of one target: the record that every metric and comparison is computed from.
//!
//! In come scored targets (or a file of them), out goes JSON Lines, one [`ItemRecord`] a line. A
//! record is checked whenever it is written, read or summed: a loss that is not a finite number, a
//! target without tokens or an item that is there twice is an error, never a silent `NaN`. How a
//! target is scored is not in here.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use undertone_data::{InputError, Place, TargetKind};

/// The longest line a file of records may have, in bytes: the longest of ours is a few kilobytes.
const MAX_LINE_BYTES: usize = 1 << 20;
/// The most tokens or bytes one target may claim, so that no sum over a file can overflow.
const MAX_COUNT: usize = 1 << 31;
/// The largest loss of one target, in nats, so that no sum or square over a file can overflow.
const MAX_NATS: f64 = 1e12;
/// How far below zero rounding may push a loss, in nats per token; −ln p itself is never negative.
const NATS_SLACK: f64 = 1e-3;
/// How far from 1 the probabilities of one label may sum: they come from a softmax in `f32`.
const PROBABILITY_SLACK: f64 = 1e-3;

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

/// A record that nothing may be computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordFault {
    /// The record's arm.
    pub arm: String,
    /// The record's item.
    pub item: String,
    /// What is wrong with it.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordProblem {
    /// The loss is not finite, below zero or absurdly large; in nats.
    Nats(f64),
    /// The target has no tokens, or absurdly many.
    Tokens(usize),
    /// There are not as many nats of tokens as tokens.
    TokenNats {
        /// How many nats there are.
        nats: usize,
        /// How many tokens.
        tokens: usize,
    },
    /// The target has absurdly many bytes.
    Bytes(usize),
    /// The number of distractors is not that of the records before: how many there are.
    Distractors {
        /// How many this record has.
        distractors: usize,
        /// How many the records before it have.
        before: usize,
    },
    /// A kind that is not a label has a label outcome.
    LabelOnText(TargetKind),
    /// The true label is not one of the candidates.
    Truth {
        /// The index of the true label.
        truth: usize,
        /// How many candidates there are.
        classes: usize,
    },
    /// The probability of a candidate is not a number from 0 to 1.
    Probability(f64),
    /// The probabilities do not sum to 1, but to this.
    ProbabilitySum(f64),
    /// Other records of the same kind have another number of candidates.
    Classes {
        /// How many candidates this record has.
        classes: usize,
        /// How many the records before it have.
        before: usize,
    },
    /// The arm has the item already, with the same training seed.
    Duplicate,
}

impl fmt::Display for RecordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nats(nats) => {
                write!(f, "`nats` is {nats}, not a finite number from 0 to {MAX_NATS:e}")
            }
            Self::Tokens(tokens) => write!(f, "`tokens` is {tokens}, not from 1 to {MAX_COUNT}"),
            Self::TokenNats { nats, tokens } => {
                write!(f, "`token_nats` has {nats} numbers, and `tokens` is {tokens}")
            }
            Self::Bytes(bytes) => write!(f, "`bytes` is {bytes}, more than {MAX_COUNT}"),
            Self::Distractors { distractors, before } => {
                write!(f, "there are {distractors} distractors, but {before} in records of the same kind before it")
            }
            Self::LabelOnText(kind) => write!(f, "`label` is given for kind `{kind}`"),
            Self::Truth { truth, classes } => {
                write!(f, "`truth` is {truth}, but there are {classes} candidates")
            }
            Self::Probability(value) => {
                write!(f, "a probability is {value}, not a number from 0 to 1")
            }
            Self::ProbabilitySum(sum) => write!(f, "the probabilities sum to {sum}, not to 1"),
            Self::Classes { classes, before } => {
                write!(f, "there are {classes} candidates, but {before} in records of the same kind before it")
            }
            Self::Duplicate => write!(f, "the arm has this item already"),
        }
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arm, item, problem } = self;
        write!(f, "item `{item}` of arm `{arm}`: {problem}")
    }
}

impl std::error::Error for RecordFault {}

impl ItemRecord {
    /// The place of the true message among itself and its distractors by nats per token, the least first, so that
    /// length alone decides nothing; of equals it is the last. None without distractors.
    pub fn rank(&self) -> Option<usize> {
        let own = self.nats / self.tokens as f64;
        let before = self.distractors.iter().filter(|other| other.nats / other.tokens as f64 <= own).count();
        (!self.distractors.is_empty()).then_some(before + 1)
    }

    /// Checks what can be checked of one record alone.
    fn check(&self) -> Result<(), RecordProblem> {
        let slack = NATS_SLACK * self.tokens as f64;
        if !(-slack..=MAX_NATS).contains(&self.nats) {
            return Err(RecordProblem::Nats(self.nats));
        }
        if !(1..=MAX_COUNT).contains(&self.tokens) {
            return Err(RecordProblem::Tokens(self.tokens));
        }
        if !self.token_nats.is_empty() && self.token_nats.len() != self.tokens {
            return Err(RecordProblem::TokenNats { nats: self.token_nats.len(), tokens: self.tokens });
        }
        if let Some(bad) = self.token_nats.iter().find(|nats| !nats.is_finite()) {
            return Err(RecordProblem::Nats(f64::from(*bad)));
        }
        if self.bytes > MAX_COUNT {
            return Err(RecordProblem::Bytes(self.bytes));
        }
        for Distractor { nats, tokens } in &self.distractors {
            if !(1..=MAX_COUNT).contains(tokens) {
                return Err(RecordProblem::Tokens(*tokens));
            }
            if !(-NATS_SLACK * *tokens as f64..=MAX_NATS).contains(nats) {
                return Err(RecordProblem::Nats(*nats));
            }
        }
        let Some(label) = &self.label else {
            return Ok(());
        };
        if self.kind.labels().is_none() {
            return Err(RecordProblem::LabelOnText(self.kind));
        }
        let (truth, classes) = (label.truth, label.probabilities.len());
        if truth >= classes {
            return Err(RecordProblem::Truth { truth, classes });
        }
        let allowed = 0.0..=1.0 + PROBABILITY_SLACK;
        if let Some(bad) = label.probabilities.iter().find(|p| !allowed.contains(*p)) {
            return Err(RecordProblem::Probability(*bad));
        }
        let sum: f64 = label.probabilities.iter().sum();
        if (sum - 1.0).abs() > PROBABILITY_SLACK {
            return Err(RecordProblem::ProbabilitySum(sum));
        }
        Ok(())
    }
}

/// What must be remembered of earlier records to check the next one.
#[derive(Default)]
struct Checker {
    seen: HashSet<(String, Option<u64>, String)>,
    classes: BTreeMap<TargetKind, usize>,
    distractors: BTreeMap<TargetKind, usize>,
}

impl Checker {
    fn check(&mut self, record: &ItemRecord) -> Result<(), RecordProblem> {
        record.check()?;
        if let Some(label) = &record.label {
            let classes = label.probabilities.len();
            let before = *self.classes.entry(record.kind).or_insert(classes);
            if classes != before {
                return Err(RecordProblem::Classes { classes, before });
            }
        }
        // First messages have none.
        let distractors = record.distractors.len();
        if distractors > 0 {
            let before = *self.distractors.entry(record.kind).or_insert(distractors);
            if distractors != before {
                return Err(RecordProblem::Distractors { distractors, before });
            }
        }
        let key = (record.arm.clone(), record.seed, record.item.clone());
        if !self.seen.insert(key) {
            return Err(RecordProblem::Duplicate);
        }
        Ok(())
    }
}

/// Checks that every sum over the records is a finite number and counts no item of an arm twice.
///
/// # Errors
///
/// The first record that is at fault.
pub fn check_records(records: &[ItemRecord]) -> Result<(), RecordFault> {
    let mut checker = Checker::default();
    for record in records {
        checker.check(record).map_err(|problem| RecordFault {
            arm: record.arm.clone(),
            item: record.item.clone(),
            problem,
        })?;
    }
    Ok(())
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
mod tests {
    use super::*;

    fn record(item: &str, nats: f64) -> ItemRecord {
        ItemRecord {
            item: item.into(),
            conversation: "user1_task1_conversation1".into(),
            user: "user1".into(),
            kind: TargetKind::NextPrompt,
            arm: "past".into(),
            nats,
            tokens: 4,
            bytes: 17,
            label: None,
            distractors: Vec::new(),
            primary: true,
            quotes_target: false,
            visible_thoughts: 2,
            fold: None,
            seed: None,
            token_nats: Vec::new(),
        }
    }

    fn label(truth: usize, probabilities: &[f64]) -> ItemRecord {
        ItemRecord {
            kind: TargetKind::ReactionLabel,
            label: Some(LabelOutcome { truth, probabilities: probabilities.to_vec() }),
            ..record("label", 0.5)
        }
    }

    fn read(text: &str) -> Result<Vec<ItemRecord>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("items.jsonl");
        std::fs::write(&path, text).unwrap();
        read_records(&path).map_err(|error| format!("{}: {}", error.place, error.cause))
    }

    fn line(record: &ItemRecord) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    #[test]
    fn records_survive_writing_and_reading() {
        let mut other = label(1, &[0.25, 0.75]);
        other.fold = Some(3);
        let records = [record("first", 9.5), other];
        let mut bytes = Vec::new();
        write_records(&mut bytes, &records).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"item":"first","conversation":"user1_task1_conversation1","user":"user1","kind":"next_prompt","arm":"past","nats":9.5,"tokens":4,"bytes":17,"primary":true,"quotes_target":false,"visible_thoughts":2}"#
        );
        assert_eq!(read(&text).unwrap(), records);
    }

    #[test]
    fn bad_lines_are_named() {
        let good = line(&record("first", 9.5));
        let cases = [
            ("{\"item\":".to_owned(), " line 2: not an item record: EOF while parsing a value at column 8"),
            (good.clone(), " line 2: item `first`: the arm has this item already"),
            (
                good.replace("first", "second").replace("9.5", "null"),
                " line 2: not an item record: invalid type: null, expected f64 at column ",
            ),
            (
                good.replace("first", "second").replace("9.5", "1e400"),
                " line 2: not an item record: number out of range at column ",
            ),
            (line(&record("second", -1.0)), " line 2: item `second`: `nats` is -1, not a finite"),
            (
                good.replace("first", "second").replace(":4,", ":0,"),
                " line 2: item `second`: `tokens` is 0, not from 1",
            ),
            (
                good.replace("past", "none").replace("bytes", "octets"),
                " line 2: not an item record: unknown field `octets`",
            ),
            ("x".repeat(MAX_LINE_BYTES + 1), " line 2: longer than 1048576 bytes"),
        ];
        for (bad, expected) in cases {
            let error = read(&(good.clone() + &bad)).unwrap_err();
            assert!(error.starts_with(expected), "{error:?} is not {expected:?}…");
        }
        let missing = read_records("no/such/items.jsonl").unwrap_err();
        assert_eq!(missing.place, Place::File);
    }

    #[test]
    fn records_that_would_spoil_a_sum_are_not_written() {
        for nats in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut bytes = Vec::new();
            let error = write_records(&mut bytes, &[record("a", 1.0), record("b", nats)]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn labels_are_checked() {
        let problem = |record: ItemRecord| check_records(&[record]).unwrap_err().problem;
        assert_eq!(check_records(&[label(1, &[0.25, 0.75])]), Ok(()));
        assert_eq!(problem(label(2, &[0.25, 0.75])), RecordProblem::Truth { truth: 2, classes: 2 });
        assert_eq!(problem(label(0, &[])), RecordProblem::Truth { truth: 0, classes: 0 });
        assert_eq!(problem(label(0, &[0.25, 0.5])), RecordProblem::ProbabilitySum(0.75));
        assert_eq!(problem(label(0, &[-0.5, 1.5])), RecordProblem::Probability(-0.5));
        assert!(matches!(problem(label(0, &[f64::NAN, 1.0])), RecordProblem::Probability(p) if p.is_nan()));
        let text = ItemRecord { kind: TargetKind::Reaction, ..label(0, &[1.0]) };
        assert_eq!(problem(text), RecordProblem::LabelOnText(TargetKind::Reaction));
        let other = ItemRecord { item: "other".into(), ..label(0, &[1.0]) };
        let fault = check_records(&[label(1, &[0.25, 0.75]), other]).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "item `other` of arm `past`: there are 1 candidates, but 2 in records of the same kind before it"
        );
    }

    #[test]
    fn the_true_message_is_ranked_by_nats_per_token_and_last_of_equals() {
        let rank = |others: &[(f64, usize)]| {
            let distractors = others.iter().map(|&(nats, tokens)| Distractor { nats, tokens }).collect();
            ItemRecord { distractors, ..record("first", 8.0) }.rank()
        };
        // The true one has 2 nats a token.
        assert_eq!(rank(&[(9.0, 4), (2.5, 1)]), Some(1));
        assert_eq!(rank(&[(9.0, 9), (2.5, 1)]), Some(2));
        assert_eq!(rank(&[(9.0, 9), (2.0, 1)]), Some(3));
        assert_eq!(rank(&[]), None);
        let of = |item: &str, distractors: Vec<Distractor>| ItemRecord { distractors, ..record(item, 8.0) };
        let one = Distractor { nats: 1.0, tokens: 1 };
        assert_eq!(check_records(&[record("first", 8.0), of("second", vec![one])]), Ok(()));
        let fault = check_records(&[of("second", vec![one]), of("third", vec![one; 2])]).unwrap_err();
        assert_eq!(fault.problem, RecordProblem::Distractors { distractors: 2, before: 1 });
        let empty = of("second", vec![Distractor { tokens: 0, ..one }]);
        assert_eq!(check_records(&[empty]).unwrap_err().problem, RecordProblem::Tokens(0));
    }

    #[test]
    fn of_equal_labels_the_first_is_predicted() {
        let outcome = |probabilities: &[f64]| {
            let label = label(0, probabilities).label.unwrap();
            label.prediction()
        };
        assert_eq!(outcome(&[0.2, 0.4, 0.4]), 1);
        assert_eq!(outcome(&[0.5, 0.5]), 0);
    }
}
