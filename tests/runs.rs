//! `undertone runs`: what lies in a folder of runs.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use undertone_files::FolderLock;
use undertone_testing::program::{Workplace, strings};

#[test]
fn runs_lists_studies_and_what_distinguishes_them() {
    let place = Workplace::new(12);
    place.run("ablate x.toml").succeeded();
    place.run("train x.toml --set name=other --set training.epochs=1 --set lora.rank=3 --arm past").succeeded();
    let listed = place.run("runs out --json").json();
    let [other, tiny] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!(other["differing"], json!({"lora.rank": "3", "training.epochs": "1"}));
    assert_eq!(tiny["differing"], json!({"lora.rank": "2", "training.epochs": "2"}));
    assert!(tiny["verdict"].as_str().unwrap().starts_with("next_prompt (primary): "));
    assert!(other["verdict"].is_null());
    let places = |study: &Value| strings(study["trainings"].as_array().unwrap(), "place");
    assert_eq!(
        (places(other), places(tiny)),
        (vec!["past/fold0".into()], vec!["none/fold0".into(), "past/fold0".into()])
    );
    let past = &tiny["trainings"][1];
    assert_eq!((&past["state"], past["steps"].as_u64()), (&json!("finished"), Some(6)));
    let results: Value = serde_json::from_slice(&place.read("out/tiny/results.json")).unwrap();
    let metrics = results["metrics"].as_array().unwrap().iter().find(|metrics| metrics["arm"] == "past").unwrap();
    assert_eq!(past["test"], metrics["nats_per_token"]);

    // A checkpoint before the end is one of a stopped run, or of a running one.
    let unfinished = tiny_unfinished(&place);
    let state = || place.run("runs out/cut --json").json()[0]["trainings"][0]["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "stopped");
    let lock = FolderLock::exclusive(&unfinished).unwrap();
    assert_eq!(state(), "running");
    drop(lock);
    std::fs::remove_file(unfinished.join("last.safetensors")).unwrap();
    std::fs::remove_file(unfinished.join("best.safetensors")).unwrap();
    assert_eq!(state(), "no_checkpoint");
    let table = place.run("runs out").succeeded().stdout;
    assert!(table.contains("past/fold0") && table.contains("lora.rank = 3"), "{table}");
    assert!(place.run("runs model").stderr.contains("`model`: has no trainings in it"));
}

/// The folder of a training that was killed after its first checkpoint.
fn tiny_unfinished(place: &Workplace) -> PathBuf {
    let words = "train x.toml --arm past --set name=cut --set training.epochs=2000 --set training.save_every_steps=1";
    let mut running = place.start(words);
    let folder = place.path("out/cut/past/fold0");
    while !(folder.join("last.safetensors").exists() && folder.join("best.safetensors").exists()) {
        std::thread::sleep(Duration::from_millis(5));
        assert!(running.child.try_wait().unwrap().is_none(), "it ended");
    }
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    folder
}
