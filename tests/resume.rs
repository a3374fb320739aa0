//! An interrupted training resumes in a new process and ends with the same bytes as an uninterrupted one.
//!
//! There are two interruptions: SIGKILL, which leaves no time for anything, and Ctrl-C, which leaves time
//! to finish a step and save. Each test trains once without interruption, then the same experiment
//! elsewhere with interruptions, and compares every file that a training leaves. The runs include what
//! could differ: dropout, several rows per step, several epochs, validations between checkpoints.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use undertone_testing::program::{Ran, Running, Workplace, left_by};
use undertone_testing::{events, folders, program, tiny_folder};

/// Where the arm `past` trains.
const FOLDER: &str = "out/tiny/past/fold0";

/// 12 training conversations of 600 to 1,000 tokens, 3 per step in rows of 1,200: 4 steps of 2 or 3 rows
/// per epoch, 16 steps in all. Checkpoints at 3, 6, 9 … and validations at 5, 10, 15 rarely coincide.
const TRAIN: &str = "train x.toml --arm past --set lora.dropout=0.2 --set split.train=0.6 --set split.validation=0.1 \
    --set training.epochs=4 --set training.conversations_per_step=3 --set training.row_tokens=1200 \
    --set training.weight_decay=0.1 --set training.save_every_steps=3 --set training.validate_every_steps=5";

/// The steps in `log.jsonl`; a last line that is still being written does not count.
fn logged_steps(place: &Workplace) -> Vec<u64> {
    let log = std::fs::read_to_string(place.path(FOLDER).join("log.jsonl")).unwrap_or_default();
    log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["step"].as_u64()).collect()
}

/// Waits until a running training has logged step number `step`.
fn wait_for_step(place: &Workplace, running: &mut Running, step: u64) {
    while logged_steps(place).last().is_none_or(|&last| last < step) {
        let ended = running.child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended ({ended:?}) before step {step}; logged: {:?}", logged_steps(place));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a training, and kills it as soon as it has logged step number `step`.
fn kill_after(place: &Workplace, words: &str, step: u64) -> Ran {
    let mut running = place.start(words);
    wait_for_step(place, &mut running, step);
    running.child.kill().unwrap();
    let ran = running.wait();
    assert_eq!(ran.status.signal(), Some(9), "step {step} came too late to interrupt: {}", ran.stderr);
    ran
}

/// `log.jsonl` without speed and memory, which vary from run to run.
fn log(place: &Workplace) -> Vec<Value> {
    let timeless = |line: &str| {
        let mut scalars: Value = serde_json::from_str(line).unwrap();
        scalars.as_object_mut().unwrap().retain(|name, _| name != "tokens_per_second" && name != "memory_mib");
        scalars
    };
    place.text(&format!("{FOLDER}/log.jsonl")).lines().map(timeless).collect()
}

/// Checks that two trainings left the same files: equal checkpoints, equal logs except for speed and memory, no other
/// files.
#[track_caller]
fn check_same(interrupted: &Workplace, uninterrupted: &Workplace, steps: u64) {
    for name in ["last.safetensors", "best.safetensors", "experiment.toml"] {
        let name = format!("{FOLDER}/{name}");
        assert!(interrupted.read(&name) == uninterrupted.read(&name), "`{name}` differs");
    }
    assert_eq!(logged_steps(interrupted), (1..=steps).collect::<Vec<_>>(), "each step is logged exactly once");
    assert_eq!(log(interrupted), log(uninterrupted));
    // TensorBoard has every scalar of every step once, whatever its files are.
    let scalars = |place: &Workplace| events::scalars(&place.path(FOLDER).join("tensorboard"));
    assert_eq!(scalars(interrupted), scalars(uninterrupted));
    assert_eq!(scalars(interrupted).iter().filter(|(tag, _)| tag == "loss/nats_per_token").count() as u64, steps);
    let names = |place: &Workplace| -> Vec<String> {
        place.files(FOLDER).into_keys().filter(|name| !name.starts_with("tensorboard/events")).collect()
    };
    assert_eq!(names(interrupted), names(uninterrupted), "nothing half-written is left");
}

/// Kills a training after each of these steps and resumes it in a new process each time, lets the last
/// process finish, and compares the training with an uninterrupted one.
fn check_killed(words: &str, kill_at: &[u64], steps: u64) {
    let uninterrupted = Workplace::new(20);
    uninterrupted.run(words).succeeded();
    assert_eq!(logged_steps(&uninterrupted).len() as u64, steps);
    let validations = log(&uninterrupted).iter().filter(|line| line.get("validation_nats_per_token").is_some()).count();
    assert!(validations > 1, "without validations there is no best checkpoint to compare");

    let interrupted = Workplace::new(20);
    let resume = format!("{words} --resume");
    for (index, &step) in kill_at.iter().enumerate() {
        kill_after(&interrupted, if index == 0 { words } else { &resume }, step);
    }
    interrupted.run(&resume).succeeded();
    check_same(&interrupted, &uninterrupted, steps);
}

#[test]
fn a_killed_training_of_adapters_resumes_to_the_same_bytes() {
    // Before the first checkpoint; after one; after a validation; at the end of an epoch; at a checkpoint; in the last
    // epoch.
    check_killed(TRAIN, &[2, 4, 5, 8, 9, 14], 16);
}

#[test]
fn a_killed_full_fine_tuning_resumes_to_the_same_bytes() {
    let words = format!("{TRAIN} --set model.method=full --set training.learning_rate=0.002");
    check_killed(&words, &[4, 7, 13], 16);
}

#[test]
fn checkpoints_differ_if_anything_that_is_drawn_at_random_differs() {
    // The comparisons above can fail: another seed changes the checkpoints and the log.
    let (one, other) = (Workplace::new(12), Workplace::new(12));
    one.run("train x.toml --arm past").succeeded();
    other.run("train x.toml --arm past --set seed=1").succeeded();
    for name in ["last.safetensors", "best.safetensors"] {
        let weights = |place: &Workplace| {
            let file = place.read(&format!("{FOLDER}/{name}"));
            tiny_folder::tensor_bytes(&file, "weights/model.layers.0.self_attn.q_proj.lora_A.weight").to_vec()
        };
        assert_ne!(weights(&one), weights(&other), "{name}");
    }
    assert_ne!(log(&one), log(&other));
}

/// Sends a signal to a running program.
fn signal(running: &Running, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &running.child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Batch systems send SIGTERM, a lost terminal SIGHUP, and Slurm SIGUSR1 some time before the end.
#[test]
fn other_signals_save_as_ctrl_c_does() {
    let uninterrupted = Workplace::new(20);
    uninterrupted.run(TRAIN).succeeded();

    let interrupted = Workplace::new(20);
    for (name, step, code) in [("TERM", 2, 143), ("HUP", 7, 129), ("USR1", 11, 130)] {
        let mut running = interrupted.start(&format!("{TRAIN} --resume"));
        wait_for_step(&interrupted, &mut running, step);
        signal(&running, name);
        let ran = running.wait();
        assert_eq!(ran.status.code(), Some(code), "SIG{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("interrupted; saved `out/tiny/past/fold0/last.safetensors`"), "{}", ran.stderr);
    }
    interrupted.run(&format!("{TRAIN} --resume")).succeeded();
    check_same(&interrupted, &uninterrupted, 16);
}

/// `nohup` has SIGHUP ignored, so that a training outlives its terminal.
#[test]
fn a_hang_up_that_nohup_ignores_stops_nothing() {
    let place = Workplace::new(20);
    let mut running = place.start_under("trap '' HUP", TRAIN);
    wait_for_step(&place, &mut running, 3);
    signal(&running, "HUP");
    running.wait().succeeded();
    assert_eq!(logged_steps(&place), (1..=16).collect::<Vec<_>>());
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let uninterrupted = Workplace::new(20);
    uninterrupted.run(TRAIN).succeeded();

    let interrupted = Workplace::new(20);
    let mut running = interrupted.start(TRAIN);
    wait_for_step(&interrupted, &mut running, 7);
    signal(&running, "INT");
    let ran = running.wait();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    let told = ran.stderr.lines().filter(|line| !line.starts_with("past: step ")).collect::<Vec<_>>().join("\n");
    assert_eq!(
        told,
        "\n\
        stopping after this step; press Ctrl-C again to stop at once\n\
        interrupted; saved `out/tiny/past/fold0/last.safetensors`\n\n\
        hint: run the same command again to resume (`train` needs `--resume`)"
    );
    // It saved the step it had reached, not the last regular checkpoint.
    let stood = *logged_steps(&interrupted).last().unwrap();
    let before = interrupted.files(FOLDER);
    let refused = interrupted.run(TRAIN);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        refused.stderr,
        "error: `out/tiny/past/fold0`: already holds a training\n\n\
        hint: add `--resume` to go on with it, or choose another `name`\n"
    );
    assert_eq!(interrupted.files(FOLDER), before, "a refusal changes nothing");

    let resumed = interrupted.run(&format!("{TRAIN} --resume")).succeeded();
    let first = resumed.stderr.lines().next().unwrap();
    assert!(first.starts_with(&format!("past: step {}/16 ", stood + 1)), "{first}");
    check_same(&interrupted, &uninterrupted, 16);
}

/// A study that is stopped while an arm writes ends with the same texts, word for word.
#[test]
fn ctrl_c_while_an_arm_writes_goes_on_to_the_same_messages() {
    let writing = "ablate x.toml --set training.epochs=1 --set evaluation.writing.messages=12 \
        --set evaluation.writing.max_new_tokens=400 --set evaluation.writing.first_messages=2";
    let uninterrupted = Workplace::new(20);
    uninterrupted.run(writing).succeeded();

    let interrupted = Workplace::new(20);
    let mut running = interrupted.start(writing);
    // The arm is scored first, then it writes.
    let (scored, written) = ("out/tiny/past/fold0/manifest.json", "out/tiny/past/fold0/written.jsonl");
    while !interrupted.path(scored).exists() {
        assert!(running.child.try_wait().unwrap().is_none(), "it ended before it was scored");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&running, "INT");
    let ran = running.wait();
    assert_eq!(ran.status.code(), Some(130), "{}", ran.stderr);
    assert!(ran.stderr.contains("interrupted; saved `out/tiny/past/fold0`"), "{}", ran.stderr);
    assert!(!interrupted.path(written).exists(), "nothing half-written is left");
    interrupted.run(writing).succeeded();
    for name in ["written.jsonl", "report.md", "records/past.jsonl", "past/fold0/first_messages.json"] {
        let name = format!("out/tiny/{name}");
        assert!(interrupted.read(&name) == uninterrupted.read(&name), "`{name}` differs");
    }
}

#[test]
fn a_finished_training_is_left_alone() {
    let place = Workplace::new(12);
    place.run("train x.toml --arm past").succeeded();
    let before = place.files(FOLDER);
    let again = place.run("train x.toml --arm past --resume").succeeded();
    assert_eq!(again.stderr, "trained `past`; best checkpoint: `out/tiny/past/fold0/best.safetensors`\n");
    assert_eq!(place.files(FOLDER), before);
}

#[test]
fn a_training_of_another_experiment_is_not_resumed() {
    let place = Workplace::new(12);
    place.run("train x.toml --arm past").succeeded();
    let before = place.files(FOLDER);
    for change in ["training.learning_rate=0.02", "seed=1", "split.seed=1", "lora.dropout=0.0", "data.system=Hello"] {
        let ran = place.run(&format!("train x.toml --arm past --resume --set {change}"));
        assert_eq!(ran.status.code(), Some(2), "{change}: {}", ran.stderr);
        assert_eq!(
            ran.stderr,
            "error: `out/tiny/past/fold0/last.safetensors`, `training_key`: belongs to another experiment: \
            the configuration, data or base model differ\n\n\
            hint: choose another `name`, or remove the folder\n",
            "{change}"
        );
    }
    // A training on other conversations or of another base model is not resumed either.
    place.write("data.jsonl", program::sample(11));
    assert_eq!(place.run("train x.toml --arm past --resume").status.code(), Some(2));
    place.write("data.jsonl", program::sample(12));
    let mut weights = tiny_folder::weights();
    weights[0].values[0] += 1.0;
    place.write("model/model.safetensors", tiny_folder::safetensors(&weights, serde_json::json!({})));
    assert_eq!(place.run("train x.toml --arm past --resume").status.code(), Some(2));
    assert_eq!(place.files(FOLDER), before);
}

#[test]
fn a_killed_study_goes_on_to_the_same_report() {
    let words = "ablate x.toml --set training.save_every_steps=2";
    let uninterrupted = Workplace::new(12);
    uninterrupted.run(words).succeeded();

    let interrupted = Workplace::new(12);
    kill_after(&interrupted, words, 3);
    assert!(!interrupted.path("out/tiny/report.md").exists());
    let resumed = interrupted.run(words).succeeded();
    assert!(resumed.stderr.starts_with("resuming the study in `out/tiny`\n"), "{}", resumed.stderr);
    let comparable = |place: &Workplace| {
        let mut files = place.files("out");
        files.retain(|name, _| !name.contains("tensorboard") && !name.ends_with("log.jsonl"));
        files
    };
    let (ours, theirs) = (comparable(&interrupted), comparable(&uninterrupted));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, bytes) in &ours {
        assert!(*bytes == theirs[name], "`{name}` differs");
    }
}

#[test]
fn neither_threads_nor_jobs_change_a_byte() {
    let words = "ablate x.toml --set split.folds=2 --set seeds=2 --set training.epochs=1 --set evaluation.writing.messages=2 \
        --set evaluation.writing.max_new_tokens=4";
    let [one, two] = [1, 2].map(|count| {
        let place = Workplace::new(16);
        place.run_under(&format!("export RAYON_NUM_THREADS={count}"), &format!("{words} --jobs {count}")).succeeded();
        left_by(&place, "out")
    });
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == two[name], "`{name}` differs");
    }
}

/// The real model, three steps of two short conversations.
#[test]
fn the_real_model_resumes_to_the_same_bytes() {
    let Some(model) = folders::model() else { return };
    let model: PathBuf = model.canonicalize().unwrap();
    let words = format!(
        "train x.toml --arm past --set model.path={} --set data.context_tokens=1024 --set lora.rank=4 \
        --set split.train=0.6 --set split.validation=0.2 --set split.test=0.2 \
        --set training.epochs=1 --set training.row_tokens=256 --set training.save_every_steps=1 \
        --set training.validate_every_steps=2 --set training.learning_rate=0.0005",
        model.display()
    );
    let uninterrupted = Workplace::new(10);
    uninterrupted.run(&words).succeeded();
    let interrupted = Workplace::new(10);
    kill_after(&interrupted, &words, 1);
    interrupted.run(&format!("{words} --resume")).succeeded();
    check_same(&interrupted, &uninterrupted, 3);
}
