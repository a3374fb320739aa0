//! A permutation test: under the null hypothesis, each user's difference has either sign with equal probability.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::bootstrap::BootstrapOptions;
use super::users::UserSums;

/// Up to this many users, all 2ⁿ sign patterns are counted.
const MOST_EXACT_USERS: usize = 16;

/// The two-sided test that a difference is 0, by flipping the signs of whole users (Fisher 1935; for clusters,
/// Bugni et al. 2019). It holds the trained models fixed: it flips means over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignFlip {
    /// The share of sign patterns whose |Σ nats| is at least the observed one; the observed pattern counts too.
    pub p: f64,
    /// Whether all patterns were counted, not a random sample.
    pub exact: bool,
}

impl SignFlip {
    /// Tests the sums of at least one user.
    pub(super) fn new(users: &[UserSums], options: BootstrapOptions) -> Self {
        let sums: Vec<f64> = users.iter().map(UserSums::mean_nats).collect();
        // Sums of the same numbers in another order differ by rounding.
        let slack = 1e-12 * sums.iter().map(|sum| sum.abs()).sum::<f64>();
        let observed = sums.iter().sum::<f64>().abs() - slack;
        let reaches = |flipped: &dyn Fn(usize) -> bool| {
            let total: f64 = sums.iter().enumerate().map(|(user, sum)| if flipped(user) { -sum } else { *sum }).sum();
            usize::from(total.abs() >= observed)
        };
        if users.len() <= MOST_EXACT_USERS {
            let patterns = 1_usize << users.len();
            let hits: usize = (0..patterns).map(|pattern| reaches(&|user| pattern >> user & 1 == 1)).sum();
            return Self { p: hits as f64 / patterns as f64, exact: true };
        }
        let mut generator = ChaCha8Rng::seed_from_u64(options.seed);
        let mut signs = vec![0_u64; users.len().div_ceil(64)];
        let hits: usize = (0..options.draws)
            .map(|_| {
                signs.fill_with(|| generator.random());
                reaches(&|user| signs[user / 64] >> (user % 64) & 1 == 1)
            })
            .sum();
        // The observed pattern is added to the sample (Phipson and Smyth 2010), so p is never 0.
        Self { p: (hits + 1) as f64 / (options.draws + 1) as f64, exact: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(sums: &[f64]) -> SignFlip {
        let users: Vec<UserSums> = sums.iter().map(|sum| UserSums { nats: vec![*sum], tokens: 1 }).collect();
        SignFlip::new(&users, BootstrapOptions { draws: 10_000, seed: 1 })
    }

    #[test]
    fn few_users_are_counted_exactly() {
        // Of the 8 sign patterns of −1, −2, −3, two reach 6: none flipped and all flipped.
        assert_eq!(test(&[-1.0, -2.0, -3.0]), SignFlip { p: 0.25, exact: true });
        // |±1 ± 2 ± 1| ≥ 2 except for the two patterns that cancel.
        assert_eq!(test(&[-1.0, -2.0, 1.0]).p, 6.0 / 8.0);
        assert_eq!(test(&[0.0, 0.0]).p, 1.0);
        // The sum is 0 but for rounding, so every pattern reaches it.
        assert_eq!(test(&[0.1, 0.2, -0.3]).p, 1.0);
    }

    #[test]
    fn many_users_are_sampled_and_agree_with_the_exact_count() {
        let many: Vec<f64> = (0..17).map(|user| f64::from(user % 5) - 1.2).collect();
        let sampled = test(&many);
        assert!(!sampled.exact);
        let patterns = 1_u32 << 17;
        let total: f64 = many.iter().sum();
        let hits = (0..patterns).filter(|pattern| {
            let flipped: f64 =
                many.iter().enumerate().map(|(user, x)| if pattern >> user & 1 == 1 { -x } else { *x }).sum();
            flipped.abs() >= total.abs() - 1e-9
        });
        let exact = hits.count() as f64 / f64::from(patterns);
        // Three standard errors of 10,000 draws.
        assert!((sampled.p - exact).abs() < 3.0 * (exact * (1.0 - exact) / 1e4).sqrt(), "{} is not {exact}", sampled.p);
        assert_eq!(test(&many), sampled);
    }
}
