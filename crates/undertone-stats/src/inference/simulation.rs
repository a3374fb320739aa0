//! Studies made up from a design and variance components, to find the level and the power of the decision rule.

use std::f64::consts::TAU;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::student::StandardError;
use super::trainings::Components;
use super::users::{Cell, UserSums, ratio};

/// How a study trains and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Design {
    /// The folds of one division; 1 for a single split.
    pub folds: usize,
    /// The divisions into folds.
    pub repeats: usize,
    /// The training seeds.
    pub seeds: usize,
}

/// A kind of study.
#[derive(Debug, Clone, Copy)]
pub struct Simulation<'a> {
    /// The supervised tokens of each tested user.
    pub tokens: &'a [usize],
    /// How it trains and tests.
    pub design: Design,
    /// The standard deviations of one user's difference, in nats per token.
    pub components: Components,
    /// The true difference, in nats per token.
    pub difference: f64,
}

impl Simulation<'_> {
    /// One study: each user's differences in every training that tests the user.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> Vec<UserSums> {
        let Design { folds, repeats, seeds } = self.design;
        let Components { user, training, rest } = self.components;
        let rest = rest.unwrap_or_default();
        let users = self.tokens.len();
        let mut places = vec![vec![0; users]; repeats];
        for division in &mut places {
            let mut order: Vec<usize> = (0..users).collect();
            order.shuffle(random);
            order.iter().enumerate().for_each(|(rank, user)| division[*user] = rank % folds);
        }
        let effects: Vec<f64> = (0..repeats * folds * seeds).map(|_| training * normal(random)).collect();
        let mut of_user = |(index, tokens): (usize, &usize)| {
            let own = self.difference + user * normal(random);
            let mut cell = |division: usize| {
                let fold = division * folds + places[division][index];
                let one = |seed| *tokens as f64 * (own + effects[fold * seeds + seed] + rest * normal(random));
                Cell { fold, nats: (0..seeds).map(one).collect() }
            };
            UserSums { cells: (0..repeats).map(&mut cell).collect(), tokens: *tokens }
        };
        self.tokens.iter().enumerate().map(&mut of_user).collect()
    }

    /// The share of `studies` studies whose p-value, for other users and other trainings, is at most `level`.
    pub fn share_decided(&self, level: f64, studies: usize, seed: u64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let is_decided = |_: &usize| {
            let users = self.draw(&mut random);
            let decided =
                StandardError::of(&users).zip(ratio(&users)).and_then(|(error, value)| error.rejects(value, level));
            decided.unwrap_or(false)
        };
        (0..studies).filter(is_decided).count() as f64 / studies as f64
    }
}

/// A standard normal number (Box and Muller 1958).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (one, other): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - one).ln()).sqrt() * (TAU * other).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENTS: Components = Components { user: 0.2, training: 0.04, rest: Some(0.1) };

    fn share(tokens: &[usize], design: Design, difference: f64, level: f64) -> f64 {
        Simulation { tokens, design, components: COMPONENTS, difference }.share_decided(level, 500, 3)
    }

    #[test]
    fn the_null_is_kept_and_a_large_difference_is_found() {
        let design = Design { folds: 5, repeats: 2, seeds: 1 };
        let level = share(&[100; 40], design, 0.0, 0.05);
        assert!((0.02..=0.075).contains(&level), "{level}");
        assert!(share(&[100; 40], design, 0.2, 0.05) > 0.99);
        // A stricter level, as Holm's correction gives it, finds less.
        assert!(share(&[100; 40], design, 0.1, 0.05 / 7.0) < share(&[100; 40], design, 0.1, 0.05) - 0.1);
    }

    #[test]
    fn one_training_decides_nothing() {
        assert_eq!(share(&[100; 40], Design { folds: 1, repeats: 1, seeds: 1 }, 1.0, 0.05), 0.0);
    }

    #[test]
    fn every_division_tests_every_user_once() {
        let design = Design { folds: 3, repeats: 2, seeds: 2 };
        let simulation = Simulation { tokens: &[7; 10], design, components: COMPONENTS, difference: 0.0 };
        for user in simulation.draw(&mut ChaCha8Rng::seed_from_u64(0)) {
            let folds: Vec<usize> = user.cells.iter().map(|cell| cell.fold / 3).collect();
            assert_eq!((folds, user.tokens), (vec![0, 1], 7));
            assert!(user.cells.iter().all(|cell| cell.nats.len() == 2));
        }
    }
}
