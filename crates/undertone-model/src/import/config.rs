//! The `config.json` that corresponds to the metadata of a GGUF file.

use serde_json::{Map, Value, json};
use undertone_files::InputError;

use super::architecture::Architecture;
use super::gguf::Gguf;
use crate::config::{Biases, Family, Rotary, Scaling, Windows};

/// The supported keys of all architectures, without the name of the architecture. Any other key might change the numbers
/// and is refused.
const KNOWN_KEYS: [&str; 17] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "vocab_size",
];

/// The tensor with what the frequency of each pair is divided by.
pub const ROTARY_FACTORS: &str = "rope_freqs.weight";

/// The wavelengths between which Llama 3's scaling sets in, as parts of the original context: the same in all models.
const LLAMA3_BAND: [f64; 2] = [1.0, 4.0];

/// The blocks of Gemma 3 that see everything: each sixth, which no key says.
const GEMMA_PERIOD: u64 = 6;

/// The blocks of Gemma 3 27B, whose scores have another factor, which no key says.
const GEMMA_27B_BLOCKS: u64 = 62;

/// The blocks of SmolLM3 without rotary positions: each fourth, which no key says.
const SMOLLM3_INTERVAL: u64 = 4;

/// The architecture that the metadata name.
///
/// # Errors
/// It is not supported.
pub(super) fn architecture(gguf: &Gguf) -> Result<&'static Architecture, InputError> {
    let name = gguf.text("general.architecture")?;
    Architecture::called(name).ok_or_else(|| {
        gguf.error("general.architecture", format!("`{name}` is not supported; these are: {}", Architecture::names()))
            .hint("choose a base model of one of these architectures, such as SmolLM2")
    })
}

/// The metadata of one architecture.
struct Metadata<'a> {
    gguf: &'a Gguf,
    architecture: &'static Architecture,
}

impl Metadata<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    fn count(&self, key: &str) -> Result<u64, InputError> {
        self.gguf.count(&self.key(key))
    }

    fn optional_count(&self, key: &str) -> Result<Option<u64>, InputError> {
        self.gguf.optional_count(&self.key(key))
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>, InputError> {
        self.gguf.optional_number(&self.key(key))
    }

    fn error(&self, key: &str, cause: impl Into<String>) -> InputError {
        self.gguf.error(&self.key(key), cause)
    }

    /// Refuses keys that might change what the model computes.
    fn refuse_unknown(&self) -> Result<(), InputError> {
        let prefix = self.key("");
        let is_known = |key: &str| KNOWN_KEYS.contains(&key) || self.architecture.own_keys.contains(&key);
        let own = self.gguf.keys().filter_map(|key| key.strip_prefix(&prefix));
        let mut unknown: Vec<&str> = own.filter(|key| !is_known(key)).collect();
        unknown.sort_unstable();
        if let Some(key) = unknown.first() {
            return Err(self.error(key, "is not supported: it may change what the model computes"));
        }
        match self.optional_count("expert_count")? {
            Some(experts @ 1..) => Err(self.error("expert_count", format!("`{experts}` experts are not supported"))),
            _ => Ok(()),
        }
    }

    /// The width of a head.
    fn head_dim(&self, hidden: u64, heads: u64) -> Result<u64, InputError> {
        if heads == 0 {
            return Err(self.error("attention.head_count", "is `0`"));
        }
        let key_length = self.optional_count("attention.key_length")?;
        if key_length.is_none() && !hidden.is_multiple_of(heads) {
            let cause = format!("`{heads}` heads do not divide `{}` `{hidden}`", self.key("embedding_length"));
            return Err(self.error("attention.head_count", cause));
        }
        let head_dim = key_length.unwrap_or(hidden / heads);
        match self.optional_count("attention.value_length")? {
            Some(width) if width != head_dim => {
                Err(self.error("attention.value_length", format!("is `{width}`, but a head is `{head_dim}` wide")))
            }
            _ => Ok(head_dim),
        }
    }

    /// The scaling of rotary positions, as `rope_scaling`.
    fn rope_scaling(&self, [theta, width]: [f64; 2]) -> Result<Value, InputError> {
        let key = "rope.scaling.type";
        let method = self.gguf.optional_text(&self.key(key))?.unwrap_or("none");
        let factor = || {
            let factor = self.optional_number("rope.scaling.factor")?;
            factor.ok_or_else(|| self.error("rope.scaling.factor", "is missing from the metadata"))
        };
        match method {
            "none" if self.gguf.has_tensor(ROTARY_FACTORS) => self.llama3(theta, width as usize),
            "none" => Ok(Value::Null),
            "linear" => Ok(json!({ "rope_type": "linear", "factor": factor()? })),
            "yarn" => {
                let mut scaling = json!({ "rope_type": "yarn", "factor": factor()? });
                if let Some(original) = self.optional_count("rope.scaling.original_context_length")? {
                    scaling["original_max_position_embeddings"] = json!(original);
                }
                Ok(scaling)
            }
            other => Err(self.error(key, format!("`{other}` is not supported; `none`, `linear` and `yarn` are"))),
        }
    }

    /// Llama 3's scaling, found by its factors for each pair.
    fn llama3(&self, theta: f64, width: usize) -> Result<Value, InputError> {
        let stored = self.gguf.tensor(ROTARY_FACTORS, &[width / 2])?;
        let factor = f64::from(stored.iter().copied().fold(1.0, f32::max));
        let [low, high] = LLAMA3_BAND;
        for original in (4..=20).map(|power| f64::from(1 << power)) {
            let rotary = Rotary { theta, width, scaling: Scaling::Llama3 { factor, low, high, original } };
            if rotary.factors().iter().zip(&stored).all(|(ours, theirs)| (ours / theirs - 1.0).abs() < 1e-3) {
                return Ok(json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                    "original_max_position_embeddings": original as u64,
                }));
            }
        }
        Err(self
            .gguf
            .error(ROTARY_FACTORS, "scales rotary positions in another way than Llama 3")
            .hint("use the model's Hugging Face folder, which says how"))
    }
}

/// The `config.json` that corresponds to the metadata, for a vocabulary of this many tokens.
///
/// # Errors
///
/// The architecture is not supported, a key is missing, of the wrong type, unknown, or contradicts another.
pub(super) fn config_json(gguf: &Gguf, tokens: usize) -> Result<Value, InputError> {
    let metadata = Metadata { gguf, architecture: architecture(gguf)? };
    metadata.refuse_unknown()?;
    let family = Family::of(metadata.architecture.model_type).expect("every architecture has a family");
    let (hidden, heads) = (metadata.count("embedding_length")?, metadata.count("attention.head_count")?);
    let head_dim = metadata.head_dim(hidden, heads)?;
    let rotated = metadata.optional_count("rope.dimension_count")?.unwrap_or(head_dim);
    if rotated != head_dim && !family.rotates_partly {
        let cause = format!("is `{rotated}`, but a head is `{head_dim}` wide");
        return Err(metadata.error("rope.dimension_count", cause));
    }
    if let Some(claimed) = metadata.optional_count("vocab_size")?
        && claimed != tokens as u64
    {
        let cause = format!("is `{claimed}`, but `tokenizer.ggml.tokens` has `{tokens}`");
        return Err(metadata.error("vocab_size", cause));
    }
    let epsilon = metadata.optional_number("attention.layer_norm_rms_epsilon")?;
    let epsilon =
        epsilon.ok_or_else(|| metadata.error("attention.layer_norm_rms_epsilon", "is missing from the metadata"))?;
    let theta = metadata.optional_number("rope.freq_base")?.unwrap_or(10_000.0);
    let key_heads = metadata.optional_count("attention.head_count_kv")?.unwrap_or(heads);
    let (activation, name, _) = family.activation;

    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    set("architectures", json!([family.architecture]));
    // The order of the keys stays, so that a file imported again has the same bytes.
    if let Biases::ByKeys { .. } = family.biases {
        set("attention_bias", json!(gguf.has_tensor("blk.0.attn_q.bias")));
    }
    // The configuration has no key for the unknown token; the tokenizer files name it.
    for (key, id) in special_ids(gguf)?.into_iter().filter(|(key, _)| *key != "unk") {
        set(&format!("{key}_token_id"), json!(id));
    }
    set(activation, json!(name));
    set("head_dim", json!(head_dim));
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(metadata.count("feed_forward_length")?));
    set("max_position_embeddings", json!(metadata.count("context_length")?));
    if let Biases::ByKeys { feed_forward: true } = family.biases {
        set("mlp_bias", json!(gguf.has_tensor("blk.0.ffn_gate.bias")));
    }
    set("model_type", json!(family.model_type));
    set("num_attention_heads", json!(heads));
    set("num_hidden_layers", json!(metadata.count("block_count")?));
    set("num_key_value_heads", json!(key_heads));
    set("rms_norm_eps", json!(epsilon));
    set("rope_scaling", metadata.rope_scaling([theta, rotated as f64])?);
    set("rope_theta", json!(theta));
    set("tie_word_embeddings", json!(!gguf.has_tensor("output.weight")));
    set("torch_dtype", json!("float32"));
    set("use_cache", json!(true));
    set("vocab_size", json!(tokens));
    if rotated != head_dim {
        set("partial_rotary_factor", json!(rotated as f64 / head_dim as f64));
    }
    config.extend(of_family(&metadata, family, [hidden, heads, head_dim])?);
    Ok(Value::Object(config))
}

/// What only some families have.
fn of_family(
    metadata: &Metadata<'_>,
    family: &Family,
    [hidden, heads, head_dim]: [u64; 3],
) -> Result<Map<String, Value>, InputError> {
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    let blocks = metadata.count("block_count")?;
    match family.windows {
        Windows::Never => {}
        Windows::Upper(_) => {
            set("use_sliding_window", json!(false));
            set("sliding_window", Value::Null);
        }
        Windows::All(_) => {
            set("sliding_window", json!(metadata.optional_count("attention.sliding_window")?));
        }
        Windows::Local(_) => {
            set("sliding_window", json!(metadata.count("attention.sliding_window")?));
            let kind =
                |block: u64| if block.is_multiple_of(GEMMA_PERIOD) { "full_attention" } else { "sliding_attention" };
            // An absurd number of blocks is refused when the configuration is checked.
            set("layer_types", json!((1..=blocks.min(10_000)).map(kind).collect::<Vec<_>>()));
            let local = metadata.optional_number("rope.freq_base_swa")?.unwrap_or(10_000.0);
            set("rope_local_base_freq", json!(local));
        }
    }
    if family.query_scalar.is_some() {
        set("query_pre_attn_scalar", json!(if blocks == GEMMA_27B_BLOCKS { hidden / heads } else { head_dim }));
    }
    if family.skips_rotation {
        set("no_rope_layer_interval", json!(SMOLLM3_INTERVAL));
    }
    if family.has_multipliers {
        let number = |key: &str, default: f64| Ok::<_, InputError>(metadata.optional_number(key)?.unwrap_or(default));
        set("embedding_multiplier", json!(number("embedding_scale", 1.0)?));
        set("attention_multiplier", json!(number("attention.scale", (head_dim as f64).powf(-0.5))?));
        set("residual_multiplier", json!(number("residual_scale", 1.0)?));
        set("logits_scaling", json!(number("logit_scale", 1.0)?));
    }
    Ok(config)
}

/// The special tokens that the metadata name, as Hugging Face calls them: `bos`, `eos`, `unk`,
/// `pad`.
pub(super) fn special_ids(gguf: &Gguf) -> Result<Vec<(&'static str, u64)>, InputError> {
    let roles = [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")];
    let mut ids = Vec::new();
    for (name, gguf_name) in roles {
        if let Some(id) = gguf.optional_count(&format!("tokenizer.ggml.{gguf_name}_token_id"))? {
            ids.push((name, id));
        }
    }
    Ok(ids)
}
