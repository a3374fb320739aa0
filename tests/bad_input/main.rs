//! Wrong input gets one clear error (path, place, cause, hint) and exit code 2, and leaves no file
//! behind.
//!
//! Each test breaks one thing in a working folder and pins the program's stderr, word for word. The
//! whole folder is compared before and after every run, file by file. The program has 4 GiB of address
//! space, so it cannot allocate an absurd size that a file claims.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod checkpoints;
mod command_line;
mod conversations;
mod experiments;
mod models;
mod outputs;
mod runs;

use serde_json::{Value, json};
use undertone_testing::program::{EXPERIMENT, Workplace};
use undertone_testing::{folders, program, tiny_folder};

/// The checkpoint of the arm `past`, trained for two steps.
const CHECKPOINT: &str = "out/tiny/past/fold0/best.safetensors";
const DOWNLOAD: &str = "hint: the download may be incomplete; fetch the file again";
const NO_SUCH_FILE: &str = "hint: check the path; it is taken relative to the current folder";

/// Runs a command that must be refused with the expected message and without changing a file.
#[track_caller]
fn check(place: &Workplace, words: &str, expected: &str) {
    let before = place.files("");
    let ran = place.run_in_4_gib(words);
    // The list of devices depends on how this test was built.
    let stderr = ran.stderr.replace("this build has the devices: flex, libtorch;", "this build has the devices: flex;");
    assert_eq!(stderr.trim_end(), expected.trim_end(), "`undertone {words}` ({})", ran.status);
    assert_eq!(ran.status.code(), Some(2), "`undertone {words}`: {stderr}");
    assert_eq!(ran.stdout, "", "`undertone {words}` has no result");
    let after = place.files("");
    let new: Vec<&String> = after.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(before == after, "`undertone {words}` left or changed {new:?}");
}

/// A working folder without a training, for input that is refused before one starts.
fn place() -> Workplace {
    Workplace::new(6)
}

/// A working folder with a [`CHECKPOINT`].
fn trained() -> Workplace {
    let place = Workplace::new(6);
    place.run("train x.toml --arm past --set training.epochs=1").succeeded();
    place
}

/// The sample's first conversation after `change`, as one line.
fn conversation(change: impl FnOnce(&mut Value)) -> String {
    let mut conversation: Value = serde_json::from_str(&program::sample(1)).unwrap();
    change(&mut conversation);
    conversation.to_string() + "\n"
}
