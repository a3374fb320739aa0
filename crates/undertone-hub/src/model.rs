//! Models: the folder that a path names, which may be one of the Hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use undertone_files::InputError;

use crate::fetch::Snapshot;
use crate::name::Repository;

/// Files beside the weights.
const BESIDE: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
];

/// The files of a PEFT adapter.
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// What was found in this run, by path and files. A branch may move while the program runs; the model stays the same.
static FOUND: Mutex<BTreeMap<(PathBuf, Wanted), PathBuf>> = Mutex::new(BTreeMap::new());

/// Which files are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Model,
    Adapter,
}

/// The folder of a model: the path itself, or for `hf:owner/name@revision` a folder in the cache of the Hub, where
/// missing files are downloaded to.
///
/// # Errors
/// As [`Repository::of_model`] and [`Repository::fetch`]; or the repository has no weights in safetensors files.
pub fn model_folder(path: &Path) -> Result<PathBuf, InputError> {
    folder(path, Wanted::Model)
}

/// The folder of a PEFT adapter of a model, as [`model_folder`].
///
/// # Errors
/// As [`Repository::of_model`] and [`Repository::fetch`].
pub fn adapter_folder(path: &Path) -> Result<PathBuf, InputError> {
    folder(path, Wanted::Adapter)
}

fn folder(path: &Path, wanted: Wanted) -> Result<PathBuf, InputError> {
    let Some(repository) = Repository::of_model(path)? else { return Ok(path.to_owned()) };
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (path.to_owned(), wanted);
    if let Some(folder) = found.get(&key) {
        return Ok(folder.clone());
    }
    let Snapshot { folder, commit } = repository.fetch(|names| match wanted {
        Wanted::Model => chosen(names),
        Wanted::Adapter => ADAPTER.map(str::to_owned).to_vec(),
    })?;
    let has_weights = std::fs::read_dir(&folder)
        .map_err(|error| InputError::io(&folder, "read", &error))?
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors"));
    if !has_weights {
        return Err(InputError::new(path, "has no weights in safetensors files")
            .hint("choose a revision or a copy of the model that has them"));
    }
    tracing::info!("`{repository}` is commit {commit}");
    found.insert(key, folder.clone());
    Ok(folder)
}

/// The files that a model needs: some repositories have the same weights several times.
fn chosen(names: &[&str]) -> Vec<String> {
    let weights = |name: &str| match names.contains(&"model.safetensors") {
        true => name == "model.safetensors",
        false => name.starts_with("model-") && name.ends_with(".safetensors") && !name.contains('/'),
    };
    let is_wanted = |name: &&&str| BESIDE.contains(*name) || weights(name);
    names.iter().filter(is_wanted).map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_taken_once() {
        let names = ["README.md", "config.json", "consolidated.safetensors", "model.safetensors", "pytorch_model.bin"];
        assert_eq!(chosen(&names), ["config.json", "model.safetensors"]);
        let sharded = [
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "tokenizer.json",
        ];
        assert_eq!(chosen(&sharded), [sharded[1], sharded[2], sharded[3], sharded[5]]);
    }
}
