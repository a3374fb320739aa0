//! Divides users into disjoint sets: one split for training, or folds that leave users out.
//!
//! Users are ranked by SHA-256 of (seed, user) and each part takes its share of the ranking. The
//! order of the data, its files and the number of runs make no difference.
//!
//! Why ranks, not a threshold on the hash: with a threshold, a user's part does not depend on other users, so it
//! survives any change of the data; but among a few dozen users, a part of 10 % is sometimes empty and its size is
//! random. With ranks, sizes are exact and a part is empty only if there are too few users. The price is that adding or
//! removing users can move a few others, those next to a border in the ranking. Data sets here are published once and
//! are small.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::conversation::Conversation;
use undertone_files::{InputError, Place};

/// Prefix of every hash, so that no other purpose gets these ranks.
const DOMAIN: &[u8] = b"undertone split v1";

/// How far the fractions may be from a sum of 1.
const SUM_TOLERANCE: f64 = 1e-6;

/// How similar (Jaro-Winkler, 0 to 1) a user's name must be to be suggested.
const SUGGESTED_SIMILARITY: f64 = 0.7;

/// The part of the data a user belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum), value(rename_all = "snake_case"))]
pub enum Split {
    /// Weights are fitted to these users.
    #[cfg_attr(feature = "clap", value(skip))]
    Train,
    /// Choices, such as when to stop, are made on these users.
    Validation,
    /// Results are reported on these users.
    Test,
}

/// How users are divided into training, validation and test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitOptions {
    /// Seed of the division; the same seed and users give the same division on every machine.
    pub seed: u64,
    /// Share of all users to train on, 0 to 1. The three shares add up to 1.
    pub train: f64,
    /// Share of all users to validate on.
    pub validation: f64,
    /// Share of all users to test on.
    pub test: f64,
    /// Users to validate on regardless of their hash; they count towards `validation`.
    ///
    /// If they exceed that share, all are taken and training gets fewer users. To validate on exactly these, set
    /// `validation` to 0 and give its share to `train`.
    pub validation_users: Vec<String>,
    /// Users to test on regardless of their hash; they count towards `test` in the same way.
    pub test_users: Vec<String>,
}

impl Default for SplitOptions {
    fn default() -> Self {
        Self { seed: 0, train: 0.8, validation: 0.1, test: 0.1, validation_users: Vec::new(), test_users: Vec::new() }
    }
}

impl SplitOptions {
    /// All problems of these options for these users; `config` is the file that they name.
    pub fn problems<'a>(&self, users: impl IntoIterator<Item = &'a str>, config: &Path) -> Vec<InputError> {
        let users: BTreeSet<&str> = users.into_iter().collect();
        let mut problems = Vec::new();
        let mut report = |key: &str, cause: String, hint: &str| {
            let problem = InputError::new(config, cause).at(Place::Named(key.into()));
            problems.push(if hint.is_empty() { problem } else { problem.hint(hint) });
        };

        let shares = [("train", self.train), ("validation", self.validation), ("test", self.test)];
        for (key, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                report(key, format!("{share} is not a share of the users"), "a share is from 0 to 1");
            }
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            report(
                "train",
                format!(
                    "`train`, `validation` and `test` add up to {sum}, not 1 ({} + {} + {})",
                    self.train, self.validation, self.test
                ),
                "",
            );
        }

        let lists = [("validation_users", &self.validation_users), ("test_users", &self.test_users)];
        for (key, list) in lists {
            for unknown in list.iter().filter(|user| !users.contains(user.as_str())) {
                let hint = match nearest(unknown, &users) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => "users are named as in conversation ids, such as `user6`".into(),
                };
                report(key, format!("no conversation is by user `{unknown}`"), &hint);
            }
        }
        let validation: BTreeSet<&String> = self.validation_users.iter().collect();
        let test: BTreeSet<&String> = self.test_users.iter().collect();
        for both in validation.intersection(&test) {
            report(
                "test_users",
                format!("user `{both}` is also in `validation_users`"),
                "a user belongs to one part only; remove the user from one of the lists",
            );
        }
        problems
    }

    /// The part of every user.
    ///
    /// Shares become whole numbers of users by largest remainder. If there are enough users, a part with a share above
    /// 0 gets at least one; if there are fewer users than parts, training comes first, then test. Test takes the head
    /// of the ranking, validation the next users, so moving users between training and validation does not change the
    /// test users.
    ///
    /// # Errors
    ///
    /// The first of the [`problems`](Self::problems); `config` is the file that it names.
    pub fn assign<'a>(
        &self,
        users: impl IntoIterator<Item = &'a str>,
        config: &Path,
    ) -> Result<BTreeMap<String, Split>, InputError> {
        let users: BTreeSet<&str> = users.into_iter().collect();
        if let Some(problem) = self.problems(users.iter().copied(), config).into_iter().next() {
            return Err(problem);
        }
        let mut assigned: BTreeMap<String, Split> = BTreeMap::new();
        for (list, split) in [(&self.validation_users, Split::Validation), (&self.test_users, Split::Test)] {
            assigned.extend(list.iter().map(|user| (user.clone(), split)));
        }
        let listed = |split| assigned.values().filter(|&&part| part == split).count();
        let [_, validation, test] = whole_shares(users.len(), [self.train, self.validation, self.test]);
        let mut test_left = test.saturating_sub(listed(Split::Test));
        let mut validation_left = validation.saturating_sub(listed(Split::Validation));

        for user in ranked(users, self.seed) {
            if assigned.contains_key(user) {
                continue;
            }
            let split = if test_left > 0 {
                test_left -= 1;
                Split::Test
            } else if validation_left > 0 {
                validation_left -= 1;
                Split::Validation
            } else {
                Split::Train
            };
            assigned.insert(user.to_owned(), split);
        }
        Ok(assigned)
    }
}

/// How users are divided into folds, each of which tests on users that it does not train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FoldOptions {
    /// Number of folds, which is the number of models trained. 0, or at least the number of users, means one user per
    /// fold.
    pub folds: usize,
    /// Seed of the division; the same seed and users give the same division on every machine.
    pub seed: u64,
    /// Share of a fold's users outside the test set to validate on, from 0 to below 1. Above 0 it is at least one user,
    /// as long as one is left to train on.
    pub validation: f64,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self { folds: 5, seed: 0, validation: 0.0 }
    }
}

/// One fold: three disjoint sets that together are all users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fold {
    /// Counted from 0.
    pub index: usize,
    /// Weights are fitted to these users.
    pub train_users: BTreeSet<String>,
    /// Choices are made on these users.
    pub validation_users: BTreeSet<String>,
    /// Results come from these users; every user is a test user in exactly one fold.
    pub test_users: BTreeSet<String>,
}

impl Fold {
    /// The part of every user in this fold.
    pub fn assignment(&self) -> BTreeMap<String, Split> {
        [
            (&self.train_users, Split::Train),
            (&self.validation_users, Split::Validation),
            (&self.test_users, Split::Test),
        ]
        .into_iter()
        .flat_map(|(users, split)| users.iter().map(move |user| (user.clone(), split)))
        .collect()
    }
}

impl FoldOptions {
    /// Deals the ranked users out to the folds in turn, so that fold sizes differ by at most one.
    ///
    /// # Errors
    ///
    /// There is one fold or fewer than two users, which leaves no user to train on, or `validation` is out of range;
    /// `config` is the file that errors name.
    pub fn assign<'a>(&self, users: impl IntoIterator<Item = &'a str>, config: &Path) -> Result<Vec<Fold>, InputError> {
        let users: BTreeSet<&str> = users.into_iter().collect();
        let problem = |key: &str, cause: String| Err(InputError::new(config, cause).at(Place::Named(key.into())));
        if !(0.0..1.0).contains(&self.validation) {
            return problem("validation", format!("{} is not a share from 0 to below 1", self.validation));
        }
        if self.folds == 1 || users.len() < 2 {
            let cause = format!("{} fold(s) of {} user(s) leave no user to train on", self.folds, users.len());
            return problem("folds", cause);
        }
        let folds = match self.folds {
            0 => users.len(),
            folds => folds.min(users.len()),
        };
        let ranked = ranked(users, self.seed);
        let owned = |users: Vec<&str>| users.into_iter().map(str::to_owned).collect();
        Ok((0..folds)
            .map(|index| {
                let in_turn = ranked.iter().copied().enumerate();
                let (test, mut rest): (Vec<_>, Vec<_>) = in_turn.partition(|(rank, _)| rank % folds == index);
                let [_, validation] = whole_shares(rest.len(), [1.0 - self.validation, self.validation]);
                let train = rest.split_off(validation);
                let names = |part: Vec<(usize, &'a str)>| owned(part.into_iter().map(|(_, user)| user).collect());
                Fold { index, train_users: names(train), validation_users: names(rest), test_users: names(test) }
            })
            .collect())
    }
}

/// How many users, tasks or conversations two parts of the data have in common; anything but 0 is a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Overlap {
    /// In training and in validation.
    pub train_validation: usize,
    /// In training and in test.
    pub train_test: usize,
    /// In validation and in test.
    pub validation_test: usize,
}

/// What the parts of a division of conversations have in common, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OverlapReport {
    /// Users in common.
    pub users: Overlap,
    /// Tasks in common.
    pub tasks: Overlap,
    /// Conversations in common.
    pub conversations: Overlap,
}

impl OverlapReport {
    /// Whether no two parts have anything in common.
    pub fn is_disjoint(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts what the parts have in common, from the conversations that are really in them.
///
/// Does not use the assignment that put them there, so it finds a wrong assignment.
pub fn check_disjoint<'a>(parts: impl IntoIterator<Item = (Split, &'a Conversation)>) -> OverlapReport {
    let mut users = Membership::default();
    let mut tasks = Membership::default();
    let mut conversations = Membership::default();
    for (split, conversation) in parts {
        users.add(split, &conversation.user);
        tasks.add(split, &conversation.task);
        conversations.add(split, &conversation.id);
    }
    OverlapReport { users: users.overlap(), tasks: tasks.overlap(), conversations: conversations.overlap() }
}

/// Which parts each name occurs in.
#[derive(Default)]
struct Membership<'a>(HashMap<&'a str, [bool; 3]>);

impl<'a> Membership<'a> {
    fn add(&mut self, split: Split, name: &'a str) {
        self.0.entry(name).or_default()[split as usize] = true;
    }

    fn overlap(&self) -> Overlap {
        let mut overlap = Overlap::default();
        for &[train, validation, test] in self.0.values() {
            overlap.train_validation += usize::from(train && validation);
            overlap.train_test += usize::from(train && test);
            overlap.validation_test += usize::from(validation && test);
        }
        overlap
    }
}

/// Users in the order of SHA-256 of seed and name.
fn ranked<'a>(users: impl IntoIterator<Item = &'a str>, seed: u64) -> Vec<&'a str> {
    let mut hashed: Vec<([u8; 32], &str)> = users
        .into_iter()
        .map(|user| {
            let mut hasher = Sha256::new();
            hasher.update(DOMAIN);
            hasher.update(seed.to_le_bytes());
            hasher.update(user.as_bytes());
            (hasher.finalize().into(), user)
        })
        .collect();
    hashed.sort_unstable();
    hashed.into_iter().map(|(_, user)| user).collect()
}

/// Divides `total` by shares that add up to 1, by largest remainder; the first part wins ties.
///
/// Then each part with a share above 0 that got nothing, the last part first, takes one from the largest part if that
/// has more than one.
fn whole_shares<const PARTS: usize>(total: usize, shares: [f64; PARTS]) -> [usize; PARTS] {
    // Rounded first, so that 0.1 × 30 is 3 and not 2.9999999999999996.
    let exact = shares.map(|share| (share * total as f64 * 1e6).round() / 1e6);
    let mut counts = exact.map(|exact| exact.floor() as usize);
    let mut by_remainder: [usize; PARTS] = std::array::from_fn(|part| part);
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let left = total.saturating_sub(counts.iter().sum());
    for &part in by_remainder.iter().cycle().take(left) {
        counts[part] += 1;
    }
    for part in (0..PARTS).rev() {
        let largest = (0..PARTS).max_by_key(|&part| (counts[part], PARTS - part));
        if let Some(largest) = largest
            && counts[part] == 0
            && shares[part] > 0.0
            && counts[largest] > 1
        {
            counts[largest] -= 1;
            counts[part] += 1;
        }
    }
    counts
}

/// The user whose name is most similar to `name`, if any is similar enough.
fn nearest<'a>(name: &str, users: &BTreeSet<&'a str>) -> Option<&'a str> {
    users
        .iter()
        .map(|user| (strsim::jaro_winkler(name, user), *user))
        .filter(|(similarity, _)| *similarity >= SUGGESTED_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, user)| user)
}
