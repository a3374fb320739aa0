//! Output folders that cannot be written, fill up, or already exist.

use super::*;

/// Tests may run as root, who may write anywhere; but even root cannot write below a file or into `/proc`.
#[test]
fn output_folders_that_cannot_be_written() {
    let place = trained();
    place.write("whole.gguf", tiny_folder::gguf());
    check(
        &place,
        "train x.toml --set output=data.jsonl",
        "error: `data.jsonl/tiny`: cannot write: `data.jsonl` is not a folder",
    );
    check(
        &place,
        "ablate x.toml --set output=data.jsonl/deeper",
        "error: `data.jsonl/deeper/tiny`: cannot write: `data.jsonl` is not a folder",
    );
    check(
        &place,
        "import whole.gguf data.jsonl/model",
        "error: `data.jsonl/model`: cannot write: `data.jsonl` is not a folder",
    );
    check(
        &place,
        &format!("export {CHECKPOINT} data.jsonl/model"),
        "error: `data.jsonl/model`: cannot write: `data.jsonl` is not a folder",
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --records data.jsonl/records.jsonl"),
        "error: `data.jsonl/records.jsonl`: cannot write: `data.jsonl` is not a folder",
    );
    if cfg!(target_os = "linux") {
        check(
            &place,
            "train x.toml --set output=/proc",
            &format!("error: `/proc/tiny`: cannot write: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"),
        );
        check(
            &place,
            "import whole.gguf /proc/model",
            &format!(
                "error: `/proc/model`: cannot create this folder: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
            ),
        );
        check(
            &place,
            &format!("export {CHECKPOINT} /proc/model"),
            &format!(
                "error: `/proc/model`: cannot create this folder: No such file or directory (os error 2)\n\n{NO_SUCH_FILE}"
            ),
        );
    }
}

/// A limit on file size stands for a disk that fills up during a write: no part of the file is left.
#[test]
fn a_disk_that_is_full() {
    let place = trained();
    place.write("whole.gguf", tiny_folder::gguf());
    let checkpoint = place.read(CHECKPOINT);
    let too_large = "cannot write: File too large (os error 27)";
    let refused = |words: &str, expected: &str| {
        let ran = place.run_with_files_of_8_kib(words);
        let told: Vec<&str> = ran.stderr.lines().filter(|line| !line.contains(": step ")).collect();
        assert_eq!(told.join("\n"), format!("error: {expected}"), "`{words}`");
        assert_eq!(ran.status.code(), Some(2), "`{words}`: {}", ran.stderr);
        for (name, bytes) in place.files("") {
            let hidden = name.contains("/.") && !name.ends_with("/.lock");
            let partial = hidden || name.starts_with('.') || name.starts_with("new");
            assert!(!partial, "`{words}` left `{name}` of {} bytes", bytes.len());
        }
        assert!(place.read(CHECKPOINT) == checkpoint, "`{words}`");
    };
    refused("import whole.gguf new", &format!("`new/model.safetensors`: {too_large}"));
    refused(&format!("export {CHECKPOINT} new"), &format!("`new/model.safetensors`: {too_large}"));
    refused(
        "train x.toml --arm none --set lora.rank=8",
        &format!("`out/tiny/none/fold0/last.safetensors`: {too_large}"),
    );
    for name in ["last", "best"] {
        assert!(!place.path(&format!("out/tiny/none/fold0/{name}.safetensors")).exists(), "{name}");
    }
}

#[test]
fn output_folders_that_exist() {
    let place = trained();
    place.write("whole.gguf", tiny_folder::gguf());
    check(
        &place,
        "import whole.gguf model",
        "error: `model`: already exists\n\nhint: choose another name, or remove it first",
    );
    check(
        &place,
        &format!("export {CHECKPOINT} model"),
        "error: `model`: already exists\n\nhint: choose another name, or remove it first",
    );
    check(
        &place,
        &format!("evaluate {CHECKPOINT} --records data.jsonl"),
        "error: `data.jsonl`: already exists\n\nhint: choose another name, or remove it first",
    );
    check(
        &place,
        "train x.toml --arm past --set training.epochs=1",
        "error: `out/tiny/past/fold0`: already holds a training\n\n\
        hint: add `--resume` to go on with it, or choose another `name`",
    );
    let place = Workplace::new(12);
    place.run("ablate x.toml").succeeded();
    check(
        &place,
        "ablate x.toml --set training.epochs=3",
        "error: `out/tiny`: already holds another study; changed: `training.epochs` from 2 to 3\n\n\
        hint: choose another name with `--set name=…`, or remove the folder; a study that has begun may change its comparisons, `seeds`, `split.repeats`, `[evaluation]` and arms",
    );
    place.write("data.jsonl", program::sample(11));
    check(
        &place,
        "ablate x.toml",
        "error: `out/tiny`: already holds another study: its data differs\n\n\
        hint: choose another name with `--set name=…`, or remove the folder; a study that has begun may change its comparisons, `seeds`, `split.repeats`, `[evaluation]` and arms",
    );
}
