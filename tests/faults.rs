//! Other programs, full disks, closed pipes and flipped bits: nothing is lost, and nothing wrong is believed.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use undertone_testing::program::{Workplace, left_by};

const STUDY: &str = "ablate x.toml --set training.epochs=1";

#[test]
fn a_second_run_is_told_who_works_in_the_folder() {
    let place = Workplace::new(20);
    let long = "ablate x.toml --set training.epochs=40";
    let mut first = place.start(long);
    while !place.path("out/tiny/none/fold0/log.jsonl").exists() {
        assert!(first.child.try_wait().unwrap().is_none(), "it ended before it trained");
        std::thread::sleep(Duration::from_millis(1));
    }
    let holder = format!("another run works in this folder: process {} on `", first.child.id());
    for second in [long, "train x.toml --arm past", "ablate x.toml --register"] {
        let ran = place.run(second);
        assert_eq!(ran.status.code(), Some(2), "{second}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&format!("error: `out/tiny`: {holder}")), "{second}: {}", ran.stderr);
    }
    // A reader is not kept out.
    place.run(&format!("{long} --plan")).succeeded();
    first.wait().succeeded();
}

#[test]
fn processes_that_train_different_arms_share_a_folder() {
    let place = Workplace::new(20);
    let running = ["none", "past"].map(|arm| place.start(&format!("train x.toml --arm {arm}")));
    for running in running {
        running.wait().succeeded();
    }
    let alone = Workplace::new(20);
    alone.run("train x.toml --arm none").succeeded();
    alone.run("train x.toml --arm past").succeeded();
    assert_eq!(left_by(&place, "out"), left_by(&alone, "out"));
}

#[test]
fn flipped_bits_in_kept_results_are_refused_by_name() {
    let place = Workplace::new(12);
    place.run(STUDY).succeeded();
    for name in ["records.jsonl", "manifest.json"] {
        let name = format!("out/tiny/past/fold0/{name}");
        let good = place.read(&name);
        for place_of_flip in [10, good.len() / 2, good.len() - 10] {
            let mut flipped = good.clone();
            flipped[place_of_flip] ^= 1;
            place.write(&name, &flipped);
            let ran = place.run(STUDY);
            assert_eq!(ran.status.code(), Some(2), "byte {place_of_flip} of {name}: {}", ran.stderr);
            assert!(ran.stderr.contains(&format!("`{name}`")), "byte {place_of_flip} of {name}: {}", ran.stderr);
        }
        place.write(&name, &good);
    }
    place.run(STUDY).succeeded();
}

#[test]
fn flipped_bits_in_a_checkpoint_are_refused_by_every_reader() {
    let place = Workplace::new(12);
    place.run("train x.toml --arm past").succeeded();
    for (name, commands) in [
        ("best", &["evaluate FILE --against base", "predict FILE data.jsonl", "export FILE exported"][..]),
        ("last", &["train x.toml --arm past --resume"][..]),
    ] {
        let name = format!("out/tiny/past/fold0/{name}.safetensors");
        let good = place.read(&name);
        for step in 0..40 {
            let (byte, bit) = (8 + step * (good.len() - 8) / 40, step % 8);
            let mut flipped = good.clone();
            flipped[byte] ^= 1 << bit;
            place.write(&name, &flipped);
            let ran = place.run(&commands[step % commands.len()].replace("FILE", &name));
            assert_eq!(ran.status.code(), Some(2), "bit {bit} of byte {byte} of {name}: {}", ran.stderr);
            assert!(ran.stderr.starts_with(&format!("error: `{name}`")), "byte {byte}: {}", ran.stderr);
        }
        place.write(&name, &good);
        assert!(!place.path("exported").exists());
    }
}

#[test]
fn progress_that_nobody_can_read_is_dropped() {
    for closed in ["exec 2>/dev/full", "exec 2>&-"] {
        let place = Workplace::new(12);
        place.run_under(closed, "train x.toml --arm past").succeeded();
        assert!(place.path("out/tiny/past/fold0/best.safetensors").exists(), "{closed}");
    }
}

#[test]
fn results_that_cannot_be_written_are_an_error() {
    let place = Workplace::new(12);
    let ran = place.run_under("exec >/dev/full", "data stats data.jsonl --json");
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(
        ran.stderr,
        "error: cannot write the results to standard output: No space left on device (os error 28)\n"
    );
}
