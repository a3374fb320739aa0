//! The base model of an experiment: loads and hashes it, makes trainable copies, and restores checkpoints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use undertone_data::{Role, Speaker, StreamBuilder, Template, TokenizerFailed, Turn};
use undertone_files::{InputError, Place};
use undertone_hub::{adapter_folder, model_folder};
use undertone_model::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, Decoder, LoraConfig, ModelConfig, PeftAdapter, Projection, load_template,
};
use undertone_train::{Checkpoint, Description};

use crate::digest::{sha256_of_files, sha256_of_json};
use crate::experiment::{Experiment, Method};

/// An untrained model and what identifies it.
#[derive(Debug, Clone)]
pub struct Base {
    /// Its folder.
    pub folder: PathBuf,
    /// The model.
    pub decoder: Decoder,
    /// SHA-256 over weights, `config.json` and `tokenizer.json`, in name order.
    pub sha256: String,
    /// How its conversations are written.
    pub template: Template,
    /// With which weights trainings begin, if earlier training gave them.
    start: Option<Start>,
}

/// A trainable model that earlier training gave.
#[derive(Debug, Clone)]
struct Start {
    decoder: Decoder,
    /// The users whom it knows.
    users: BTreeSet<String>,
}

impl Base {
    /// Loads the experiment's base model to its device.
    ///
    /// # Errors
    /// The program was built without the device, or the folder holds no supported model.
    pub fn load(experiment: &Experiment) -> Result<Self, InputError> {
        let path = &model_folder(&experiment.model.path)?;
        let device = experiment.device.open().map_err(|absent| {
            let built: Vec<String> = undertone_model::DeviceName::built().iter().map(ToString::to_string).collect();
            InputError::new(path, absent.to_string()).at(Place::Named("device".into())).hint(format!(
                "this build has the devices: {}; see `Devices` in README.md for how to build the others",
                built.join(", ")
            ))
        })?;
        require_folder(path)?;
        let mut decoder = Decoder::load(path, &device)?;
        decoder.set_precision(experiment.model.matmul_precision);
        if !decoder.precision().is_supported() {
            tracing::warn!(
                "note: this CPU does not support this `matmul_precision`; products are computed in f32, as in \"highest\""
            );
        }
        let template = load_template(path, &decoder.config, &experiment.model.format)?;
        if template.format().is_plain() {
            let Turn { header, end, .. } = template.format().turn(Speaker::Message(Role::User));
            tracing::warn!(
                "note: the base model has no chat template; a turn begins with its role's name, as {header:?}, and ends with {end:?}"
            );
        }
        let mut base = Self { folder: path.clone(), decoder, sha256: sha256_of_model(path)?, template, start: None };
        if !experiment.model.adapter.as_os_str().is_empty() {
            base.put_on_adapter(experiment)?;
        }
        Ok(base)
    }

    /// Puts on the adapter of `model.adapter`: it is a part of the untrained model, and trainings go on with it.
    fn put_on_adapter(&mut self, experiment: &Experiment) -> Result<(), InputError> {
        let folder = adapter_folder(&experiment.model.adapter)?;
        let mut adapter = PeftAdapter::read(&folder)?;
        adapter.lora.dropout = experiment.lora.dropout;
        require_same_shape(&adapter.lora, &experiment.lora, &folder)?;
        adapter.put_on(&mut self.decoder)?;
        let files = [ADAPTER_CONFIG, ADAPTER_WEIGHTS].map(|name| folder.join(name));
        self.sha256 = sha256_of_json(&[&self.sha256, &sha256_of_files(&files)?]);
        self.start = Some(Start { decoder: self.decoder.clone(), users: BTreeSet::new() });
        Ok(())
    }

    /// The same base model, but trainings begin with the weights of a checkpoint.
    ///
    /// # Errors
    /// As [`Self::restored`].
    pub(crate) fn starting_from(&self, experiment: &Experiment, path: &Path) -> Result<Self, InputError> {
        let checkpoint = Checkpoint::read(path)?;
        let decoder = self.restored(experiment, &checkpoint, path)?;
        let Description { trained_users, validated_users, earlier_users, .. } = checkpoint.description;
        let users = [trained_users, validated_users, earlier_users].into_iter().flatten().collect();
        Ok(Self { start: Some(Start { decoder, users }), ..self.clone() })
    }

    /// The users whom earlier training has seen.
    pub(crate) fn earlier_users(&self) -> BTreeSet<String> {
        self.start.iter().flat_map(|start| &start.users).cloned().collect()
    }

    /// A trainable copy: the weights of earlier training, or new adapters, or every weight of the base model.
    pub(crate) fn trainable(&self, experiment: &Experiment, seed: u64) -> Decoder {
        if let Some(start) = &self.start {
            return start.decoder.clone();
        }
        let mut decoder = self.decoder.clone();
        match experiment.model.method {
            Method::Lora => decoder.add_adapters(&experiment.lora, seed),
            Method::Full => decoder.train_all(),
        }
        decoder
    }

    /// A copy with the weights of a checkpoint, which must have been trained from this base.
    ///
    /// # Errors
    /// The checkpoint was trained from another base, or has other parameters than the experiment.
    pub fn restored(
        &self,
        experiment: &Experiment,
        checkpoint: &Checkpoint,
        path: &Path,
    ) -> Result<Decoder, InputError> {
        if checkpoint.description.base_model != self.sha256 {
            let base = experiment.model.path.display();
            return Err(InputError::new(path, format!("was trained from other weights than those in `{base}`"))
                .hint("point `--set model.path=` to the base model it was trained from"));
        }
        if checkpoint.description.chat_format != *self.template.format() {
            return Err(InputError::new(path, "was trained on conversations in another chat format than the base model's").hint(
                "restore the base model's chat template (`chat_template.jinja` or `tokenizer_config.json`) and `[model.format]`",
            ));
        }
        // The checkpoint replaces the weights that the seed draws.
        let mut decoder = self.trainable(experiment, experiment.seed);
        checkpoint.restore_weights(&mut decoder)?;
        Ok(decoder)
    }
}

/// Refuses an adapter that `[lora]` does not describe, which says how to.
fn require_same_shape(adapter: &LoraConfig, lora: &LoraConfig, folder: &Path) -> Result<(), InputError> {
    let keys = |lora: &LoraConfig| {
        let targets: BTreeSet<Projection> = lora.targets.iter().copied().collect();
        json!({ "rank": lora.rank, "alpha": lora.alpha, "rslora": lora.rslora, "targets": targets })
    };
    let (theirs, ours) = (keys(adapter), keys(lora));
    let differing: Vec<String> = theirs
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| ours[key.as_str()] != **value)
        .map(|(key, value)| format!("`{key} = {value}`"))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    let path = folder.join(ADAPTER_CONFIG);
    Err(InputError::new(
        path,
        "is of another adapter than `[lora]` describes, and training goes on with the adapter as it is",
    )
    .hint(format!("in `[lora]`, set {}", differing.join(", "))))
}

/// A stream builder with the base model's tokenizer, the template and the system text; reads no weights.
///
/// # Errors
/// The folder holds no model, its context is too short, or its chat format cannot be used.
pub(crate) fn stream_builder(experiment: &Experiment) -> Result<StreamBuilder, InputError> {
    let path = &model_folder(&experiment.model.path)?;
    require_folder(path)?;
    let config = ModelConfig::read(path)?;
    if experiment.data.context_tokens > config.max_position_embeddings {
        let cause = format!(
            "`data.context_tokens` ({}) exceeds the model's context of {}",
            experiment.data.context_tokens, config.max_position_embeddings
        );
        return Err(InputError::new(path, cause).hint("lower `data.context_tokens`"));
    }
    let template = load_template(path, &config, &experiment.model.format)?;
    Ok(StreamBuilder::new(template, &experiment.data.system))
}

/// The error for a tokenizer that fails on a text, though it passed its checks.
pub(crate) fn tokenizer_failed(model: &Path, failed: &TokenizerFailed) -> InputError {
    InputError::new(model.join("tokenizer.json"), failed.to_string())
        .at(Place::Named("normalizer".into()))
        .hint("the file's normalizer or pre-tokenizer is broken; get the file from its publisher again")
}

fn require_folder(path: &Path) -> Result<(), InputError> {
    if path.is_dir() {
        return Ok(());
    }
    let problem = if path.exists() { "is not a folder" } else { "does not exist" };
    Err(InputError::new(path, format!("{problem}; a Hugging Face model folder is expected"))
        .hint("`make model` puts SmolLM2-135M-Instruct under `checkpoints/`; `undertone import` converts a GGUF file; `hf:owner/name` is a model of the Hugging Face Hub"))
}

/// SHA-256 over a model folder's weights, `config.json` and `tokenizer.json`, in name order.
pub(crate) fn sha256_of_model(folder: &Path) -> Result<String, InputError> {
    let failed = |error: std::io::Error| InputError::io(folder, "read the weights", &error);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let named = |name: &str| path.file_name().is_some_and(|file| file == name);
            path.extension().is_some_and(|extension| extension == "safetensors")
                || named("config.json")
                || named("tokenizer.json")
        })
        .collect();
    files.sort();
    sha256_of_files(&files)
}
