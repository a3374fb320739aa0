//! Whether users differ: each user's own difference between two arms, shrunk towards the mean, and a test.
//!
//! The noise of an item's difference has a variance proportional to its tokens. Users' true differences have the variance
//! τ² of DerSimonian and Laird (1986); a user's own difference is shrunk by the share of noise in it (Efron and Morris
//! 1975). All of it is about these trained models: models of different folds differ too, and a part of τ² is theirs.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::inference::{BootstrapOptions, Interval};

/// The 97.5 % quantile of the normal distribution.
const NORMAL: f64 = 1.959_963_985;

/// One item of a user: the difference in nats, and its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemDifference {
    /// The user.
    pub user: String,
    /// Nats of arm b less those of arm a, the mean over trainings.
    pub nats: f64,
    /// The item's tokens.
    pub tokens: usize,
}

/// The differences between users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heterogeneity {
    /// τ: the standard deviation between users' true differences, in nats per token; 0 if they differ no more than items do.
    pub between_users: f64,
    /// The p-value that users do not differ: items are dealt to users at random.
    pub p: f64,
    /// The Monte Carlo error of the p-value.
    pub monte_carlo_error: f64,
    /// The users, lowest shrunk difference first.
    pub users: Vec<UserDifference>,
}

/// One user's difference, in nats per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDifference {
    /// The user.
    pub user: String,
    /// The user's items.
    pub items: usize,
    /// Σ nats / Σ tokens over the user's items.
    pub own: f64,
    /// The same, shrunk towards the mean of all users.
    pub shrunk: f64,
    /// The 95 % interval of the shrunk difference; it does not include that of the mean.
    pub interval: Interval,
}

/// The items of one user as sums.
#[derive(Debug, Clone, Default)]
struct Sums {
    items: usize,
    nats: f64,
    tokens: f64,
}

/// Compares users; `None` with fewer than two users, or if each has one item, so that the noise of items is unknown.
///
/// # Panics
/// If an item has no tokens.
pub fn heterogeneity(items: &[ItemDifference], options: BootstrapOptions) -> Option<Heterogeneity> {
    assert!(items.iter().all(|item| item.tokens > 0), "an item without tokens");
    let mut users: BTreeMap<&str, Sums> = BTreeMap::new();
    for item in items {
        let sums = users.entry(&item.user).or_default();
        sums.items += 1;
        sums.nats += item.nats;
        sums.tokens += item.tokens as f64;
    }
    if users.len() < 2 || users.len() == items.len() {
        return None;
    }
    let total: f64 = users.values().map(|sums| sums.tokens).sum();
    let mean = users.values().map(|sums| sums.nats).sum::<f64>() / total;
    let within = |item: &ItemDifference| {
        let sums = &users[item.user.as_str()];
        let tokens = item.tokens as f64;
        (item.nats - tokens * sums.nats / sums.tokens).powi(2) / tokens
    };
    let noise = items.iter().map(within).sum::<f64>() / (items.len() - users.len()) as f64;
    let spread: f64 = users.values().map(|sums| sums.tokens * (sums.nats / sums.tokens - mean).powi(2)).sum();
    let squares: f64 = users.values().map(|sums| sums.tokens * sums.tokens).sum();
    let excess = spread - (users.len() - 1) as f64 * noise;
    let between = (excess / (total - squares / total)).max(0.0);
    let shrunk = |(user, sums): (&&str, &Sums)| {
        let own = sums.nats / sums.tokens;
        let of_noise = noise / sums.tokens;
        let kept = if between > 0.0 { between / (between + of_noise) } else { 0.0 };
        let half_width = NORMAL * (kept * of_noise).sqrt();
        let shrunk = mean + kept * (own - mean);
        let interval = Interval { low: shrunk - half_width, high: shrunk + half_width };
        UserDifference { user: (*user).to_owned(), items: sums.items, own, shrunk, interval }
    };
    let mut all: Vec<UserDifference> = users.iter().map(shrunk).collect();
    all.sort_by(|one, other| one.shrunk.total_cmp(&other.shrunk).then_with(|| one.user.cmp(&other.user)));
    let (p, monte_carlo_error) = deal(items, mean, options);
    Some(Heterogeneity { between_users: between.sqrt(), p, monte_carlo_error, users: all })
}

/// The p-value of the spread between users, and its Monte Carlo error: residuals, scaled to one variance, are dealt to
/// items at random.
fn deal(items: &[ItemDifference], mean: f64, options: BootstrapOptions) -> (f64, f64) {
    let mut residuals: Vec<f64> =
        items.iter().map(|item| (item.nats - mean * item.tokens as f64) / (item.tokens as f64).sqrt()).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let users: Vec<usize> = items
        .iter()
        .map(|item| {
            let next = places.len();
            *places.entry(&item.user).or_insert(next)
        })
        .collect();
    let mut tokens = vec![0.0; places.len()];
    users.iter().zip(items).for_each(|(user, item)| tokens[*user] += item.tokens as f64);
    let spread = |residuals: &[f64]| -> f64 {
        let mut sums = vec![0.0; tokens.len()];
        for ((user, item), residual) in users.iter().zip(items).zip(residuals) {
            sums[*user] += residual * (item.tokens as f64).sqrt();
        }
        sums.iter().zip(&tokens).map(|(sum, tokens)| sum * sum / tokens).sum()
    };
    let observed = spread(&residuals) * (1.0 - 1e-12);
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let hits = (0..options.draws)
        .filter(|_| {
            residuals.shuffle(&mut random);
            spread(&residuals) >= observed
        })
        .count();
    // The observed deal counts too (Phipson and Smyth 2010).
    let p = (hits + 1) as f64 / (options.draws + 1) as f64;
    (p, (p * (1.0 - p) / options.draws as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    const OPTIONS: BootstrapOptions = BootstrapOptions { draws: 500, seed: 1 };

    /// Users with `items` items each; users' true differences have the standard deviation `between`.
    fn made(seed: u64, users: usize, items: usize, between: f64) -> Vec<ItemDifference> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = move || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        let mut all = Vec::new();
        for user in 0..users {
            let own = -0.1 + between * normal();
            for item in 0..items {
                let tokens = 5 + 7 * item % 30;
                let nats = own * tokens as f64 + (tokens as f64).sqrt() * normal();
                all.push(ItemDifference { user: format!("user{user:02}"), nats, tokens });
            }
        }
        all
    }

    #[test]
    fn users_that_differ_are_told_from_users_that_do_not() {
        let alike: Vec<f64> = (0..200).map(|seed| heterogeneity(&made(seed, 12, 6, 0.0), OPTIONS).unwrap().p).collect();
        let below = |level: f64| alike.iter().filter(|p| **p <= level).count() as f64 / 200.0;
        // Three standard errors of 200 studies.
        assert!(
            (below(0.05) - 0.05).abs() < 0.047 && (below(0.5) - 0.5).abs() < 0.107,
            "{} {}",
            below(0.05),
            below(0.5)
        );
        let apart = heterogeneity(&made(3, 30, 8, 0.5), OPTIONS).unwrap();
        assert!(apart.p < 0.01 && (apart.between_users - 0.5).abs() < 0.15, "{apart:?}");
    }

    #[test]
    fn shrinking_keeps_the_order_of_equal_users_and_moves_towards_the_mean() {
        let found = heterogeneity(&made(3, 10, 6, 0.5), OPTIONS).unwrap();
        let items = made(3, 10, 6, 0.5);
        let mean = items.iter().map(|item| item.nats).sum::<f64>()
            / items.iter().map(|item| item.tokens).sum::<usize>() as f64;
        for user in &found.users {
            assert!((user.shrunk - mean).abs() <= (user.own - mean).abs() + 1e-12);
            assert!(user.interval.low < user.shrunk && user.shrunk < user.interval.high);
        }
        assert!(found.users.windows(2).all(|pair| pair[0].shrunk <= pair[1].shrunk));
        // Without differences between users, everybody is at the mean.
        let flat: Vec<ItemDifference> = (0..12)
            .map(|item| ItemDifference { user: format!("u{}", item % 3), nats: [1.0, -1.0][item / 3 % 2], tokens: 2 })
            .collect();
        let flat = heterogeneity(&flat, OPTIONS).unwrap();
        assert_eq!(flat.between_users, 0.0);
        assert!(flat.users.iter().all(|user| user.shrunk.abs() < 1e-12));
    }

    #[test]
    fn one_item_each_tells_nothing() {
        assert_eq!(heterogeneity(&made(1, 9, 1, 0.2), OPTIONS), None);
        assert_eq!(heterogeneity(&made(1, 1, 9, 0.2), OPTIONS), None);
        assert_eq!(heterogeneity(&[], OPTIONS), None);
    }
}
