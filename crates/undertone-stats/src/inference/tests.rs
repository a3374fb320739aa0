//! Intervals and tests against known answers and on simulated studies.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn sums_of(sums: &[(f64, usize)]) -> Vec<UserSums> {
    sums.iter().map(|&(nats, tokens)| UserSums::in_one_fold(vec![nats], tokens)).collect()
}

fn close(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected}");
}

fn infer(sums: &[(f64, usize)]) -> Inference {
    Inference::new(&sums_of(sums), BootstrapOptions::default()).unwrap()
}

#[test]
fn the_ratio_weighs_tokens_and_the_mean_weighs_users() {
    // Users at 0.1 and 0.3 nats per token, the second with three times the tokens.
    let two = infer(&[(1.0, 10), (9.0, 30)]);
    close(two.ratio.value, 0.25, 1e-15);
    close(two.mean_of_user_means.value, 0.2, 1e-15);
}

#[test]
fn bca_is_that_of_scipy() {
    // scipy 1.16.3: stats.bootstrap(([1, 2, 4, 8, 16, 3],), np.mean, method="BCa", n_resamples=200_000): 2.6667 to 11.6667.
    // Means are multiples of 1/6.
    let six = infer(&[(1.0, 1), (2.0, 1), (4.0, 1), (8.0, 1), (16.0, 1), (3.0, 1)]);
    let interval = six.ratio.of_models.unwrap().bca;
    close(interval.low, 16.0 / 6.0, 1.01 / 6.0);
    close(interval.high, 70.0 / 6.0, 2.01 / 6.0);
}

#[test]
fn few_users_are_flagged_and_one_has_no_interval() {
    let many: Vec<(f64, usize)> = (0..10).map(|i| (f64::from(i), 5)).collect();
    assert!(Inference::new(&[], BootstrapOptions::default()).is_none());
    let one = infer(&many[..1]);
    assert!(one.too_few_users && one.standard_error.is_none() && one.sign_flip.is_none());
    assert_eq!((one.ratio.interval, one.ratio.of_models, one.ratio.value), (None, None, 0.0));
    assert!(infer(&many[..9]).too_few_users);
    assert!(!infer(&many).too_few_users);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let many: Vec<(f64, usize)> = (1..50).map(|i| (0.1 * f64::from(i * i % 17), 7)).collect();
    let text = |seed| {
        let options = BootstrapOptions { draws: 1000, seed };
        serde_json::to_string(&Inference::new(&sums_of(&many), options)).unwrap()
    };
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}

/// An approximately standard normal number: the sum of 12 uniform ones, minus 6.
fn normal(generator: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| generator.random::<f64>()).sum::<f64>() - 6.0
}

/// A simulated study: its sums by user and by item. A user writes 4 to 12 messages; users' means have mean `truth` and
/// standard deviation `spread_of_users`.
fn simulate(generator: &mut ChaCha8Rng, users: usize, truth: f64, spread_of_users: f64) -> [Vec<(f64, usize)>; 2] {
    let (mut by_user, mut by_item) = (Vec::new(), Vec::new());
    for _ in 0..users {
        let user_mean = truth + spread_of_users * normal(generator);
        let (mut total, mut total_tokens) = (0.0, 0);
        for _ in 0..generator.random_range(4..=12) {
            let tokens = generator.random_range(5..=40);
            let nats = tokens as f64 * (user_mean + 0.3 * normal(generator));
            by_item.push((nats, tokens));
            total += nats;
            total_tokens += tokens;
        }
        by_user.push((total, total_tokens));
    }
    [by_user, by_item]
}

/// The share of simulated studies whose interval contains the truth.
#[derive(Debug, Default)]
struct Coverage {
    bca: f64,
    student_t: f64,
    /// BCa from items resampled as if they were users.
    by_item: f64,
}

fn coverage(studies: u64, users: usize, spread_of_users: f64) -> Coverage {
    let mut generator = ChaCha8Rng::seed_from_u64(17);
    let truth = -0.05;
    let mut found = Coverage::default();
    for seed in 0..studies {
        let options = BootstrapOptions { draws: 400, seed };
        let [by_user, by_item] = simulate(&mut generator, users, truth, spread_of_users)
            .map(|sums| Inference::new(&sums_of(&sums), options).unwrap().ratio.of_models.unwrap());
        let hit =
            |interval: Interval| f64::from(u8::from((interval.low..=interval.high).contains(&truth))) / studies as f64;
        found.bca += hit(by_user.bca);
        found.student_t += hit(by_user.student_t);
        found.by_item += hit(by_item.bca);
    }
    found
}

#[test]
fn resampling_users_covers_and_resampling_items_does_not() {
    let right = 0.925..=0.975;
    let clustered = coverage(400, 80, 0.3);
    for share in [clustered.bca, clustered.student_t] {
        assert!(right.contains(&share), "{clustered:?}");
    }
    assert!(clustered.by_item < 0.75, "{clustered:?}");
    // If users do not differ, all intervals cover: the fault above is ignored clustering, not the method.
    let alike = coverage(400, 80, 0.0);
    for share in [alike.bca, alike.student_t, alike.by_item] {
        assert!(right.contains(&share), "{alike:?}");
    }
}

#[test]
fn with_few_users_the_bootstrap_is_too_narrow_and_t_is_not() {
    let few = coverage(1000, 6, 0.3);
    assert!(few.bca < 0.9, "{few:?}");
    assert!((0.925..=0.975).contains(&few.student_t), "{few:?}");
}

#[test]
fn p_values_are_uniform_under_the_null_and_items_would_claim_too_much() {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let (mut by_user, mut by_item) = (Vec::new(), Vec::new());
    for seed in 0..1000 {
        let options = BootstrapOptions { draws: 200, seed };
        let [users, items] =
            simulate(&mut generator, 20, 0.0, 0.3).map(|sums| SignFlip::new(&sums_of(&sums), options).p);
        by_user.push(users);
        by_item.push(items);
    }
    let share = |p: &[f64], level: f64| p.iter().filter(|p| **p <= level).count() as f64 / p.len() as f64;
    for level in [0.05, 0.25, 0.5, 0.75, 0.95] {
        // Three standard errors of a thousand studies.
        let tolerance = 3.0 * (level * (1.0 - level) / 1000.0_f64).sqrt();
        close(share(&by_user, level), level, tolerance);
    }
    assert!(share(&by_item, 0.05) > 0.2, "{}", share(&by_item, 0.05));
}
