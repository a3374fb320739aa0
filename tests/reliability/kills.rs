//! SIGKILL, which leaves no time for anything, and signals that leave time to save.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rand::RngExt;
use serde_json::{Value, json};
use undertone_testing::program::{Running, Workplace, left_by};
use undertone_testing::tiny_folder;

use super::{Outcome, STUDY, check_same, check_whole, random, tries, undisturbed};

/// Every arm and fold of a study with the steps that its log has and its last checkpoint has.
fn steps(place: &Workplace) -> Vec<(String, u64, u64)> {
    let mut all = Vec::new();
    for (name, bytes) in place.files("out") {
        if let Some(folder) = name.strip_suffix("log.jsonl") {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let logged = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let logged = logged.filter_map(|line| line["step"].as_u64()).max().unwrap_or(0);
            let last = place.path(&format!("out/{folder}last.safetensors"));
            let saved = if last.exists() { saved_step(&last) } else { 0 };
            all.push((folder.to_owned(), logged, saved));
        }
    }
    all
}

/// The step of a checkpoint.
fn saved_step(path: &Path) -> u64 {
    let parts = undertone_testing::checkpoint::Parts::of(&fs::read(path).unwrap());
    parts.envelope["description"]["state"]["step"].as_u64().unwrap()
}

fn sleep_and_kill(mut running: Running, wait: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < wait {
        if running.child.try_wait().unwrap().is_some() {
            running.wait().succeeded();
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    running.child.kill().unwrap();
    !running.wait().status.success()
}

/// Kills a study at random instants and starts it again, until it is done; then the next one.
pub(crate) fn at_random_instants() -> Option<Outcome> {
    let expected = undisturbed(STUDY);
    let begun = Instant::now();
    undisturbed(STUDY);
    let whole = begun.elapsed();
    let (tries, mut random) = (tries(12, 200), random(1));
    let (mut kills, mut most_lost, mut studies) = (0, 0, 0);
    while kills < tries {
        let place = Workplace::new(12);
        loop {
            let wait = whole.mul_f64(random.random_range(0.0..0.7));
            let was_killed = kills < tries && sleep_and_kill(place.start(STUDY), wait);
            if !was_killed {
                place.run(STUDY).succeeded();
                break;
            }
            kills += 1;
            check_whole(&place, "after a kill");
            for (folder, logged, saved) in steps(&place) {
                most_lost = most_lost.max(logged.saturating_sub(saved));
                assert!(logged <= saved + 1, "{folder}: {logged} steps are logged, {saved} saved, and each is saved");
            }
        }
        studies += 1;
        check_same(&place, &expected, "killed and resumed");
    }
    let lost =
        format!("at most {most_lost} step since the last save; the same bytes after {studies} of {studies} studies");
    Some(Outcome { fault: "SIGKILL at random instants of a study", tries: kills, lost })
}

/// A model with so many adapters that a checkpoint has 100 MB.
fn large() -> Workplace {
    let place = Workplace::new(12);
    let mut config = tiny_folder::config();
    config["num_hidden_layers"] = json!(9);
    place.write("model/config.json", config.to_string());
    let weights = tiny_folder::weights_of(9);
    place.write("model/model.safetensors", tiny_folder::safetensors(&weights, json!({"format": "pt"})));
    place
}

/// Two steps of 100 MB each.
const LARGE: &str = "train x.toml --arm past --set lora.rank=4096 --set training.epochs=1 --set training.save_every_steps=1 \
    --set training.conversations_per_step=2 --resume";

/// Kills a training while it writes a checkpoint of 100 MB.
pub(crate) fn inside_checkpoint_writes() -> Option<Outcome> {
    let undisturbed = large();
    undisturbed.run(LARGE).succeeded();
    let expected = left_by(&undisturbed, "out");
    let size = expected["tiny/past/fold0/last.safetensors"].len();
    assert!(size > 95_000_000, "{size} bytes");
    let (tries, mut random) = (tries(3, 40), random(2));
    let (mut kills, mut trainings) = (0, 0);
    while kills < tries {
        let place = large();
        loop {
            let mut running = place.start(LARGE);
            let folder = place.path("out/tiny/past/fold0");
            let is_writing = || {
                let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
                // A log is written whole, too, but is small.
                entries.into_iter().any(|entry| {
                    entry.file_name().to_string_lossy().starts_with(".undertone-")
                        && entry.metadata().is_ok_and(|metadata| metadata.len() > 1_000_000)
                })
            };
            let mut ended = false;
            while kills < tries && !is_writing() && !ended {
                ended = running.child.try_wait().unwrap().is_some();
            }
            if kills == tries || ended {
                running.wait().succeeded();
                break;
            }
            std::thread::sleep(Duration::from_millis(random.random_range(0..60)));
            let _ = running.child.kill();
            kills += usize::from(!running.wait().status.success());
            check_whole(&place, "after a kill inside a write");
        }
        trainings += 1;
        check_same(&place, &expected, "killed inside writes and resumed");
    }
    let lost =
        format!("the checkpoint that was being written; the same bytes after {trainings} of {trainings} trainings");
    Some(Outcome { fault: "SIGKILL inside the write of a checkpoint of 100 MB", tries: kills, lost })
}

/// Sends signals at random instants; each leaves time to save.
pub(crate) fn signals_at_random_instants() -> Option<Outcome> {
    let undisturbed = undisturbed(STUDY);
    let (tries, mut random) = (tries(8, 80), random(3));
    let (mut sent, mut place) = (0, Workplace::new(12));
    while sent < tries {
        let (name, code) = [("TERM", 143), ("HUP", 129), ("USR1", 130), ("INT", 130)][sent % 4];
        let mut running = place.start(STUDY);
        std::thread::sleep(Duration::from_millis(random.random_range(30..400)));
        let mut catches = true;
        if running.child.try_wait().unwrap().is_none() {
            let id = running.child.id().to_string();
            catches = catches_signals(running.child.id());
            Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
            sent += 1;
        }
        let ran = running.wait();
        let exit = ran.status.code();
        // While the system still loads its libraries, a program has no handler and ends by the signal itself.
        let foreseen = exit == Some(code) || exit == Some(0) || (!catches && ran.status.signal().is_some());
        assert!(foreseen, "SIG{name}: {:?}: {}", ran.status, ran.stderr);
        check_whole(&place, "after a signal");
        for (folder, logged, saved) in steps(&place) {
            assert_eq!(logged, saved, "{folder}: a signal loses no step");
        }
        if exit == Some(0) {
            check_same(&place, &undisturbed, "stopped by signals and resumed");
            place = Workplace::new(12);
        }
    }
    place.run(STUDY).succeeded();
    check_same(&place, &undisturbed, "stopped by signals and resumed");
    let lost = "nothing".to_owned();
    Some(Outcome { fault: "SIGTERM, SIGHUP, SIGUSR1 and SIGINT at random instants", tries: sent, lost })
}

/// Whether the process has a handler for SIGTERM, as far as the system tells.
fn catches_signals(id: u32) -> bool {
    const SIGTERM: u32 = 15;
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (SIGTERM - 1) & 1 == 1)
}
