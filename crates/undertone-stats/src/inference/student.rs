//! The standard error of a ratio of sums, and what follows from it: Student's t interval, two one-sided tests, and
//! the minimum detectable difference.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::bootstrap::LEVEL;
use super::interval::Interval;
use super::users::{UserSums, ratio};

/// The power at which a difference counts as detectable.
const POWER: f64 = 0.8;

/// A cap on degrees of freedom: here Student's t equals the normal distribution to 1e-5.
const MOST_FREEDOM: f64 = 1e5;

/// A difference that needs more users than this counts as undetectable.
const MOST_USERS: usize = 1_000_000_000;

/// The standard error of R = Σx / Σt over n users, in nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StandardError {
    /// From users and training seeds together.
    pub total: f64,
    /// From the sampling of users: √( n/(n−1) · Σ (x − R·t)² ) / Σt, the ratio estimator's delta-method error for
    /// clusters drawn with replacement (Cochran 1977, *Sampling Techniques*, section 6.3, without the finite
    /// population correction). If every t is 1, it is the standard error of a mean.
    pub of_users: f64,
    /// From training seeds: the standard deviation of R over k seeds, divided by √k. `None` with one seed: it is
    /// unknown, not 0.
    pub of_seeds: Option<f64>,
    /// n − 1 with one seed; with several, combined from users and seeds by Welch and Satterthwaite.
    pub degrees_of_freedom: f64,
    /// n, the number of users.
    pub users: usize,
}

impl StandardError {
    /// The standard error over these users; `None` for fewer than two.
    pub fn of(users: &[UserSums]) -> Option<Self> {
        let (count, value) = (users.len() as f64, ratio(users)?);
        if users.len() < 2 {
            return None;
        }
        let tokens: f64 = users.iter().map(|user| user.tokens as f64).sum();
        let squares: f64 = users.iter().map(|user| (user.mean_nats() - value * user.tokens as f64).powi(2)).sum();
        let of_users = (count / (count - 1.0) * squares).sqrt() / tokens;
        let seeds = users[0].nats.len();
        let ratio_of_seed = |seed: usize| users.iter().map(|user| user.nats[seed]).sum::<f64>() / tokens;
        let of_seeds = (seeds > 1).then(|| {
            let squares: f64 = (0..seeds).map(|seed| (ratio_of_seed(seed) - value).powi(2)).sum();
            (squares / (seeds - 1) as f64 / seeds as f64).sqrt()
        });
        let variances = [of_users, of_seeds.unwrap_or(0.0)].map(|error| error * error);
        let total = variances[0] + variances[1];
        let degrees_of_freedom = match total > 0.0 {
            true => {
                let freedom = [count - 1.0, seeds.max(2) as f64 - 1.0];
                total * total / variances.iter().zip(freedom).map(|(v, freedom)| v * v / freedom).sum::<f64>()
            }
            false => count - 1.0,
        };
        Some(Self { total: total.sqrt(), of_users, of_seeds, degrees_of_freedom, users: users.len() })
    }

    fn student(self) -> StudentsT {
        let freedom = self.degrees_of_freedom.min(MOST_FREEDOM);
        StudentsT::new(0.0, 1.0, freedom).expect("degrees of freedom are positive")
    }

    /// The quantile of Student's t for a probability above one half.
    fn quantile(self, probability: f64) -> f64 {
        // By bisection: `inverse_cdf` of statrs 0.19 does not terminate for some degrees of freedom.
        let student = self.student();
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

    /// R ± t(97.5 %) · the total standard error.
    pub fn interval(self, value: f64) -> Interval {
        let half_width = self.quantile(0.5 + LEVEL / 2.0) * self.total;
        Interval { low: value - half_width, high: value + half_width }
    }

    /// The p-value of two one-sided tests (Schuirmann 1987) of the null hypothesis |R| ≥ `margin`: a small p shows
    /// that the difference is smaller than the margin.
    pub fn tost(self, value: f64, margin: f64) -> f64 {
        let distance = margin - value.abs();
        match self.total > 0.0 {
            true => self.student().sf(distance / self.total),
            false => f64::from(u8::from(distance <= 0.0)),
        }
    }

    /// R divided by the standard deviation of users' contributions to it: Cohen's d_z if all users have equally
    /// many tokens. `None` if users do not differ.
    pub fn effect_size(self, value: f64) -> Option<f64> {
        (self.of_users > 0.0).then(|| value / (self.of_users * (self.users as f64).sqrt()))
    }

    /// The smallest true difference that four of five such studies call different from zero (Bloom 1995).
    pub fn minimum_detectable(self) -> f64 {
        (self.quantile(0.5 + LEVEL / 2.0) + self.quantile(POWER)) * self.total
    }

    /// The standard error with another number of users like these.
    pub fn with_users(self, users: usize) -> Self {
        let of_users = self.of_users * (self.users as f64 / users as f64).sqrt();
        let total = of_users.hypot(self.of_seeds.unwrap_or(0.0));
        Self { total, of_users, degrees_of_freedom: (users as f64 - 1.0).max(1.0), users, ..self }
    }

    /// How many users like these, with the same number of training seeds, make `value` detectable; `None` if no
    /// number does, because the variance between trainings is too large.
    pub fn users_needed(self, value: f64) -> Option<usize> {
        let detectable = |users: usize| self.with_users(users).minimum_detectable() <= value.abs();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn users(sums: &[(&[f64], usize)]) -> Vec<UserSums> {
        sums.iter().map(|(nats, tokens)| UserSums { nats: nats.to_vec(), tokens: *tokens }).collect()
    }

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected}");
    }

    #[test]
    fn the_t_interval_is_that_of_the_linearised_ratio() {
        // R = 12/40 = 0.3; residuals −1, 3, −2; variance 3/2 · 14 / 40² = 0.013125.
        let three = users(&[(&[2.0], 10), (&[6.0], 10), (&[4.0], 20)]);
        let error = StandardError::of(&three).unwrap();
        close(error.total, 0.013_125_f64.sqrt(), 1e-15);
        let interval = error.interval(0.3);
        close(interval.high - 0.3, 4.302_652_729_9 * 0.013_125_f64.sqrt(), 1e-9);
        // The means 0.2, 0.6, 0.2 have variance 0.16/3: the ordinary t interval, s / √3.
        let alike: Vec<UserSums> = three.iter().map(UserSums::of_one_token).collect();
        let interval = StandardError::of(&alike).unwrap().interval(1.0 / 3.0);
        close(interval.high - interval.low, 2.0 * 4.302_652_729_9 * (0.16_f64 / 9.0).sqrt(), 1e-9);
    }

    #[test]
    fn t_quantiles_are_those_of_the_table() {
        let table = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060];
        for (freedom, expected) in (1..).zip(table) {
            let error = StandardError {
                total: 1.0,
                of_users: 1.0,
                of_seeds: None,
                degrees_of_freedom: f64::from(freedom),
                users: 2,
            };
            close(error.interval(0.0).high, expected, 5e-5);
        }
    }

    #[test]
    fn training_variance_widens_the_interval_where_seeds_differ() {
        let alike = users(&[(&[2.0, 2.0], 10), (&[6.0, 6.0], 10), (&[4.0, 4.0], 20)]);
        let apart = users(&[(&[1.0, 3.0], 10), (&[5.0, 7.0], 10), (&[2.0, 6.0], 20)]);
        let [alike, apart] = [alike, apart].map(|users| StandardError::of(&users).unwrap());
        assert_eq!(alike.of_seeds, Some(0.0));
        close(alike.total, 0.013_125_f64.sqrt(), 1e-15);
        close(alike.degrees_of_freedom, 2.0, 1e-12);
        // R is 8/40 with one seed and 16/40 with the other: standard deviation √0.02, divided by √2.
        close(apart.of_seeds.unwrap(), 0.1, 1e-15);
        close(apart.total, (0.013_125_f64 + 0.01).sqrt(), 1e-15);
        close(apart.degrees_of_freedom, 0.023_125_f64.powi(2) / (0.013_125_f64.powi(2) / 2.0 + 1e-4), 1e-9);
    }

    #[test]
    fn two_one_sided_tests_are_one_sided_tests() {
        // Three users, R = 0, standard error 0.1: t(2) = 4.3027 has 2.5 % above it.
        let error = StandardError { total: 0.1, of_users: 0.1, of_seeds: None, degrees_of_freedom: 2.0, users: 3 };
        close(error.tost(0.0, 0.430_265_27), 0.025, 1e-8);
        close(error.tost(-0.1, 0.530_265_27), 0.025, 1e-8);
        assert!(error.tost(0.6, 0.5) > 0.5);
    }

    #[test]
    fn so_many_users_detect_what_was_to_be_detected() {
        let error = StandardError { total: 0.05, of_users: 0.05, of_seeds: None, degrees_of_freedom: 19.0, users: 20 };
        // (2.0930 + 0.8610) · 0.05
        close(error.minimum_detectable(), 0.1477, 1e-4);
        assert_eq!(error.users_needed(error.minimum_detectable()), Some(20));
        let needed = error.users_needed(0.01).unwrap();
        // About 20 · (2.80 · 0.05 / 0.01)².
        assert!((3900..=3950).contains(&needed), "{needed}");
        let seeds = StandardError { of_seeds: Some(0.01), ..error };
        assert_eq!(seeds.users_needed(0.01), None);
        close(error.effect_size(0.1).unwrap(), 0.1 / (0.05 * 20.0_f64.sqrt()), 1e-12);
    }
}
