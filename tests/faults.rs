//! Other programs, full disks, closed pipes and flipped bits: nothing is lost, and nothing wrong is believed.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use undertone_testing::checkpoint::Parts;
use undertone_testing::program::{Workplace, left_by, lines};

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
    place.run("train x.toml --arm past --set training.keep_last=1").succeeded();
    for (name, commands) in [
        ("best", &["evaluate FILE --against base", "predict FILE data.jsonl", "export FILE exported"][..]),
        // Without an earlier checkpoint to fall back to.
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

/// 15 steps, saved after every third.
const TRAIN: &str = "train x.toml --arm past --set training.epochs=5 --set training.save_every_steps=3 \
    --set training.validate_every_steps=2";

/// The names of the checkpoints of the arm `past`.
fn checkpoints(place: &Workplace) -> Vec<String> {
    let names = place.files("out/tiny/past/fold0").into_keys();
    names.filter_map(|name| name.strip_suffix(".safetensors").map(str::to_owned)).collect()
}

#[test]
fn as_many_checkpoints_are_kept_as_asked_for() {
    for (keys, kept) in [
        ("keep_last=1", &["best", "last"][..]),
        ("keep_last=2", &["best", "last", "step-12"]),
        ("keep_last=3", &["best", "last", "step-12", "step-9"]),
        ("keep_last=1 --set training.keep_every_steps=5", &["best", "last", "step-10", "step-5"]),
    ] {
        let place = Workplace::new(12);
        place.run(&format!("{TRAIN} --set training.{keys}")).succeeded();
        assert_eq!(checkpoints(&place), kept, "{keys}");
    }
    let place = Workplace::new(12);
    place.run(&format!("{TRAIN} --set training.keep_last=1 --set training.keep_best=3")).succeeded();
    let best: Vec<String> = checkpoints(&place).into_iter().filter(|name| name.starts_with("best")).collect();
    assert_eq!(best.len(), 3, "{best:?}");
}

#[test]
fn a_damaged_last_checkpoint_is_replaced_from_an_earlier_one() {
    let undamaged = Workplace::new(12);
    undamaged.run(TRAIN).succeeded();
    let place = Workplace::new(12);
    place.run(TRAIN).succeeded();
    let last = "out/tiny/past/fold0/last.safetensors";
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| *bytes.last_mut().unwrap() ^= 1, |bytes| bytes.truncate(bytes.len() / 2), |bytes| bytes.clear()];
    for damage in damages {
        let mut bytes = place.read(last);
        damage(&mut bytes);
        place.write(last, bytes);
        let ran = place.run(&format!("{TRAIN} --resume")).succeeded();
        assert!(ran.stderr.contains(&format!("past: `{last}`: ")), "{}", ran.stderr);
        let told = "past: goes on from `out/tiny/past/fold0/step-12.safetensors`, saved after step 12";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert_eq!(left_by(&place, "out"), left_by(&undamaged, "out"));
    }
}

/// How often a study saves, and what it keeps, may change while it runs.
#[test]
fn checkpoints_may_be_kept_otherwise_in_a_study_that_has_begun() {
    let place = Workplace::new(12);
    place.run(STUDY).succeeded();
    let keys = "--set training.keep_last=3 --set training.keep_best=2 --set training.save_every_steps=1";
    place.run(&format!("{STUDY} {keys}")).succeeded();
    assert!(!place.path("out/tiny/amendments.json").exists());
}

#[test]
fn a_missing_last_checkpoint_does_not_start_the_training_anew() {
    let place = Workplace::new(12);
    place.run(&format!("{TRAIN} --set training.keep_last=1")).succeeded();
    std::fs::remove_file(place.path("out/tiny/past/fold0/last.safetensors")).unwrap();
    let before = place.files("out");
    let ran = place.run(&format!("{TRAIN} --resume"));
    assert_eq!(ran.status.code(), Some(2));
    assert_eq!(
        ran.stderr,
        "error: `out/tiny/past/fold0/last.safetensors`: is missing, but there is a `best.safetensors`, which a new \
        training would replace\n\nhint: restore it from a copy, or remove the folder\n"
    );
    assert_eq!(place.files("out"), before);
}

/// A kill can come between the first last checkpoint and the first best one, which is written after it.
#[test]
fn a_resumed_training_writes_the_best_checkpoint_that_a_kill_prevented() {
    let place = Workplace::new(12);
    place.run(TRAIN).succeeded();
    let expected = left_by(&place, "out");
    let best = place.path("out/tiny/past/fold0/best.safetensors");
    std::fs::remove_file(&best).unwrap();
    place.run(&format!("{TRAIN} --resume")).succeeded();
    assert_eq!(left_by(&place, "out"), expected);
}

/// A kill can come between the last save and the removal of checkpoints that are not kept.
#[test]
fn a_finished_training_removes_checkpoints_that_are_not_kept() {
    let place = Workplace::new(12);
    place.run(TRAIN).succeeded();
    let expected = left_by(&place, "out");
    let kept = place.read("out/tiny/past/fold0/step-12.safetensors");
    place.write("out/tiny/past/fold0/step-9.safetensors", kept);
    place.run(&format!("{TRAIN} --resume")).succeeded();
    assert_eq!(left_by(&place, "out"), expected);
}

#[test]
fn a_damaged_best_checkpoint_takes_nothing_from_a_finished_study() {
    let place = Workplace::new(12);
    place.run(STUDY).succeeded();
    let best = "out/tiny/past/fold0/best.safetensors";
    let whole = place.read(best);
    place.write(best, &whole[..whole.len() / 2]);
    let before = left_by(&place, "out");
    place.run(STUDY).succeeded();
    assert_eq!(left_by(&place, "out"), before);
    // What needs the checkpoint fails, and what the arm has so far stays.
    let records = place.read("out/tiny/records/past.jsonl");
    let ran = place.run(&format!("{STUDY} --set evaluation.row_tokens=700"));
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("`{best}`")), "{}", ran.stderr);
    assert!(place.text("out/tiny/report.md").contains("FAILED: the arm `past`"));
    assert_eq!(place.read("out/tiny/records/past.jsonl"), records);
}

#[test]
fn verify_names_every_damaged_file_of_a_study() {
    let place = Workplace::new(20);
    place.run(&format!("{STUDY} --register")).succeeded();
    place.run(STUDY).succeeded();
    place.run(&format!("{STUDY} --set evaluation.draws=2000")).succeeded();
    let whole = place.run("verify out/tiny").succeeded();
    assert!(whole.stderr.starts_with("4 checkpoints and "), "{}", whole.stderr);
    assert!(whole.stderr.contains("all are as they were written"), "{}", whole.stderr);
    let has_no_checksum =
        |name: &str| ["/", "log.jsonl", ".lock"].iter().any(|end| name.ends_with(end)) || name.contains("tensorboard/");
    let names: Vec<String> = place.files("out/tiny").into_keys().filter(|name| !has_no_checksum(name)).collect();
    for name in ["amendments.json", "experiment.toml", "fixed.json", "registration.json", "report.html", "results.json"]
    {
        assert!(names.iter().any(|one| one == name), "{name} is not in {names:?}");
    }
    for name in names {
        let name = format!("out/tiny/{name}");
        let good = place.read(&name);
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 4;
        place.write(&name, flipped);
        let ran = place.run("verify out/tiny");
        assert_eq!(ran.status.code(), Some(2), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains(", 1 of them damaged; ") || name.ends_with("manifest.json"), "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("error: `{name}`")), "{name}: {}", ran.stderr);
        place.write(&name, good);
    }
    let list = place.read("out/tiny/manifest.json");
    std::fs::remove_file(place.path("out/tiny/manifest.json")).unwrap();
    let ran = place.run("verify out");
    let lost = "error: `out/tiny/manifest.json`: is missing, so that the results beside it have no checksum";
    assert!(ran.status.code() == Some(2) && ran.stderr.contains(lost), "{}", ran.stderr);
    place.write("out/tiny/manifest.json", list);
    // A link is not followed: it may lead in a circle.
    std::os::unix::fs::symlink(".", place.path("out/tiny/circle")).unwrap();
    assert_eq!(place.run("verify out/tiny").succeeded().stderr.split(" and ").next(), Some("4 checkpoints"));
    assert_eq!(place.run("verify model").status.code(), Some(2), "a folder without checksums");
}

#[test]
fn replay_gives_the_same_bytes_and_finds_a_weight_that_training_does_not_give() {
    let place = Workplace::new(12);
    place.run(TRAIN).succeeded();
    let folder = "out/tiny/past/fold0";
    let before = place.files("out");
    for (checkpoint, steps, told) in [
        ("last", 1, "steps 13 to 15, trained again, give the same bytes in all "),
        ("last", 4, "steps 1 to 15, trained again, give the same bytes in all "),
        ("step-12", 1, "steps 1 to 12, trained again, give the same bytes in all "),
        ("best", 1, ", trained again, give the same bytes in all "),
    ] {
        let ran = place.run(&format!("replay {folder}/{checkpoint}.safetensors --steps {steps}")).succeeded();
        assert!(ran.stderr.contains(told), "{checkpoint}: {}", ran.stderr);
    }
    assert_eq!(place.files("out"), before, "nothing is left");
    // The checkpoint of another seed, with the description of this one: as if a GPU had computed wrongly.
    let other = Workplace::new(12);
    other.run(&format!("{TRAIN} --set lora.dropout=0.2")).succeeded();
    let last = format!("{folder}/last.safetensors");
    place.write("other.safetensors", other.read(&last));
    let ran = place.run("replay other.safetensors --set lora.dropout=0.1");
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    let tensors = Parts::of(&other.read(&last)).data;
    place.write(&last, Parts { data: tensors, ..Parts::of(&place.read(&last)) }.sealed().file());
    let ran = place.run(&format!("replay {last}"));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("steps 13 to 15, trained again, give other bytes in "), "{}", ran.stderr);
}

/// A learning rate of 1e30 makes every loss after the first step infinite or not a number.
const DIVERGING: &str = "train x.toml --arm past --set training.learning_rate=1e30 --set training.clip_norm=0.0 \
    --set training.conversations_per_step=1 --set training.warmup_steps=0 --set training.save_every_steps=1 \
    --set training.keep_last=9";

#[test]
fn a_loss_that_is_no_number_stops_a_training_and_names_its_items() {
    let place = Workplace::new(12);
    let ran = place.run(DIVERGING);
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: training diverged: after step 1, the loss is "), "{}", ran.stderr);
    assert!(ran.stderr.contains("; items of this step: user"), "{}", ran.stderr);
    assert_eq!(checkpoints(&place), ["last"], "nothing was saved after it");
}

#[test]
fn steps_with_a_loss_that_is_no_number_are_skipped_up_to_a_limit() {
    let place = Workplace::new(12);
    let ran = place.run(&format!("{DIVERGING} --set training.max_skipped_steps=2"));
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("past: step 2: skipped: the loss is "), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: training diverged: after step 3, the loss is "), "{}", ran.stderr);
    let log = lines(&place, "out/tiny/past/fold0/log.jsonl");
    let skipped: Vec<(u64, bool)> =
        log.iter().map(|line| (line["step"].as_u64().unwrap(), line.get("trouble").is_some())).collect();
    assert_eq!(skipped, [(1, false), (2, true), (3, true)]);
    assert!(!log[1]["trouble"]["items"].as_array().unwrap().is_empty());
    // A skipped step changes neither weights nor moments.
    let [before, after] = ["step-1", "last"].map(|name| place.read(&format!("out/tiny/past/fold0/{name}.safetensors")));
    let (before, after) = (Parts::of(&before), Parts::of(&after));
    assert!(before.data == after.data);
    // The limit may be raised later.
    let ran = place.run(&format!("{DIVERGING} --set training.max_skipped_steps=3 --resume"));
    assert!(ran.stderr.contains("error: training diverged: after step 4, the loss is "), "{}", ran.stderr);
    assert_eq!(after.envelope["description"]["state"]["skipped_steps"], 2);
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
