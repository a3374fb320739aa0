//! Checks records: an invalid record must not enter any computation.

use std::collections::{BTreeMap, HashSet};

use undertone_data::TargetKind;

use super::item::{Distractor, ItemRecord};

/// The most tokens or bytes one target may claim, so that no sum over a file can overflow.
const MAX_COUNT: usize = 1 << 31;
/// The largest loss of one target, in nats, so that no sum or square over a file can overflow.
const MAX_NATS: f64 = 1e12;
/// How far below zero rounding may push a loss, in nats per token; −ln p itself is never negative.
const NATS_SLACK: f64 = 1e-3;
/// How far the sum of one label's probabilities may be from 1, for rounding.
const PROBABILITY_SLACK: f64 = 1e-3;

/// An invalid record.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("item `{item}` of arm `{arm}`: {problem}")]
pub struct RecordFault {
    /// The record's arm.
    pub arm: String,
    /// The record's item.
    pub item: String,
    /// What is wrong with it.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordProblem {
    /// The loss in nats is not finite, is negative or is absurdly large.
    #[error("`nats` is {0}, not a finite number from 0 to {MAX_NATS:e}")]
    Nats(f64),
    /// The target has no tokens, or absurdly many.
    #[error("`tokens` is {0}, not from 1 to {MAX_COUNT}")]
    Tokens(usize),
    /// `token_nats` does not have one number per token.
    #[error("`token_nats` has {nats} numbers, and `tokens` is {tokens}")]
    TokenNats {
        /// The length of `token_nats`.
        nats: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// The target has absurdly many bytes.
    #[error("`bytes` is {0}, more than {MAX_COUNT}")]
    Bytes(usize),
    /// The number of distractors differs from that of earlier records of the same kind.
    #[error("there are {distractors} distractors, but {before} in earlier records of the same kind")]
    Distractors {
        /// How many this record has.
        distractors: usize,
        /// How many earlier records have.
        before: usize,
    },
    /// A kind that is not a label has a label outcome.
    #[error("`label` is given for kind `{0}`")]
    LabelOnText(TargetKind),
    /// The true label is not one of the candidates.
    #[error("`truth` is {truth}, but there are {classes} candidates")]
    Truth {
        /// The index of the true label.
        truth: usize,
        /// How many candidates there are.
        classes: usize,
    },
    /// The probability of a candidate is not a number from 0 to 1.
    #[error("a probability is {0}, not a number from 0 to 1")]
    Probability(f64),
    /// The probabilities sum to this, not to 1.
    #[error("the probabilities sum to {0}, not to 1")]
    ProbabilitySum(f64),
    /// The number of candidates differs from that of earlier records of the same kind.
    #[error("there are {classes} candidates, but {before} in earlier records of the same kind")]
    Classes {
        /// How many candidates this record has.
        classes: usize,
        /// How many earlier records have.
        before: usize,
    },
    /// An earlier record has the same arm, item, fold and training seed.
    #[error("the arm has this item already")]
    Duplicate,
}

impl ItemRecord {
    /// Checks one record by itself.
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

/// Checks records in order, and remembers what the next check needs.
#[derive(Default)]
pub(super) struct Checker {
    seen: HashSet<(String, Option<usize>, Option<u64>, String)>,
    classes: BTreeMap<TargetKind, usize>,
    distractors: BTreeMap<TargetKind, usize>,
}

impl Checker {
    pub(super) fn check(&mut self, record: &ItemRecord) -> Result<(), RecordProblem> {
        record.check()?;
        if let Some(label) = &record.label {
            let classes = label.probabilities.len();
            let before = *self.classes.entry(record.kind).or_insert(classes);
            if classes != before {
                return Err(RecordProblem::Classes { classes, before });
            }
        }
        // First messages have no distractors.
        let distractors = record.distractors.len();
        if distractors > 0 {
            let before = *self.distractors.entry(record.kind).or_insert(distractors);
            if distractors != before {
                return Err(RecordProblem::Distractors { distractors, before });
            }
        }
        let key = (record.arm.clone(), record.fold, record.seed, record.item.clone());
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
pub fn check_records<'a>(records: impl IntoIterator<Item = &'a ItemRecord>) -> Result<(), RecordFault> {
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
