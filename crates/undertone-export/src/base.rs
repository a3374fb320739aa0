//! The folder of the base model: checked against the fine-tuned model, then copied from.
//!
//! This file does not read the base model's weights; a merged export does not need them.

use serde_json::{Map, Value, json};
use undertone_data::{Role, Speaker};
use undertone_files::{InputError, Place, StagedFolder, read_bounded};
use undertone_model::ModelConfig;

use crate::chat_template::chat_template;
use crate::original::Original;

/// Files of a tokenizer that may name the token at which generation ends.
const NAME_THE_END: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// The longest settings of a tokenizer or of generation that are read, in bytes.
const MAX_SETTINGS_BYTES: u64 = 16 << 20;

/// The longest `tokenizer.json` that is read, in bytes.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// The folder of a base model that fits the fine-tuned model.
pub(crate) struct Base<'a> {
    pub(crate) original: Original<'a>,
    pub(crate) config: ModelConfig,
}

impl<'a> Base<'a> {
    /// Reads the configuration of the folder, and compares it with the model's.
    pub(crate) fn read(original: Original<'a>, model: &ModelConfig) -> Result<Self, InputError> {
        let folder = original.folder;
        let config = ModelConfig::read(folder)?;
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
        Ok(Self { original, config })
    }

    /// The tokens at which generation ends: those of turns, then those of the base model.
    pub(crate) fn end_ids(&self) -> Vec<u32> {
        let mut ids = self.original.template.ends();
        for &id in &self.config.eos_token_ids {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// As JSON: a number, or a list of numbers.
    fn ends(&self) -> Value {
        let ids = self.end_ids();
        if let [id] = ids[..] { json!(id) } else { json!(ids) }
    }

    /// `tokenizer.json`.
    pub(crate) fn tokenizer_json(&self) -> Result<Value, InputError> {
        let path = self.original.folder.join("tokenizer.json");
        serde_json::from_slice(&read_bounded(&path, MAX_TOKENIZER_BYTES)?)
            .map_err(|error| InputError::new(path, format!("is not JSON: {error}")))
    }

    /// The original `config.json`, with the architecture and the type of the exported weights, and the end of a turn.
    pub(crate) fn config(&self, kind: &str) -> Value {
        let mut config = self.config.original.clone();
        config["architectures"] = json!([self.config.family.architecture]);
        config["eos_token_id"] = self.ends();
        // transformers renamed `torch_dtype` to `dtype`, and reads both.
        let spelt: Vec<&str> = ["torch_dtype", "dtype"].into_iter().filter(|key| config.get(key).is_some()).collect();
        for key in if spelt.is_empty() { vec!["torch_dtype"] } else { spelt } {
            config[key] = json!(kind);
        }
        config
    }

    /// Copies `generation_config.json`, if there is one, with the end of a turn.
    pub(crate) fn copy_generation_config(&self, staged: &mut StagedFolder) -> Result<(), InputError> {
        self.copy_changed(staged, "generation_config.json", |settings| {
            settings.insert("eos_token_id".to_owned(), self.ends());
        })
    }

    /// Copies `tokenizer.json` and its companions, with the end of a turn, and writes the chat template of training in
    /// place of the base model's.
    pub(crate) fn copy_tokenizer(&self, staged: &mut StagedFolder) -> Result<(), InputError> {
        staged.copy(self.original.folder, "tokenizer.json")?;
        let format = self.original.template.format();
        let end = &format.turn(Speaker::Message(Role::User)).end;
        for name in NAME_THE_END {
            self.copy_changed(staged, name, |settings| {
                settings.shift_remove("chat_template");
                let is_named = |token: &Value| token == end || token["content"] == *end;
                if !settings.get("eos_token").is_some_and(is_named) {
                    settings.insert("eos_token".to_owned(), json!(end));
                }
            })?;
        }
        staged.copy_if_present(self.original.folder, "added_tokens.json")?;
        staged.write_text("chat_template.jinja", &chat_template(format))
    }

    /// Copies a JSON object, if there is one, changed; byte for byte if it has no change.
    fn copy_changed(
        &self,
        staged: &mut StagedFolder,
        name: &str,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), InputError> {
        let path = self.original.folder.join(name);
        if !path.exists() {
            return Ok(());
        }
        let bytes = read_bounded(&path, MAX_SETTINGS_BYTES)?;
        let mut settings: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|error| InputError::new(&path, format!("is not a JSON object: {error}")))?;
        let original = settings.clone();
        change(&mut settings);
        if settings == original {
            return staged.copy(self.original.folder, name);
        }
        staged.write_json(name, &Value::Object(settings))
    }
}

/// The settings that must be equal in two configurations of one model, as text.
fn settings(config: &ModelConfig) -> [(&'static str, String); 19] {
    let listed = |texts: Vec<String>| texts.join(", ");
    let windows = config.layers.iter().map(|layer| layer.window.map_or("none".to_owned(), |window| window.to_string()));
    let rotated = config.layers.iter().map(|layer| layer.rotary.map_or("none".to_owned(), |index| index.to_string()));
    [
        ("model_type", config.family.model_type.to_owned()),
        ("hidden_size", config.hidden_size.to_string()),
        ("intermediate_size", config.intermediate_size.to_string()),
        ("num_hidden_layers", config.layers.len().to_string()),
        ("num_attention_heads", config.num_attention_heads.to_string()),
        ("num_key_value_heads", config.num_key_value_heads.to_string()),
        ("head_dim", config.head_dim.to_string()),
        ("vocab_size", config.vocab_size.to_string()),
        ("rms_norm_eps", config.rms_norm_eps.to_string()),
        ("rope_theta", listed(config.rotary.iter().map(ToString::to_string).collect())),
        ("no_rope_layers", listed(rotated.collect())),
        ("sliding_window", listed(windows.collect())),
        ("attention_bias", config.has_bias.query_key_value.to_string()),
        ("mlp_bias", config.has_bias.feed_forward.to_string()),
        ("embedding_multiplier", config.factors.embedding.to_string()),
        ("attention_multiplier", config.factors.scores.to_string()),
        ("residual_multiplier", config.factors.residual.to_string()),
        ("logits_scaling", config.factors.logits.to_string()),
        ("tie_word_embeddings", config.tie_word_embeddings.to_string()),
    ]
}
