//! One difference with its intervals, standard error and test.

use serde::{Deserialize, Serialize};

use super::bootstrap::{self, BootstrapOptions};
use super::interval::Interval;
use super::sign_flip::SignFlip;
use super::student::StandardError;
use super::users::{UserSums, ratio};

/// A result from fewer users than this is marked as having too few.
pub const ENOUGH_USERS: usize = 10;

/// A point estimate and its intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The point estimate: the statistic of the observed users.
    pub value: f64,
    /// This way of training, other users and other trainings: Student's t with the variance of both. `None` with fewer
    /// than two users or one training, whose spread is unknown.
    pub interval: Option<Interval>,
    /// These trained models, other users; `None` with fewer than two users.
    pub of_models: Option<OfModels>,
}

/// Two 95 % intervals of one number for these trained models and other users.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OfModels {
    /// Student's t with CR2, which keeps its coverage with few and unequal users.
    pub student_t: Interval,
    /// Bias-corrected and accelerated bootstrap over users (Efron and Tibshirani 1993, section 14.3); too narrow with few
    /// users.
    pub bca: Interval,
}

/// Everything inferred about one difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inference {
    /// How many users there are.
    pub users: usize,
    /// Whether they are fewer than [`ENOUGH_USERS`].
    pub too_few_users: bool,
    /// How many trainings each arm has: seeds if there is one fold, otherwise folds.
    pub trainings: usize,
    /// Σ nats / Σ tokens over all users: each token has the same weight. The primary estimand.
    pub ratio: Estimate,
    /// The mean over users of each user's Σ nats / Σ tokens: each user has the same weight.
    pub mean_of_user_means: Estimate,
    /// The standard error of the ratio, if there are at least two users.
    pub standard_error: Option<StandardError>,
    /// The degrees of freedom of the ratio's interval over other users and other trainings.
    pub degrees_of_freedom: Option<f64>,
    /// The p-value that the ratio is 0 for other users and other trainings.
    pub p: Option<f64>,
    /// The test that the ratio is 0 for these trained models and other users, if there are at least two users.
    pub sign_flip: Option<SignFlip>,
}

impl Inference {
    /// Infers from the sums of each user; `None` without users.
    ///
    /// # Panics
    ///
    /// If there are fewer than [`MIN_DRAWS`](super::MIN_DRAWS) draws, a user without tokens or with nats that are not
    /// finite, or users with different numbers of folds or seeds.
    pub fn new(users: &[UserSums], options: BootstrapOptions) -> Option<Self> {
        let shape = |user: &UserSums| (user.cells.len(), user.cells.first().map(|cell| cell.nats.len()));
        let expected = shape(users.first()?);
        for user in users {
            let mut nats = user.cells.iter().flat_map(|cell| &cell.nats).peekable();
            let fine = user.tokens > 0 && shape(user) == expected && nats.peek().is_some();
            assert!(fine && nats.all(|nats| nats.is_finite()), "{user:?}, of {expected:?} folds and seeds");
        }
        // A mean of user means is the ratio of users that have one token each.
        let alike: Vec<UserSums> = users.iter().map(UserSums::of_one_token).collect();
        let [ratio_draws, mean_draws] = bootstrap::resample([users, &alike], options);
        let estimate = |users: &[UserSums], draws: &[f64]| {
            let value = ratio(users).expect("there are users");
            let error = StandardError::of(users);
            let of_models = error.map(|error| OfModels {
                student_t: error.interval_of_models(value),
                bca: bootstrap::bca(draws, value, &bootstrap::jackknife(users)),
            });
            Estimate { value, interval: error.and_then(|error| error.interval(value)), of_models }
        };
        let ratio = estimate(users, &ratio_draws);
        let standard_error = StandardError::of(users);
        let with_trainings = standard_error.and_then(|error| error.with_trainings);
        Some(Self {
            users: users.len(),
            too_few_users: users.len() < ENOUGH_USERS,
            trainings: with_trainings.map_or(1, |with| with.trainings),
            ratio,
            mean_of_user_means: estimate(&alike, &mean_draws),
            standard_error,
            degrees_of_freedom: standard_error.and_then(|error| error.degrees_of_freedom()),
            p: standard_error.and_then(|error| error.p(ratio.value)),
            sign_flip: (users.len() > 1).then(|| SignFlip::new(users, options)),
        })
    }

    /// The effect size: the difference divided by the standard deviation between users.
    pub fn effect_size(&self) -> Option<f64> {
        self.standard_error.and_then(|error| error.effect_size(self.ratio.value))
    }

    /// How many users detect a true difference of this size in four of five studies; `None` if no number does.
    pub fn users_needed(&self) -> Option<usize> {
        self.standard_error.and_then(|error| error.users_needed(self.ratio.value))
    }
}
