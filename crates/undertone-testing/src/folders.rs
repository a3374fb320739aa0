//! Data and models that tests need from outside.
//!
//! `UNDERTONE_SHARED` is a folder with `data/` and `reference/`, `UNDERTONE_MODEL` an imported
//! SmolLM2-135M-Instruct (`make model` puts one under `checkpoints/`), `UNDERTONE_ENCODER` a sentence encoder
//! (`make encoder`). Without its folder a test prints why it is skipped; under CI it fails.

use std::path::{Path, PathBuf};

fn folder(variable: &str, what: &str) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(folder) => Some(PathBuf::from(folder)),
        None if std::env::var_os("CI").is_some() => panic!("`{variable}` is not set: under CI no test may be skipped"),
        None => {
            eprintln!("skipped: `{variable}` is not set; it names {what}");
            None
        }
    }
}

/// The folder with `data/` and `reference/`.
pub fn shared() -> Option<PathBuf> {
    folder("UNDERTONE_SHARED", "the folder with `data/` and `reference/`")
}

/// The sentence encoder all-MiniLM-L6-v2.
pub fn encoder() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints/all-minilm-l6-v2");
    match std::env::var_os("UNDERTONE_ENCODER") {
        None if fetched.is_dir() => Some(fetched),
        _ => folder("UNDERTONE_ENCODER", "the sentence encoder all-MiniLM-L6-v2; `make encoder` fetches it"),
    }
}

/// The imported SmolLM2-135M-Instruct.
pub fn model() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints/smollm2-135m-instruct");
    match std::env::var_os("UNDERTONE_MODEL") {
        None if made.is_dir() => Some(made),
        _ => folder("UNDERTONE_MODEL", "an imported SmolLM2-135M-Instruct; `make model` makes one"),
    }
}
