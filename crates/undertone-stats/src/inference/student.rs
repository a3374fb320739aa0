//! The standard error of a ratio of sums for two questions, and what follows from it: Student's t intervals, p-values,
//! two one-sided tests, and the smallest detectable difference.
//!
//! The first question is about *these trained models and other users*: users are the only random sample. The second is
//! about *this way of training, other users and other trainings*: a verdict about arms rests on it.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::interval::{Interval, LEVEL};
use super::trainings::{BetweenTrainings, Components};
use super::users::UserSums;
use super::weighted::WeightedMean;

/// The power at which a difference counts as detectable.
const POWER: f64 = 0.8;

/// A cap on degrees of freedom: here Student's t equals the normal distribution to 1e-5.
const MOST_FREEDOM: f64 = 1e5;

/// A difference that needs more users than this counts as undetectable.
const MOST_USERS: usize = 1_000_000_000;

/// A share of the trainings in the variance below this leaves the quantile of the users unchanged.
const SMALL_SHARE: f64 = 0.1;

/// The standard error of R = Σx / Σt over users, in nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StandardError {
    /// For these trained models and other users: CR2 for the ratio, clustered by user.
    pub of_users: f64,
    /// The degrees of freedom of `of_users`: about the effective number of users, less one.
    pub freedom_of_users: f64,
    /// (Σ t)² / Σ t²: as many users of equal length would have the same weight.
    pub effective_users: f64,
    /// The number of users.
    pub users: usize,
    /// For other users and other trainings; `None` with one training of each arm, whose variance is unknown, not 0.
    pub with_trainings: Option<WithTrainings>,
}

/// The standard error of R over other users and other trainings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WithTrainings {
    /// The standard error.
    pub total: f64,
    /// The part of it that comes from trainings; the parts add up as squares.
    pub of_trainings: f64,
    /// The degrees of freedom of `of_trainings`.
    pub freedom_of_trainings: f64,
    /// The weight of the trainings' quantile of t in the critical value, from 0 to 1; the users' has the rest.
    pub weight_of_trainings: f64,
    /// How many trainings the variance is estimated from: seeds if there is one fold, otherwise folds.
    pub trainings: usize,
    /// Whether each user is tested in one training, so that users and trainings cannot be told apart.
    pub is_nested: bool,
    /// The standard deviations between users, between trainings, and of the rest.
    pub components: Components,
}

impl StandardError {
    /// The standard error over these users; `None` for fewer than two.
    pub fn of(users: &[UserSums]) -> Option<Self> {
        if users.len() < 2 {
            return None;
        }
        let units: Vec<(f64, f64)> =
            users.iter().map(|user| (user.tokens as f64, user.mean_nats() / user.tokens as f64)).collect();
        let by_user = WeightedMean::new(&units);
        let of_users = by_user.variance.sqrt();
        let freedom_of_users = by_user.freedom;
        let with_trainings = BetweenTrainings::of(users, &by_user);
        Some(Self {
            of_users,
            freedom_of_users,
            effective_users: 1.0 / by_user.concentration,
            users: users.len(),
            with_trainings: with_trainings.map(WithTrainings::new),
        })
    }

    /// R ± t · the standard error, for these trained models and other users.
    pub fn interval_of_models(&self, value: f64) -> Interval {
        around(value, quantile(self.freedom_of_users, 0.5 + LEVEL / 2.0) * self.of_users)
    }

    /// R ± the critical value · the standard error, for other users and other trainings; `None` with one training.
    pub fn interval(&self, value: f64) -> Option<Interval> {
        self.with_trainings.map(|with| around(value, self.critical(&with, 0.5 + LEVEL / 2.0) * with.total))
    }

    /// The degrees of freedom at which Student's t has the critical value of [`Self::interval`].
    pub fn degrees_of_freedom(&self) -> Option<f64> {
        let wanted = self.critical(&self.with_trainings?, 0.5 + LEVEL / 2.0);
        let (mut low, mut high) = (0.5, MOST_FREEDOM);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if quantile(middle, 0.5 + LEVEL / 2.0) > wanted { low = middle } else { high = middle }
        }
        Some(high)
    }

    /// Whether the two-sided p-value is at most `level`; quicker than [`Self::p`]. `None` with one training.
    pub fn rejects(&self, value: f64, level: f64) -> Option<bool> {
        self.with_trainings.map(|with| value.abs() >= self.critical(&with, 1.0 - level / 2.0) * with.total)
    }

    /// The two-sided p-value that R is 0 for other users and other trainings; `None` with one training.
    pub fn p(&self, value: f64) -> Option<f64> {
        self.with_trainings.map(|with| 2.0 * self.upper_tail(&with, value.abs()))
    }

    /// The p-value of two one-sided tests (Schuirmann 1987) of the null hypothesis |R| ≥ `margin`: a small p shows
    /// that the difference is smaller than the margin, for other users and other trainings. `None` with one training.
    pub fn tost(&self, value: f64, margin: f64) -> Option<f64> {
        self.with_trainings.map(|with| self.upper_tail(&with, margin - value.abs()))
    }

    /// As [`Self::tost`], for these trained models and other users.
    pub fn tost_of_models(&self, value: f64, margin: f64) -> f64 {
        let distance = margin - value.abs();
        match self.of_users > 0.0 {
            true => student(self.freedom_of_users).sf(distance / self.of_users),
            false => f64::from(u8::from(distance <= 0.0)),
        }
    }

    /// The quantile of R / total for a probability of at least one half: between those of Student's t for users and for
    /// trainings, as Cochran and Cox (1950) weigh two quantiles.
    fn critical(&self, with: &WithTrainings, probability: f64) -> f64 {
        let of_users = quantile(self.freedom_of_users, probability);
        match with.weight_of_trainings {
            0.0 => of_users,
            weight => {
                let of_trainings = quantile(with.freedom_of_trainings, probability);
                of_users + weight * (of_trainings - of_users)
            }
        }
    }

    /// The probability that R exceeds `distance`, if its expectation is 0.
    fn upper_tail(&self, with: &WithTrainings, distance: f64) -> f64 {
        if with.total == 0.0 {
            return if distance > 0.0 { 0.0 } else { 0.5 };
        }
        let wanted = distance.abs() / with.total;
        let tail = match with.weight_of_trainings {
            0.0 => student(self.freedom_of_users).sf(wanted),
            1.0 => student(with.freedom_of_trainings).sf(wanted),
            _ => {
                let (mut low, mut high) = (0.0, 0.5);
                for _ in 0..60 {
                    let middle = f64::midpoint(low, high);
                    if self.critical(with, 1.0 - middle) > wanted { low = middle } else { high = middle }
                }
                high
            }
        };
        if distance >= 0.0 { tail } else { 1.0 - tail }
    }

    /// R divided by the standard deviation of users' contributions to it: Cohen's d_z if all users have equally
    /// many tokens. `None` if users do not differ.
    pub fn effect_size(&self, value: f64) -> Option<f64> {
        (self.of_users > 0.0).then(|| value / (self.of_users * self.effective_users.sqrt()))
    }

    /// The smallest true difference that four of five such studies call different from zero (Bloom 1995); `None` with
    /// one training.
    pub fn minimum_detectable(&self) -> Option<f64> {
        let with = self.with_trainings?;
        Some((self.critical(&with, 0.5 + LEVEL / 2.0) + self.critical(&with, POWER)) * with.total)
    }

    /// The standard error with another number of users like these, and the same trainings.
    fn with_users(&self, users: usize) -> Self {
        let times = users as f64 / self.users as f64;
        let of_users = self.of_users / times.sqrt();
        let freedom_of_users = ((self.freedom_of_users + 1.0) * times - 1.0).max(0.5);
        let grown = |with: WithTrainings| {
            // If each training tests one user, more users are more trainings.
            let more = if with.is_nested && with.trainings == self.users { times } else { 1.0 };
            let of_trainings = with.of_trainings * with.of_trainings / more;
            let rest = if with.is_nested {
                (with.total * with.total - with.of_trainings * with.of_trainings) / times
            } else {
                of_users * of_users
            };
            WithTrainings::new(BetweenTrainings {
                total: rest + of_trainings,
                of_trainings,
                freedom: (with.freedom_of_trainings + 1.0) * more - 1.0,
                is_nested: with.is_nested,
                components: with.components,
                trainings: (with.trainings as f64 * more).round() as usize,
            })
        };
        let with_trainings = self.with_trainings.map(grown);
        let effective_users = self.effective_users * times;
        Self { of_users, freedom_of_users, effective_users, users, with_trainings }
    }

    /// How many users like these, with the same trainings, make `value` detectable; `None` if no number does, because
    /// the variance between trainings is too large or unknown.
    pub fn users_needed(&self, value: f64) -> Option<usize> {
        let detectable =
            |users: usize| self.with_users(users).minimum_detectable().is_some_and(|smallest| smallest <= value.abs());
        let mut high = 2;
        while !detectable(high) {
            high *= 2;
            if high > MOST_USERS {
                return None;
            }
        }
        let mut low = high / 2;
        while high - low > 1 {
            let middle = (low + high) / 2;
            if detectable(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }
}

impl WithTrainings {
    fn new(between: BetweenTrainings) -> Self {
        let BetweenTrainings { total, of_trainings, freedom, is_nested, components, trainings } = between;
        let share = if total > 0.0 { of_trainings / total } else { 0.0 };
        // With several trainings per user, the estimated share is uncertain, the more the fewer trainings there are. The
        // weight is fitted so that the interval keeps its level whatever the share is: `docs/level.md` has the table.
        let weight_of_trainings = match is_nested {
            true => 1.0,
            false => {
                let power = (0.6 * freedom - 0.2).clamp(0.4, 1.0);
                ((share - SMALL_SHARE) / (1.0 - SMALL_SHARE)).max(0.0).powf(power)
            }
        };
        Self {
            total: total.sqrt(),
            of_trainings: of_trainings.sqrt(),
            freedom_of_trainings: freedom,
            weight_of_trainings,
            trainings,
            is_nested,
            components,
        }
    }
}

fn around(value: f64, half_width: f64) -> Interval {
    Interval { low: value - half_width, high: value + half_width }
}

fn student(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom.min(MOST_FREEDOM)).expect("degrees of freedom are positive")
}

/// The quantile of Student's t for a probability of at least one half.
fn quantile(freedom: f64, probability: f64) -> f64 {
    // By bisection: `inverse_cdf` of statrs 0.19 does not terminate for some degrees of freedom.
    let student = student(freedom);
    let (mut low, mut high) = (0.0, 1.0);
    while student.cdf(high) < probability {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if student.cdf(middle) < probability { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::users::Cell;

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected}");
    }

    /// Users of one fold, with one number per seed.
    fn with_seeds(users: &[(&[f64], usize)]) -> StandardError {
        let users: Vec<UserSums> =
            users.iter().map(|(nats, tokens)| UserSums::in_one_fold(nats.to_vec(), *tokens)).collect();
        StandardError::of(&users).unwrap()
    }

    #[test]
    fn t_quantiles_are_those_of_the_table() {
        let table = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060];
        for (freedom, expected) in (1..).zip(table) {
            close(quantile(f64::from(freedom), 0.975), expected, 5e-5);
        }
    }

    #[test]
    fn users_of_equal_length_have_the_ordinary_t_interval() {
        let error = with_seeds(&[(&[0.2], 1), (&[0.6], 1), (&[0.2], 1)]);
        let interval = error.interval_of_models(1.0 / 3.0);
        // The variance of the numbers is 0.16/3.
        close(interval.high - interval.low, 2.0 * 4.302_652_729_9 * (0.16_f64 / 9.0).sqrt(), 1e-9);
        close(error.effective_users, 3.0, 1e-12);
        // One training tells nothing about other trainings.
        assert!(error.with_trainings.is_none() && error.interval(0.3).is_none() && error.p(0.3).is_none());
        assert!(error.tost(0.3, 1.0).is_none() && error.minimum_detectable().is_none());
    }

    #[test]
    fn crossed_seeds_are_those_of_the_analysis_of_variance() {
        // Users 0, 2, 4, 6, each ∓ 1 in two seeds: seeds differ by 2, and nothing is left.
        let error = with_seeds(&[(&[-1.0, 1.0], 1), (&[1.0, 3.0], 1), (&[3.0, 5.0], 1), (&[5.0, 7.0], 1)]);
        let with = error.with_trainings.unwrap();
        close(error.of_users.powi(2), 20.0 / 3.0 / 4.0, 1e-12);
        // The variance of the seeds' means 2 and 4 is 2; of their mean, 1.
        close(with.of_trainings.powi(2), 1.0, 1e-12);
        close(with.total.powi(2), 20.0 / 12.0 + 1.0, 1e-12);
        close(with.freedom_of_trainings, 1.0, 1e-12);
        close(with.components.training, 2.0_f64.sqrt(), 1e-12);
        close(with.components.rest.unwrap(), 0.0, 1e-7);
        close(with.components.user.powi(2), 20.0 / 3.0, 1e-9);
        // The share of trainings is 0.375, so the weight is (0.275 / 0.9) to the power of 0.4.
        close(with.weight_of_trainings, (0.275_f64 / 0.9).powf(0.4), 1e-12);
        let critical = 3.182_446 + with.weight_of_trainings * (12.706_205 - 3.182_446);
        close(error.interval(0.0).unwrap().high, critical * with.total, 1e-4);
    }

    #[test]
    fn the_rest_is_subtracted_by_half() {
        // An analysis of variance of two seeds: users 3 and 7 on average, seeds 4 and 6, interaction ∓ 1.
        let error = with_seeds(&[(&[1.0, 5.0], 1), (&[7.0, 7.0], 1)]);
        let with = error.with_trainings.unwrap();
        // Mean squares: seeds 4, rest 4. Without bias, seeds are (4 − 4) / 2 = 0; with half of the rest, (4 − 2) / 2 = 1,
        // so the mean of two seeds has 0.5.
        close(with.components.training, 0.0, 1e-12);
        close(with.components.rest.unwrap(), 2.0, 1e-12);
        close(with.of_trainings.powi(2), 0.5, 1e-12);
    }

    #[test]
    fn users_of_one_fold_each_are_as_many_units_as_folds() {
        let user = |fold, y: f64| UserSums { cells: vec![Cell { fold, nats: vec![y] }], tokens: 1 };
        let users = [user(0, 1.0), user(0, 2.0), user(1, 4.0), user(1, 6.0), user(2, 8.0), user(2, 6.0)];
        let error = StandardError::of(&users).unwrap();
        let with = error.with_trainings.unwrap();
        // Folds 1.5, 5 and 7: variance 7.75, of their mean a third.
        close(with.total.powi(2), 7.75 / 3.0, 1e-12);
        assert!(with.is_nested && with.trainings == 3 && with.components.rest.is_none());
        close(with.freedom_of_trainings, 2.0, 1e-12);
        // Within folds the sum of squares is 4.5 with 3 degrees of freedom.
        close(with.components.user.powi(2), 1.5, 1e-12);
        close(with.components.training.powi(2), 7.75 - 1.5 / 2.0, 1e-12);
        close(error.interval(0.0).unwrap().high, 4.302_652_729_9 * (7.75_f64 / 3.0).sqrt(), 1e-8);
        close(error.degrees_of_freedom().unwrap(), 2.0, 1e-6);
    }

    #[test]
    fn divisions_cross_users_with_folds() {
        // Two divisions of four users into two folds; the training of fold 2 adds 1 for its users.
        let user = |folds: [usize; 2], y: f64| {
            let cell = |fold| Cell { fold, nats: vec![y + f64::from(u8::from(fold == 2))] };
            UserSums { cells: folds.map(cell).to_vec(), tokens: 1 }
        };
        let users = [user([0, 2], 0.0), user([0, 3], 1.0), user([1, 2], 2.0), user([1, 3], 3.0)];
        let with = StandardError::of(&users).unwrap().with_trainings.unwrap();
        assert!(!with.is_nested && with.trainings == 4);
        close(with.components.rest.unwrap(), 0.0, 1e-7);
        // L has diagonal 1 and −½ between folds of different divisions: trace 4, and 6 is the sum of its squares.
        close(with.freedom_of_trainings, 16.0 / 6.0, 1e-12);
        // d = (−½, −½, 1, 0) and b = (0, 0, 1, 0), so b·d / trace = ¼: the variance of 0, 0, 1 and 0.
        close(with.components.training.powi(2), 0.25, 1e-12);
    }

    #[test]
    fn p_values_agree_with_intervals() {
        for seeds in [2, 3, 5] {
            let user = |user: usize| {
                let nats = (0..seeds).map(|seed| (user * 7 % 5) as f64 + 0.3 * (seed * 3 % 4) as f64).collect();
                UserSums::in_one_fold(nats, 1 + user % 3)
            };
            let users: Vec<UserSums> = (0..12).map(user).collect();
            let error = StandardError::of(&users).unwrap();
            let end = error.interval(0.0).unwrap().high;
            close(error.p(end).unwrap(), 0.05, 1e-9);
            close(error.p(-end).unwrap(), 0.05, 1e-9);
            close(error.p(0.0).unwrap(), 1.0, 1e-9);
            // Two one-sided tests: at R = 0, half of the two-sided p-value of the margin.
            close(error.tost(0.0, end).unwrap(), 0.025, 1e-9);
            assert!(error.tost(end, 0.5 * end).unwrap() > 0.5);
        }
    }

    #[test]
    fn with_a_fold_for_each_user_more_users_are_more_trainings() {
        let user = |fold: usize| UserSums { cells: vec![Cell { fold, nats: vec![(fold % 7) as f64] }], tokens: 1 };
        let users: Vec<UserSums> = (0..21).map(user).collect();
        let error = StandardError::of(&users).unwrap();
        let smallest = error.minimum_detectable().unwrap();
        close(smallest, 2.9460 * error.of_users, 1e-3);
        assert_eq!(error.users_needed(smallest), Some(21));
        assert!((1880..=1920).contains(&error.users_needed(smallest / 10.0).unwrap()));
    }

    #[test]
    fn so_many_users_detect_what_was_to_be_detected() {
        let user = |user: usize| UserSums::in_one_fold(vec![(user % 7) as f64; 3], 1);
        let users: Vec<UserSums> = (0..21).map(user).collect();
        let error = StandardError::of(&users).unwrap();
        let smallest = error.minimum_detectable().unwrap();
        // Seeds do not differ: (2.0860 + 0.8600) · the error, 20 degrees of freedom.
        close(smallest, 2.9460 * error.of_users, 1e-3);
        assert_eq!(error.users_needed(smallest), Some(21));
        let needed = error.users_needed(smallest / 10.0).unwrap();
        // About 21 · (2.80 / 2.95)² · 100.
        assert!((1880..=1920).contains(&needed), "{needed}");
        close(error.effect_size(1.0).unwrap(), 1.0 / (error.of_users * 21.0_f64.sqrt()), 1e-12);
    }
}
