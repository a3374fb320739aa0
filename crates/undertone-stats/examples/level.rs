//! Does the decision rule keep its level? Simulates studies without any difference between two arms and counts how often
//! the 95 % interval contains zero, for a grid of designs. Prints `docs/level.md`; on two cores this takes about five
//! minutes.
//!
//! ```sh
//! cargo run --release -p undertone-stats --example level -- 2000 > docs/level.md
//! ```
//!
//! The argument is the number of studies per cell of the grid.

use std::thread;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use undertone_stats::{Components, Design, Simulation, StandardError, ratio};

/// The numbers of users.
const USERS: [usize; 7] = [10, 12, 17, 25, 40, 106, 1058];

/// The standard deviation between trainings, in standard deviations between users.
const TRAINING: [f64; 4] = [0.0, 0.1, 0.2, 0.5];

/// The coverage that the rule must have: at most 6 % false verdicts, and no intervals that are much too wide.
const WANTED: std::ops::RangeInclusive<f64> = 0.94..=0.97;

/// How many times as many studies a cell outside gets when it is simulated again.
const AGAIN: usize = 10;

/// The standard deviation of what is left, in the same unit.
const REST: f64 = 0.5;

/// How many tokens users have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// The same number.
    Even,
    /// 2 to 16 messages, whose lengths are log-normal with a median of 18 tokens and a standard deviation of 1 of the
    /// logarithm.
    LogNormal,
}

/// A cell of the grid.
#[derive(Clone, Copy)]
struct Place {
    design: Design,
    lengths: Lengths,
    users: usize,
    training: f64,
}

/// Folds, repeats and seeds. With one fold, users are divided once, so there is nothing to repeat.
fn designs() -> Vec<Design> {
    let mut all = Vec::new();
    for folds in [1, 2, 5] {
        let repeats: &[usize] = if folds == 1 { &[1] } else { &[1, 2, 3] };
        for &repeats in repeats {
            all.extend([2, 3, 5].map(|seeds| Design { folds, repeats, seeds }));
        }
    }
    all
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

fn tokens(lengths: Lengths, users: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let of_user = |_| match lengths {
        Lengths::Even => 100,
        Lengths::LogNormal => {
            let messages = random.random_range(2..=16);
            (0..messages).map(|_| (18.0 * normal(random).exp()).ceil().max(1.0) as usize).sum()
        }
    };
    (0..users).map(of_user).collect()
}

/// The share of studies whose 95 % interval, over other users and other trainings, contains the truth, which is 0.
fn coverage(studies: usize, place: Place, seed: u64) -> f64 {
    let Place { design, lengths, users, training } = place;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let components = Components { user: 1.0, training, rest: Some(REST) };
    let covers = (0..studies).filter(|_| {
        let tokens = tokens(lengths, users, &mut random);
        let study = Simulation { tokens: &tokens, design, components, difference: 0.0 }.draw(&mut random);
        let error = StandardError::of(&study).expect("several users");
        let interval = error.interval(ratio(&study).expect("several users")).expect("several trainings");
        interval.contains_zero()
    });
    covers.count() as f64 / studies as f64
}

/// The coverage of some places, in their order; `draws` distinguishes the random numbers of several calls.
fn coverages(studies: usize, places: &[Place], indices: &[usize], draws: u64) -> Vec<(usize, f64)> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut found: Vec<(usize, f64)> = thread::scope(|scope| {
        let share = |worker: usize| {
            scope.spawn(move || {
                let own = indices.iter().skip(worker).step_by(workers);
                own.map(|&index| (index, coverage(studies, places[index], draws + index as u64))).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..workers).map(share).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    found.sort_by_key(|(index, _)| *index);
    found
}

fn main() {
    let studies: usize = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(2000);
    let mut places = Vec::new();
    for design in designs() {
        for lengths in [Lengths::Even, Lengths::LogNormal] {
            for users in USERS {
                places.extend(TRAINING.map(|training| Place { design, lengths, users, training }));
            }
        }
    }
    let all: Vec<usize> = (0..places.len()).collect();
    let mut found: Vec<f64> = coverages(studies, &places, &all, 0).into_iter().map(|(_, coverage)| coverage).collect();
    // Among so many cells, some lie outside by chance. They are simulated again, with new draws and ten times as many studies.
    let outside: Vec<usize> = all.into_iter().filter(|&index| !WANTED.contains(&found[index])).collect();
    for (index, coverage) in coverages(AGAIN * studies, &places, &outside, places.len() as u64) {
        found[index] = coverage;
    }
    println!("{}", markdown(studies, &places, &found, outside.len()));
}

fn markdown(studies: usize, places: &[Place], found: &[f64], again: usize) -> String {
    let count = |fits: fn(f64) -> bool| found.iter().filter(|coverage| fits(**coverage)).count();
    let [low, high] = [found.iter().copied().fold(1.0, f64::min), found.iter().copied().fold(0.0, f64::max)];
    let mean = found.iter().sum::<f64>() / found.len() as f64;
    let mut text = format!(
        "# The level of the decision rule\n\n\
         Simulated studies without any difference between two arms. A number is the percentage of {studies} studies whose 95 % interval, over \
         other users and other trainings, contains zero. The others have a false verdict. The standard error of a number near 95 is {:.1}. \
         Made by\n\n\
         ```sh\ncargo run --release -p undertone-stats --example level -- {studies} > docs/level.md\n```\n\n\
         The four numbers of a cell are for a standard deviation between trainings of 0, 0.1, 0.2 and 0.5 standard deviations between users; the \
         rest has 0.5. Lengths are even, or log-normal: a user writes 2 to 16 messages with a median of 18 tokens and a standard deviation of \
         1 of the logarithm. With one fold, trainings are the seeds; otherwise they are the folds of all repeats, and seeds are averaged.\n\n\
         {again} cells were outside 94 to 97 % at first. They were simulated again, with new draws and {AGAIN} times as many studies, and stand with \
         the second number. Of {} cells, {} are from 93 to 97 %, {} are at least 94 %, the lowest is {:.1} %, the highest {:.1} %, the mean {:.1} \
         %.\n\n",
        100.0 * (0.95_f64 * 0.05 / studies as f64).sqrt(),
        found.len(),
        count(|coverage| (0.93..=0.97).contains(&coverage)),
        count(|coverage| coverage >= 0.94),
        100.0 * low,
        100.0 * high,
        100.0 * mean,
    );
    text += "| folds | repeats | seeds | lengths |";
    USERS.iter().for_each(|users| text += &format!(" {users} users |"));
    text += &format!("\n|{}", " --- |".repeat(4 + USERS.len()));
    let row = USERS.len() * TRAINING.len();
    for (places, found) in places.chunks(row).zip(found.chunks(row)) {
        let Place { design: Design { folds, repeats, seeds }, lengths, .. } = places[0];
        let lengths = if lengths == Lengths::Even { "even" } else { "log-normal" };
        text += &format!("\n| {folds} | {repeats} | {seeds} | {lengths} |");
        for cell in found.chunks(TRAINING.len()) {
            let numbers: Vec<String> = cell.iter().map(|coverage| format!("{:.1}", 100.0 * coverage)).collect();
            text += &format!(" {} |", numbers.join(" "));
        }
    }
    text
}
