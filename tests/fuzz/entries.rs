//! Where bytes from outside come in. Each function takes any bytes; it must return, in bounded time and memory.
//!
//! The fuzz targets call these functions with new bytes, and the test `corpora` with those that fuzzing has kept.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::Device;
use serde_json::Value;
use tempfile::TempDir;
use undertone_data::{ChatFormat, CleanOptions, GivenFormat, OnInvalid, ReadOptions, Reader, Template, convert_chats};
use undertone_model::{Decoder, ModelConfig, import, load_template, load_tokenizer};
use undertone_study::{Experiment, rating, verify};
use undertone_testing::checkpoint::Parts;
use undertone_testing::tiny_folder;
use undertone_train::Checkpoint;

/// A folder of this process with the tiny model in `model/`.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tiny_folder::write(&folder.path().join("model"));
        folder
    });
    folder.path()
}

/// Writes a file of the folder.
fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("the folder can be written");
    path
}

fn original_config() -> ModelConfig {
    ModelConfig::from_json(Path::new("config.json"), tiny_folder::config()).expect("the tiny model is right")
}

/// Loads the tiny model with one file replaced.
fn load_with(name: &str, bytes: &[u8]) {
    let original = std::fs::read(folder().join("model").join(name)).ok();
    let path = put(&format!("model/{name}"), bytes);
    let _ = Decoder::load(&folder().join("model"), &Device::flex());
    match original {
        Some(original) => drop(put(&format!("model/{name}"), &original)),
        None => std::fs::remove_file(path).expect("it was just written"),
    }
}

/// A file of conversations, read strictly and with invalid lines skipped; and chats of another dataset.
pub(crate) fn conversations(bytes: &[u8]) {
    let path = put("conversations.jsonl", bytes);
    let _ = convert_chats(&path, None, true, &mut std::io::sink());
    for on_invalid in [OnInvalid::Error, OnInvalid::Skip] {
        let options = ReadOptions { on_invalid, clean: CleanOptions::default(), ..ReadOptions::default() };
        if let Ok(reader) = Reader::open(&[&path], options) {
            let _ = reader.read_all();
        }
    }
}

/// An experiment file; and what follows its first blank line, as an override.
pub(crate) fn experiment(bytes: &[u8]) {
    let path = put("experiment.toml", bytes);
    let text = String::from_utf8_lossy(bytes);
    let setting = text.split_once("\n\n").map(|(_, rest)| rest.to_owned());
    let _ = Experiment::read(&path, &setting.into_iter().collect::<Vec<_>>());
}

/// `config.json`
pub(crate) fn config(bytes: &[u8]) {
    load_with("config.json", bytes);
}

/// `model.safetensors`
pub(crate) fn safetensors(bytes: &[u8]) {
    load_with("model.safetensors", bytes);
}

/// `model.safetensors.index.json`
pub(crate) fn index(bytes: &[u8]) {
    load_with("model.safetensors.index.json", bytes);
}

/// `tokenizer.json`, which must then encode and decode.
pub(crate) fn tokenizer(bytes: &[u8]) {
    let path = put("tokenizer.json", bytes);
    if let Ok(tokenizer) = load_tokenizer(path.parent().expect("it has a folder"), &original_config())
        && let Ok(template) = Template::new(tokenizer, ChatFormat::chatml())
    {
        let ids = template.encode("Hello, world. 1234 é你🎉\n\n  x");
        template.pieces(&ids);
    }
}

/// A chat template in Jinja; and the same bytes as a text in ChatML, which gives its own ids, and never one of the
/// format.
pub(crate) fn template(bytes: &[u8]) {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let model = folder().join("model");
    let template =
        TEMPLATE.get_or_init(|| load_template(&model, &original_config(), &GivenFormat::default()).expect("ChatML"));
    let path = put("model/chat_template.jinja", bytes);
    let _ = load_template(&model, &original_config(), &GivenFormat::default());
    std::fs::remove_file(path).expect("it was just written");
    let text = String::from_utf8_lossy(bytes);
    let ids = template.encode(&text);
    assert!(ids.iter().all(|id| *id < 256), "special tokens in {text:?} are plain text");
    assert!(template.is_lossless(&text, &ids), "{text:?} is lossless");
    assert_eq!(template.pieces(&ids).concat(), text);
}

/// A GGUF file, imported.
pub(crate) fn gguf(bytes: &[u8]) {
    let source = put("model.gguf", bytes);
    let destination = folder().join("imported");
    if import::gguf(&source, &destination).is_ok() {
        std::fs::remove_dir_all(&destination).expect("it was just made");
    }
}

/// A checkpoint, also with checksums that fit: its description and tensors, and the experiment in it.
pub(crate) fn checkpoint(bytes: &[u8]) {
    let mut files = vec![bytes.to_vec()];
    if let Some((length, rest)) = bytes.split_first_chunk::<8>()
        && let Some(header) = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| rest.get(..length))
        && let Ok(header) = serde_json::from_slice::<Value>(header)
        && let Some(document) = header["__metadata__"]["undertone"].as_str()
        && serde_json::from_str::<Value>(document).is_ok_and(|document| document.is_object())
        && let Some(sealed) = Parts::of(bytes).try_sealed()
    {
        files.push(sealed.file());
    }
    for file in files {
        let path = put("checkpoint.safetensors", &file);
        let Ok(checkpoint) = Checkpoint::read(&path) else { continue };
        let Ok(experiment) = Experiment::from_resolved(&path, &checkpoint.description.experiment) else { continue };
        let mut decoder = Decoder::load(&folder().join("model"), &Device::flex()).expect("the tiny model is right");
        // A rank that the file claims must not allocate more than its tensors have.
        if experiment.lora.rank <= 64 {
            decoder.add_adapters(&experiment.lora, experiment.seed);
            let _ = checkpoint.restore_weights(&mut decoder);
            let _ = checkpoint.restore_optimizer(&decoder);
        }
    }
}

/// A file of a study's folder; the first byte chooses which.
pub(crate) fn study(bytes: &[u8]) {
    let Some((which, content)) = bytes.split_first() else { return };
    const NAMES: [&str; 6] =
        ["manifest.json", "fixed.json", "experiment.toml", "registration.json", "amendments.json", "judge.jsonl"];
    let name = NAMES[usize::from(*which) % NAMES.len()];
    std::fs::create_dir_all(folder().join("study")).expect("the folder can be made");
    let path = put(&format!("study/{name}"), content);
    let _ = verify(&folder().join("study"));
    std::fs::remove_file(path).expect("it was just written");
}

/// A judge's answer.
pub(crate) fn answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(number) = rating(&text, 0..=100) {
        assert!(number <= 100 && text.contains(&number.to_string()), "{text:?} gives {number}");
    }
}
