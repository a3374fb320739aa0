//! Faults at random and at every place: kills, signals, full disks, flipped bits, other processes, clocks.
//!
//! After each fault the same command is run again, and the study must end with the bytes of an undisturbed one. As it
//! stands, every fault is tried a few times. `make faults` tries them hundreds of times (`UNDERTONE_FAULTS=full`) and writes the
//! table of `docs/reliability.md`.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod bits;
mod clocks;
mod disks;
mod kills;
mod processes;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use undertone_testing::program::{Workplace, left_by};

/// A study of about a second that saves after every step.
const STUDY: &str = "ablate x.toml --set training.epochs=3 --set training.save_every_steps=1 --set split.folds=2";

/// What some tries of a fault gave.
struct Outcome {
    fault: &'static str,
    tries: usize,
    /// What was lost, in words.
    lost: String,
}

type Scenario = fn() -> Option<Outcome>;

const SCENARIOS: [Scenario; 10] = [
    kills::at_random_instants,
    kills::inside_checkpoint_writes,
    kills::signals_at_random_instants,
    disks::every_write_fails_from_some_point_on,
    disks::a_small_disk_grows,
    bits::flipped_in_checkpoints,
    bits::flipped_in_other_files,
    processes::two_start_at_once,
    processes::eight_start_at_once,
    clocks::jump_while_it_trains,
];

/// The number of tries: a few, or with `make faults` many.
fn tries(few: usize, many: usize) -> usize {
    if std::env::var("UNDERTONE_FAULTS").is_ok_and(|value| value == "full") { many } else { few }
}

/// Random numbers, the same in every run.
fn random(purpose: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(purpose)
}

/// The files of a study that nothing disturbed.
fn undisturbed(words: &str) -> BTreeMap<String, Vec<u8>> {
    let place = Workplace::new(12);
    place.run(words).succeeded();
    left_by(&place, "out")
}

/// Checks that a study has ended as an undisturbed one.
#[track_caller]
fn check_same(place: &Workplace, expected: &BTreeMap<String, Vec<u8>>, what: &str) {
    let files = left_by(place, "out");
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&files), names(expected), "{what}");
    let differ: Vec<&String> =
        files.iter().filter(|(name, bytes)| **bytes != expected[*name]).map(|(name, _)| name).collect();
    assert!(differ.is_empty(), "{what}: these differ: {differ:?}");
}

/// Checks that no file that was written is damaged, whatever happened; there may be none yet.
#[track_caller]
fn check_whole(place: &Workplace, what: &str) {
    let ran = place.run("verify out");
    let nothing_yet = ran.stderr.contains("holds no file with a checksum") || !place.path("out").exists();
    assert!(ran.status.success() || nothing_yet, "{what}: {}", ran.stderr);
}

/// Whether a program can be run; says what is skipped if not. In CI a skipped test is a failure.
fn has(program: &str, skipped: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    if !found {
        println!("skipped: {skipped}, because `{program}` is not installed");
        assert!(std::env::var_os("CI").is_none(), "CI skips nothing");
    }
    found
}

#[test]
fn faults_lose_nothing_that_was_saved() {
    let mut table = "| fault | tries | lost | seconds |\n| :--- | ---: | :--- | ---: |\n".to_owned();
    for scenario in SCENARIOS {
        let begun = Instant::now();
        let Some(Outcome { fault, tries, lost }) = scenario() else { continue };
        let seconds = begun.elapsed().as_secs_f64();
        let line = format!("| {fault} | {tries} | {lost} | {seconds:.0} |\n");
        print!("{line}");
        table += &line;
    }
    if let Some(path) = std::env::var_os("UNDERTONE_FAULT_TABLE") {
        std::fs::write(path, table).unwrap();
    }
}
