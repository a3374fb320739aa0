//! Whatever comes from outside and is wrong gets one clear error (path, place, cause, hint), exit code
//! 2, and leaves nothing behind.
//!
//! Each test breaks one thing in a working folder and pins what the program says on stderr, word for
//! word. Around every run the whole folder is compared, file by file, and the program has 4 GiB of
//! address space: who believes a lying size does not get away with it.
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

/// A training of the arm `past` with two steps, and its checkpoint.
const CHECKPOINT: &str = "out/tiny/past/fold0/best.safetensors";
const DOWNLOAD: &str = "hint: the download may be incomplete; fetch the file again";
const NO_SUCH_FILE: &str = "hint: check the path; it is taken relative to the current folder";

/// Runs a command that must be refused, with these words and without a trace.
#[track_caller]
fn check(place: &Workplace, words: &str, expected: &str) {
    let before = place.files("");
    let ran = place.run_in_4_gib(words);
    // Which devices there are depends on how this test was built.
    let stderr = ran.stderr.replace("it has: flex, libtorch;", "it has: flex;");
    assert_eq!(stderr.trim_end(), expected.trim_end(), "`undertone {words}` ({})", ran.status);
    assert_eq!(ran.status.code(), Some(2), "`undertone {words}`: {stderr}");
    assert_eq!(ran.stdout, "", "`undertone {words}` has no result");
    let after = place.files("");
    let new: Vec<&String> = after.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(before == after, "`undertone {words}` left or changed {new:?}");
}

/// A working folder, enough for what is refused before anything is trained.
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
