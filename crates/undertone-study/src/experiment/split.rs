//! `[split]`: assigns users to training, validation and test, once or in folds.

use std::fmt;
use std::path::Path;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use undertone_data::{FoldOptions, SplitOptions};
use undertone_files::Place;

use super::problem::Found;

/// `[split]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitSection {
    /// Seed of the hash that splits users.
    pub seed: u64,
    /// Share of users to train on; not used with folds.
    pub train: f64,
    /// Share of users to validate on; with folds, the share of each fold's training users.
    pub validation: f64,
    /// Share of users to test on; not used with folds.
    pub test: f64,
    /// Users who always validate, whatever their hash.
    pub validation_users: Vec<String>,
    /// Users who always test, whatever their hash.
    pub test_users: Vec<String>,
    /// The number of folds, or `"users"` for one fold per user; 0 for a single split.
    pub folds: Folds,
    /// How many times users are divided into folds anew, to measure how much the division matters.
    pub repeats: usize,
}

/// The most divisions into folds.
const MAX_REPEATS: usize = 100;

/// How many folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folds {
    /// This number of folds; 0 is a single split.
    Count(usize),
    /// `"users"`: one fold per user.
    EachUser,
}

/// The word for one fold per user.
const EACH_USER: &str = "users";

impl Default for SplitSection {
    fn default() -> Self {
        let SplitOptions { seed, train, validation, test, validation_users, test_users } = SplitOptions::default();
        Self { seed, train, validation, test, validation_users, test_users, folds: Folds::Count(0), repeats: 1 }
    }
}

impl SplitSection {
    /// The single split of users, used without folds.
    pub fn once(&self) -> SplitOptions {
        SplitOptions {
            seed: self.seed,
            train: self.train,
            validation: self.validation,
            test: self.test,
            validation_users: self.validation_users.clone(),
            test_users: self.test_users.clone(),
        }
    }

    /// The folds of one division, counted from 0; `None` for a single split.
    pub fn folds(&self, division: usize) -> Option<FoldOptions> {
        let folds = match self.folds {
            Folds::Count(0) => return None,
            Folds::Count(count) => count,
            Folds::EachUser => 0,
        };
        Some(FoldOptions { folds, seed: self.seed.wrapping_add(division as u64), validation: self.validation })
    }

    /// Whether there can be validation users.
    pub(super) fn can_validate(&self) -> bool {
        self.validation > 0.0 || !self.validation_users.is_empty()
    }

    pub(super) fn rules(&self, found: &mut Found) {
        let has_folds = self.folds(0).is_some();
        if !has_folds {
            // The data is not read yet, so every listed user is taken as present.
            let once = self.once();
            let listed: Vec<&str> = once.validation_users.iter().chain(&once.test_users).map(String::as_str).collect();
            for problem in once.problems(listed, Path::new("")) {
                let Place::Named(key) = &problem.place else { continue };
                let hint = problem.hint.as_deref().unwrap_or("lower one of them");
                found.require(false, &format!("split.{key}"), problem.cause, hint);
            }
        }
        found.require(
            !has_folds || (self.test_users.is_empty() && self.validation_users.is_empty()),
            "split.folds",
            "`folds` tests every user once, so `test_users` and `validation_users` cannot be given",
            "remove the lists, or set `folds = 0`",
        );
        found.require(
            self.folds != Folds::Count(1),
            "split.folds",
            "one fold would leave no user to train on",
            "use 2 or more, \"users\", or 0 for a single split",
        );
        found.require(
            (1..=MAX_REPEATS).contains(&self.repeats),
            "split.repeats",
            format!("`repeats` ({}) must be from 1 to {MAX_REPEATS}", self.repeats),
            "1 divides the users once; 3 or more show how much the division matters",
        );
        found.require(
            self.repeats <= 1 || matches!(self.folds, Folds::Count(2..)),
            "split.repeats",
            "`repeats` divides users into folds anew, and this split has no folds that could change",
            "set `folds` to a number from 2, or `repeats = 1`",
        );
    }
}

impl Serialize for Folds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count as u64),
            Self::EachUser => serializer.serialize_str(EACH_USER),
        }
    }
}

impl<'de> Deserialize<'de> for Folds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FoldsVisitor;

        impl Visitor<'_> for FoldsVisitor {
            type Value = Folds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of folds or \"{EACH_USER}\"")
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Folds, E> {
                let fits = usize::try_from(count).map(Folds::Count);
                fits.map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Folds, E> {
                Ok(Folds::Count(count as usize))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Folds, E> {
                match word {
                    EACH_USER => Ok(Folds::EachUser),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(FoldsVisitor)
    }
}
