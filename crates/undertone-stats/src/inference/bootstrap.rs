//! The bootstrap: resamples users with replacement and recomputes the statistic each time. It answers the question about
//! these trained models and other users.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::interval::{Interval, LEVEL};
use super::users::UserSums;

/// The fewest resamples that percentiles at 2.5 % and 97.5 % can be read from.
pub const MIN_DRAWS: usize = 100;

/// How users are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapOptions {
    /// How many resamples are drawn, at least [`MIN_DRAWS`]; 10,000 of 1,000 users take less
    /// than a tenth of a second.
    pub draws: usize,
    /// The seed of the ChaCha8 generator: the same seed and users give the same bytes.
    pub seed: u64,
}

impl Default for BootstrapOptions {
    /// 10,000 resamples from seed 0.
    fn default() -> Self {
        Self { draws: 10_000, seed: 0 }
    }
}

/// Σ nats / Σ tokens of every resample, ascending, for `N` statistics of the same users. A resample draws n of the n
/// users with replacement; the trained models stay as they are.
///
/// Sums run in the order of the draw, so the same users in the same order, draws and seed give the same
/// bytes.
///
/// # Panics
/// If there are fewer than [`MIN_DRAWS`] draws.
pub(super) fn resample<const N: usize>(statistics: [&[UserSums]; N], options: BootstrapOptions) -> [Vec<f64>; N] {
    let BootstrapOptions { draws, seed } = options;
    assert!(draws >= MIN_DRAWS, "{draws} draws, fewer than the {MIN_DRAWS} that percentiles need");
    let count = u32::try_from(statistics[0].len()).expect("fewer than 2³² users");
    let units = statistics
        .map(|users| users.iter().map(|user| (user.mean_nats(), user.tokens as f64)).collect::<Vec<(f64, f64)>>());
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut results = [(); N].map(|()| Vec::with_capacity(draws));
    for _ in 0..draws {
        let mut sums = [(0.0, 0.0); N];
        for _ in 0..count {
            // A 32-bit index draws the same users on every machine; a `usize` need not.
            let drawn = generator.random_range(0..count) as usize;
            for (sum, units) in sums.iter_mut().zip(&units) {
                sum.0 += units[drawn].0;
                sum.1 += units[drawn].1;
            }
        }
        results.iter_mut().zip(sums).for_each(|(results, (nats, tokens))| results.push(nats / tokens));
    }
    results.iter_mut().for_each(|results| results.sort_by(f64::total_cmp));
    results
}

/// Bias-corrected and accelerated percentiles of sorted draws (Efron 1987; Efron and Tibshirani 1993, equation
/// 14.9). `jackknife` holds the statistic without each user in turn.
pub(super) fn bca(sorted: &[f64], value: f64, jackknife: &[f64]) -> Interval {
    let count = sorted.len() as f64;
    let below = sorted.partition_point(|draw| *draw < value) as f64;
    let equal = sorted.partition_point(|draw| *draw <= value) as f64 - below;
    let share = ((below + 0.5 * equal) / count).clamp(0.5 / count, 1.0 - 0.5 / count);
    let normal = Normal::standard();
    let bias = normal.inverse_cdf(share);
    let mean = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let power = |exponent| jackknife.iter().map(|without| (mean - without).powi(exponent)).sum::<f64>();
    let squares = power(2);
    let acceleration = if squares > 0.0 { power(3) / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let end = |probability: f64| {
        let shifted = bias + normal.inverse_cdf(probability);
        quantile(sorted, normal.cdf(bias + shifted / (1.0 - acceleration * shifted)))
    };
    Interval { low: end(0.5 - LEVEL / 2.0), high: end(0.5 + LEVEL / 2.0) }
}

/// Jackknife: Σ nats / Σ tokens without each user in turn. Needs at least two users.
pub(super) fn jackknife(users: &[UserSums]) -> Vec<f64> {
    let nats: f64 = users.iter().map(UserSums::mean_nats).sum();
    let tokens: usize = users.iter().map(|user| user.tokens).sum();
    users.iter().map(|user| (nats - user.mean_nats()) / (tokens - user.tokens) as f64).collect()
}

/// A quantile, interpolated linearly between order statistics: type 7 of Hyndman and Fan (1996),
/// the default of NumPy and R. `sorted` ascends and is not empty.
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let position = probability * (sorted.len() - 1) as f64;
    let below = position.floor();
    let low = sorted[below as usize];
    let high = sorted[position.ceil() as usize];
    low + (position - below) * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 3, 4], [0.25, 0.5, 1.0])
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!([0.25, 0.5, 1.0].map(|p| quantile(&sorted, p)), [1.75, 2.5, 4.0]);
    }

    #[test]
    fn bca_takes_the_percentiles_of_its_formula() {
        // 600 of the draws 0, 1, …, 999 lie below the value: z₀ = Φ⁻¹(0.6) = 0.253347. The mean of `data` has
        // a = 0.079518. Python's `statistics.NormalDist` gives the percentiles 0.105769 and 0.998356.
        let draws: Vec<f64> = (0..1000).map(f64::from).collect();
        let data = [1.0, 2.0, 4.0, 8.0, 16.0, 3.0];
        let total: f64 = data.iter().sum();
        let jackknife: Vec<f64> = data.iter().map(|x| (total - x) / 5.0).collect();
        let interval = bca(&draws, 599.5, &jackknife);
        assert!((interval.low - 105.663_660).abs() < 1e-4, "{interval:?}");
        assert!((interval.high - 997.357_379).abs() < 1e-4, "{interval:?}");
    }

    #[test]
    fn without_bias_and_skew_bca_is_the_percentile_interval() {
        let draws: Vec<f64> = (0..1001).map(f64::from).collect();
        let interval = bca(&draws, 500.0, &[-1.0, 0.0, 1.0]);
        assert!((interval.low - 25.0).abs() < 1e-6 && (interval.high - 975.0).abs() < 1e-6, "{interval:?}");
    }
}
