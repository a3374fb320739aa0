//! Runs side by side: `undertone runs`, and TensorBoard's page of hyperparameters.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use undertone_files::FolderLock;
use undertone_testing::program::{Workplace, strings};
use undertone_testing::python::packages;

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
    for (url, error) in [
        ("ftp://x", "error: `ftp://x`: is no address of a server"),
        ("http://me:secret@x/", "error: `--mlflow`: holds a password, which would be shown in messages"),
        ("http://127.0.0.1:1", "error: `http://127.0.0.1:1`: cannot be asked: io: Connection refused"),
    ] {
        let ran = place.run(&format!("runs out --mlflow {url}"));
        assert_eq!(ran.status.code(), Some(2));
        assert!(ran.stderr.contains(error), "{}", ran.stderr);
    }
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

/// TensorBoard itself reads the event files.
#[test]
fn tensorboard_compares_runs_by_hyperparameters_and_scores() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/runs").canonicalize().unwrap();
    let Some(packages) = packages(&folder, Path::new(env!("CARGO_TARGET_TMPDIR"))) else { return };
    let place = Workplace::new(12);
    place.run("ablate x.toml").succeeded();
    // A killed training has not ended, and its second start does not make it another run.
    tiny_unfinished(&place);
    let resumed =
        "train x.toml --arm past --set name=cut --set training.epochs=2000 --set training.save_every_steps=1 --resume";
    let mut running = place.start(resumed);
    std::thread::sleep(Duration::from_millis(500));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let read = Command::new("python3")
        .args([folder.join("hparams.py"), place.path("out")])
        .env("PYTHONPATH", &packages)
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let runs: Value = serde_json::from_slice(&read.stdout).unwrap();
    let names: Vec<&String> = runs.as_object().unwrap().keys().collect();
    assert_eq!(names, ["cut/past/fold0/tensorboard", "tiny/none/fold0/tensorboard", "tiny/past/fold0/tensorboard"]);
    assert_eq!(runs[names[0]]["status"], "STATUS_UNKNOWN");
    let results: Value = serde_json::from_slice(&place.read("out/tiny/results.json")).unwrap();
    for (name, arm) in [(names[1], "none"), (names[2], "past")] {
        let run = &runs[name];
        assert_eq!(run["status"], "STATUS_SUCCESS");
        let given = &run["hyperparameters"];
        assert_eq!((&given["arm"], &given["arm.view"]), (&json!(arm), &json!(arm)));
        assert_eq!((&given["training.learning_rate"], &given["lora.rslora"]), (&json!(0.01), &json!(false)));
        let metrics = results["metrics"].as_array().unwrap().iter().find(|metrics| metrics["arm"] == arm).unwrap();
        let [shown, exact] = [&run["scalars"]["test/next_prompt_nats_per_token"], &metrics["nats_per_token"]]
            .map(|x| x.as_f64().unwrap());
        assert!((shown - exact).abs() < 1e-6 * exact, "{shown} and {exact}");
        assert!(run["scalars"]["loss/nats_per_token"].is_f64());
    }
}
