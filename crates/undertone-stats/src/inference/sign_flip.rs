//! A permutation test: under the null hypothesis, each user's difference has either sign with equal probability.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::bootstrap::BootstrapOptions;
use super::interval::ALPHA;
use super::users::UserSums;

/// Up to this many users, all 2ⁿ sign patterns are counted.
const MOST_EXACT_USERS: usize = 30;

/// The most random sign patterns.
const MOST_DRAWS: usize = 1 << 20;

/// A p-value closer to the level than so many Monte Carlo errors is drawn again with more patterns.
const CLEAR_ERRORS: f64 = 5.0;

/// The two-sided test that a difference is 0, by flipping the signs of whole users (Fisher 1935; for clusters,
/// Bugni et al. 2019). It answers the question about these trained models and other users: it flips means over
/// trainings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignFlip {
    /// The share of sign patterns whose |Σ nats| is at least the observed one; the observed pattern counts too.
    pub p: f64,
    /// The standard error of the p-value: 0 if all patterns were counted, not a random sample.
    pub monte_carlo_error: f64,
}

impl SignFlip {
    /// Tests the sums of at least one user: exactly for up to 30, and otherwise with draws until the Monte Carlo error
    /// is small against the distance of p to the level, or there are a million.
    pub(super) fn new(users: &[UserSums], options: BootstrapOptions) -> Self {
        let sums: Vec<f64> = users.iter().map(UserSums::mean_nats).collect();
        // Sums of the same numbers in another order differ by rounding.
        let slack = 1e-12 * sums.iter().map(|sum| sum.abs()).sum::<f64>();
        let observed = sums.iter().sum::<f64>().abs() - slack;
        if users.len() <= MOST_EXACT_USERS {
            return Self { p: exact(&sums, observed), monte_carlo_error: 0.0 };
        }
        let mut generator = ChaCha8Rng::seed_from_u64(options.seed);
        let mut signs = vec![0_u64; users.len().div_ceil(64)];
        let (mut hits, mut draws) = (0_usize, 0_usize);
        loop {
            for _ in 0..options.draws {
                signs.fill_with(|| generator.random());
                let signed =
                    |(user, sum): (usize, &f64)| if signs[user / 64] >> (user % 64) & 1 == 1 { -sum } else { *sum };
                hits += usize::from(sums.iter().enumerate().map(signed).sum::<f64>().abs() >= observed);
            }
            draws += options.draws;
            // The observed pattern is added to the sample (Phipson and Smyth 2010), so p is never 0.
            let p = (hits + 1) as f64 / (draws + 1) as f64;
            let monte_carlo_error = (p * (1.0 - p) / draws as f64).sqrt();
            if (p - ALPHA).abs() > CLEAR_ERRORS * monte_carlo_error || draws >= MOST_DRAWS {
                return Self { p, monte_carlo_error };
            }
        }
    }
}

/// The share of all sign patterns whose |sum| is at least `observed`: every sum of one half of the users meets the
/// sorted sums of the other half.
fn exact(sums: &[f64], observed: f64) -> f64 {
    if observed <= 0.0 {
        return 1.0;
    }
    let (one, other) = sums.split_at(sums.len() / 2);
    let [one, mut other] = [one, other].map(signed_sums);
    other.sort_by(f64::total_cmp);
    let reach = |first: &f64| {
        let above = other.len() - other.partition_point(|second| first + second < observed);
        let below = other.partition_point(|second| first + second <= -observed);
        (above + below) as u64
    };
    one.iter().map(reach).sum::<u64>() as f64 / 2.0_f64.powi(sums.len() as i32)
}

/// The sums of all sign patterns.
fn signed_sums(sums: &[f64]) -> Vec<f64> {
    sums.iter().fold(vec![0.0], |all, sum| all.iter().flat_map(|other| [other + sum, other - sum]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(sums: &[f64], seed: u64) -> SignFlip {
        let users: Vec<UserSums> = sums.iter().map(|sum| UserSums::in_one_fold(vec![*sum], 1)).collect();
        SignFlip::new(&users, BootstrapOptions { draws: 10_000, seed })
    }

    #[test]
    fn few_users_are_counted_exactly() {
        // Of the 8 sign patterns of −1, −2, −3, two reach 6: none flipped and all flipped.
        assert_eq!(test(&[-1.0, -2.0, -3.0], 1), SignFlip { p: 0.25, monte_carlo_error: 0.0 });
        // |±1 ± 2 ± 1| ≥ 2 except for the two patterns that cancel.
        assert_eq!(test(&[-1.0, -2.0, 1.0], 1).p, 6.0 / 8.0);
        assert_eq!(test(&[0.0, 0.0], 1).p, 1.0);
        // The sum is 0 but for rounding, so every pattern reaches it.
        assert_eq!(test(&[0.1, 0.2, -0.3], 1).p, 1.0);
        assert_eq!(test(&[4.0], 1).p, 1.0);
    }

    #[test]
    fn meeting_in_the_middle_counts_every_pattern() {
        let many: Vec<f64> = (0..17).map(|user| f64::from(user * user % 11) - 3.7).collect();
        let total: f64 = many.iter().sum();
        let patterns = 1_u32 << 17;
        let hits = (0..patterns).filter(|pattern| {
            let flipped: f64 =
                many.iter().enumerate().map(|(user, x)| if pattern >> user & 1 == 1 { -x } else { *x }).sum();
            flipped.abs() >= total.abs() - 1e-9
        });
        assert_eq!(test(&many, 1).p, hits.count() as f64 / f64::from(patterns));
        // With 30 users, no seed matters.
        let thirty: Vec<f64> = (0..30).map(|user| f64::from(user % 7) - 2.0).collect();
        assert_eq!(test(&thirty, 1), test(&thirty, 2));
    }

    #[test]
    fn more_users_are_sampled_until_the_p_value_is_clear() {
        let clear: Vec<f64> = (0..31).map(|user| f64::from(user % 5) - 1.9).collect();
        let [one, other] = [1, 2].map(|seed| test(&clear, seed));
        assert!((one.p - other.p).abs() < 5.0 * one.monte_carlo_error.hypot(other.monte_carlo_error));
        assert!((one.monte_carlo_error - (one.p * (1.0 - one.p) / 1e4).sqrt()).abs() < 1e-5, "{one:?}");
        // Shifted until p is close to the level: the error is that of far more draws.
        let close: Vec<f64> = (0..31).map(|user| f64::from(user % 5) - 1.396).collect();
        let test = test(&close, 1);
        assert!((test.p - ALPHA).abs() < 0.005 && test.monte_carlo_error < 6e-4, "{test:?}");
    }
}
