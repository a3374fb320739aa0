//! Does the decision rule keep its level? Simulates studies without any difference between two arms and counts false
//! verdicts, for a grid of designs. Prints `docs/level.md`.
//!
//! ```sh
//! cargo run --release -p undertone-stats --example level -- 2000 > docs/level.md
//! ```
//!
//! The argument is the number of studies per cell of the grid.

use std::collections::BTreeMap;
use std::thread;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use undertone_stats::{Cell, StandardError, UserSums, ratio};

/// The numbers of users.
const USERS: [usize; 7] = [10, 12, 17, 25, 40, 106, 1058];

/// Folds, repeats and seeds. With one fold, users are divided once, so there is nothing to repeat.
const DESIGNS: [Design; 15] = [
    Design { folds: 1, repeats: 1, seeds: 2 },
    Design { folds: 1, repeats: 1, seeds: 3 },
    Design { folds: 1, repeats: 1, seeds: 5 },
    Design { folds: 2, repeats: 1, seeds: 2 },
    Design { folds: 2, repeats: 1, seeds: 3 },
    Design { folds: 2, repeats: 1, seeds: 5 },
    Design { folds: 2, repeats: 2, seeds: 2 },
    Design { folds: 2, repeats: 2, seeds: 3 },
    Design { folds: 2, repeats: 3, seeds: 2 },
    Design { folds: 2, repeats: 5, seeds: 2 },
    Design { folds: 5, repeats: 1, seeds: 2 },
    Design { folds: 5, repeats: 1, seeds: 3 },
    Design { folds: 5, repeats: 1, seeds: 5 },
    Design { folds: 5, repeats: 2, seeds: 2 },
    Design { folds: 5, repeats: 3, seeds: 2 },
];

/// The standard deviation between trainings, in standard deviations between users.
const TRAINING: [f64; 4] = [0.0, 0.1, 0.2, 0.5];

/// The standard deviation of what is left, in the same unit.
const REST: f64 = 0.5;

/// How a study is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Design {
    folds: usize,
    repeats: usize,
    seeds: usize,
}

/// How many tokens users have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lengths {
    /// The same number.
    Even,
    /// Log-normal with a standard deviation of 1 of the logarithm for messages; a user has 2 to 16 of them.
    LogNormal,
}

/// A standard normal number (Box and Muller).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (one, other): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - one).ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}

/// A study whose arms do not differ: each user's differences in each training that tests the user.
fn simulate(random: &mut ChaCha8Rng, users: usize, design: Design, training: f64, lengths: Lengths) -> Vec<UserSums> {
    let Design { folds, repeats, seeds } = design;
    let mut place = vec![vec![0; users]; repeats];
    for division in &mut place {
        let mut order: Vec<usize> = (0..users).collect();
        order.shuffle(random);
        order.iter().enumerate().for_each(|(rank, user)| division[*user] = rank % folds);
    }
    let effects: Vec<f64> = (0..repeats * folds * seeds).map(|_| training * normal(random)).collect();
    (0..users)
        .map(|user| {
            let tokens = match lengths {
                Lengths::Even => 100,
                Lengths::LogNormal => {
                    let messages = random.random_range(2..=16);
                    let length = |_| (18.0 * normal(random).exp()).ceil().max(1.0) as usize;
                    (0..messages).map(length).sum()
                }
            };
            let own = normal(random);
            let mut cell = |division: usize| {
                let fold = division * folds + place[division][user];
                let one = |seed| tokens as f64 * (own + effects[fold * seeds + seed] + REST * normal(random));
                Cell { fold, nats: (0..seeds).map(one).collect() }
            };
            UserSums { cells: (0..repeats).map(&mut cell).collect(), tokens }
        })
        .collect()
}

/// The share of studies whose 95 % interval contains the truth, which is 0; the others have a false verdict.
fn coverage(studies: usize, users: usize, design: Design, training: f64, lengths: Lengths) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let covers = (0..studies).filter(|_| {
        let sums = simulate(&mut random, users, design, training, lengths);
        let error = StandardError::of(&sums).expect("several users");
        let interval = error.interval(ratio(&sums).expect("several users")).expect("several trainings");
        interval.contains_zero()
    });
    covers.count() as f64 / studies as f64
}

fn main() {
    let studies: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(2000);
    let mut jobs = Vec::new();
    for design in DESIGNS {
        for lengths in [Lengths::Even, Lengths::LogNormal] {
            for users in USERS {
                for training in TRAINING {
                    jobs.push((design, lengths, users, training));
                }
            }
        }
    }
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut found = BTreeMap::new();
    thread::scope(|scope| {
        let share = |worker: usize| {
            let jobs = &jobs;
            scope.spawn(move || {
                let own = jobs.iter().enumerate().filter(|(place, _)| place % workers == worker);
                let one = |(place, &(design, lengths, users, training)): (usize, &(Design, Lengths, usize, f64))| {
                    // Fewer studies of a thousand users, which take a hundred times as long.
                    let studies = if users > 1000 { studies.div_ceil(4) } else { studies };
                    (place, coverage(studies, users, design, training, lengths))
                };
                own.map(one).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..workers).map(share).collect();
        for worker in workers {
            found.extend(worker.join().expect("a worker does not panic"));
        }
    });
    print(studies, &jobs.into_iter().zip(found.into_values()).collect());
}

fn print(studies: usize, found: &BTreeMapOf) {
    let all = || found.iter().map(|(_, coverage)| *coverage);
    let inside = all().filter(|coverage| (0.93..=0.97).contains(coverage)).count();
    let level = all().filter(|coverage| *coverage >= 0.94).count();
    println!(
        "cells {}, inside {inside}, level {level}, min {:.3}, max {:.3}, studies {studies}",
        found.len(),
        all().fold(1.0, f64::min),
        all().fold(0.0, f64::max)
    );
    for design in DESIGNS {
        for lengths in [Lengths::Even, Lengths::LogNormal] {
            let row: Vec<String> = found
                .iter()
                .filter(|((d, l, ..), _)| *d == design && *l == lengths)
                .map(|(_, c)| format!("{:.1}", 100.0 * c))
                .collect();
            println!(
                "{} {} {} {lengths:?}: {}",
                design.folds,
                design.repeats,
                design.seeds,
                row.chunks(4).map(|c| c.join(" ")).collect::<Vec<_>>().join(" | ")
            );
        }
    }
}

type BTreeMapOf = Vec<((Design, Lengths, usize, f64), f64)>;
