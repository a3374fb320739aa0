//! The folder of the base model: checked against the fine-tuned model, then copied from.
//!
//! This file does not read the base model's weights; a merged export does not need them.

use std::path::Path;

use serde_json::{Value, json};
use undertone_files::StagedFolder;
use undertone_files::{InputError, Place};
use undertone_model::{LlamaConfig, load_tokenizer};

/// Files that a tokenizer may have besides `tokenizer.json`. Newer releases of transformers keep the
/// chat template in a file of its own.
const TOKENIZER_COMPANIONS: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"];

/// The folder of a base model that fits the fine-tuned model.
pub(crate) struct Base<'a> {
    pub(crate) folder: &'a Path,
    config: LlamaConfig,
}

impl<'a> Base<'a> {
    /// Reads the configuration and the tokenizer of `folder`, and compares them with the model's.
    pub(crate) fn read(folder: &'a Path, model: &LlamaConfig) -> Result<Self, InputError> {
        let config = LlamaConfig::read(folder)?;
        let path = folder.join("config.json");
        for ((key, theirs), (_, ours)) in settings(&config).into_iter().zip(settings(model)) {
            if theirs != ours {
                return Err(InputError::new(path, format!("is `{theirs}`, but the fine-tuned model has `{ours}`"))
                    .at(Place::Named(key.to_owned()))
                    .hint("give the folder of the model that was fine-tuned"));
            }
        }
        let tokenizer = folder.join("tokenizer.json");
        if !tokenizer.exists() {
            return Err(InputError::new(tokenizer, "is missing; an export needs the tokenizer")
                .hint("give the folder of the model that was fine-tuned, complete with its tokenizer"));
        }
        load_tokenizer(folder, &config)?;
        Ok(Self { folder, config })
    }

    /// The original `config.json`, with the architecture and the type of the exported weights.
    pub(crate) fn float32_config(&self) -> Value {
        let mut config = self.config.original.clone();
        config["architectures"] = json!(["LlamaForCausalLM"]);
        // transformers renamed `torch_dtype` to `dtype`, and reads both.
        let spelt: Vec<&str> = ["torch_dtype", "dtype"].into_iter().filter(|key| config.get(key).is_some()).collect();
        for key in if spelt.is_empty() { vec!["torch_dtype"] } else { spelt } {
            config[key] = json!("float32");
        }
        config
    }

    /// Copies `tokenizer.json` and its companions.
    pub(crate) fn copy_tokenizer(&self, staged: &mut StagedFolder) -> Result<(), InputError> {
        staged.copy(self.folder, "tokenizer.json")?;
        TOKENIZER_COMPANIONS.iter().try_for_each(|name| staged.copy_if_present(self.folder, name))
    }
}

/// The settings that must be equal in two configurations of one model, as text.
fn settings(config: &LlamaConfig) -> [(&'static str, String); 10] {
    [
        ("hidden_size", config.hidden_size.to_string()),
        ("intermediate_size", config.intermediate_size.to_string()),
        ("num_hidden_layers", config.num_hidden_layers.to_string()),
        ("num_attention_heads", config.num_attention_heads.to_string()),
        ("num_key_value_heads", config.num_key_value_heads.to_string()),
        ("head_dim", config.head_dim.to_string()),
        ("vocab_size", config.vocab_size.to_string()),
        ("rms_norm_eps", config.rms_norm_eps.to_string()),
        ("rope_theta", config.rope_theta.to_string()),
        ("tie_word_embeddings", config.tie_word_embeddings.to_string()),
    ]
}
