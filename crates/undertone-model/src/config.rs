//! A Hugging Face `config.json` in, a checked [`LlamaConfig`] out.
//!
//! Only the plain Llama architecture is accepted. A setting that would change the numbers and that
//! the decoder does not implement (scaled rotary positions, biases, another activation, quantised
//! weights) is refused by name rather than ignored. Weights are read in [`crate::weights`], the
//! tokenizer in [`crate::tokenizer`].

use std::path::Path;

use serde_json::{Map, Value};
use undertone_files::{InputError, Place};

use undertone_files::read_bounded;

/// The largest `config.json` that is read, in bytes. Published ones have about a thousand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The largest believable width, number of heads or number of layers.
const MAX_SIZE: usize = 1_000_000;
/// The largest believable vocabulary, in tokens.
const MAX_VOCABULARY: usize = 10_000_000;
/// The largest believable context, in tokens.
const MAX_CONTEXT: usize = 100_000_000;

/// The shape of a Llama decoder, as its `config.json` gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Width of the residual stream, in numbers per token.
    pub hidden_size: usize,
    /// Inner width of the gated feed-forward network, in numbers per token.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub num_hidden_layers: usize,
    /// Query heads per block.
    pub num_attention_heads: usize,
    /// Key/value heads per block; divides the query heads. Absent: as many as query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, in numbers; even, because rotary positions pair its halves. Absent:
    /// `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Tokens in the vocabulary: the rows of the embedding.
    pub vocab_size: usize,
    /// Added to the mean square inside every RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies (`rope_theta`, or `rope_parameters.rope_theta` in files of
    /// newer releases). Absent: 10,000.
    pub rope_theta: f64,
    /// Longest path the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output projection is the embedding, transposed; the file then needs no
    /// `lm_head.weight`. Absent: false.
    pub tie_word_embeddings: bool,
    /// Id of the token that opens a text, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Ids of the tokens that end a text; empty if the file names none.
    pub eos_token_ids: Vec<u32>,
    /// The whole file as it was read, so that an export can write it back with only the needed
    /// changes.
    pub original: Value,
}

impl LlamaConfig {
    /// Reads and checks `config.json` in a model folder.
    ///
    /// # Errors
    ///
    /// The file is missing, too long, or not a JSON object; a key is missing, of the wrong type,
    /// out of range or at odds with another; the architecture or one of its options is not
    /// supported.
    pub fn read(folder: &Path) -> Result<Self, InputError> {
        let path = folder.join("config.json");
        let bytes = read_bounded(&path, MAX_CONFIG_BYTES)?;
        let original = serde_json::from_slice(&bytes)
            .map_err(|error| InputError::new(&path, format!("is not valid JSON: {error}")))?;
        Self::from_json(&path, original)
    }

    /// Checks a configuration that is already parsed; `path` is the file that errors name.
    ///
    /// # Errors
    ///
    /// As for [`LlamaConfig::read`], except errors of reading the file.
    pub fn from_json(path: &Path, original: Value) -> Result<Self, InputError> {
        let Value::Object(object) = &original else {
            return Err(InputError::new(path, "is not a JSON object"));
        };
        let keys = Keys { path, prefix: "", object };
        refuse_unsupported(&keys)?;

        let hidden_size = keys.size("hidden_size", MAX_SIZE)?;
        let num_attention_heads = keys.size("num_attention_heads", MAX_SIZE)?;
        let num_key_value_heads = keys.optional_size("num_key_value_heads", MAX_SIZE)?.unwrap_or(num_attention_heads);
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(keys.error(
                "num_key_value_heads",
                format!(
                    "`{num_key_value_heads}` key/value heads do not divide `{num_attention_heads}` attention heads"
                ),
            ));
        }
        let head_dim = match keys.optional_size("head_dim", MAX_SIZE)? {
            Some(head_dim) => head_dim,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                return Err(keys.error(
                    "num_attention_heads",
                    format!("`{num_attention_heads}` heads do not divide `hidden_size` `{hidden_size}`, and no `head_dim` is given"),
                ));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(
                keys.error("head_dim", format!("is `{head_dim}`, but rotary positions need an even head width"))
            );
        }
        if num_attention_heads * head_dim > MAX_SIZE {
            return Err(keys.error(
                "head_dim",
                format!("`{num_attention_heads}` heads of `{head_dim}` are wider than the largest supported width, `{MAX_SIZE}`"),
            ));
        }

        let vocab_size = keys.size("vocab_size", MAX_VOCABULARY)?;
        let rms_norm_eps = keys.number("rms_norm_eps")?.ok_or_else(|| keys.missing("rms_norm_eps"))?;
        if !(rms_norm_eps > 0.0 && rms_norm_eps < 1.0) {
            return Err(keys.error("rms_norm_eps", format!("is `{rms_norm_eps}`, not between 0 and 1")));
        }
        let eos_token_ids = match object.get("eos_token_id") {
            Some(Value::Array(ids)) => {
                ids.iter().map(|id| keys.token_id("eos_token_id", id, vocab_size)).collect::<Result<_, _>>()?
            }
            _ => keys.optional_token_id("eos_token_id", vocab_size)?.into_iter().collect(),
        };

        Ok(Self {
            hidden_size,
            intermediate_size: keys.size("intermediate_size", MAX_SIZE)?,
            num_hidden_layers: keys.size("num_hidden_layers", MAX_SIZE)?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size,
            rms_norm_eps,
            rope_theta: rope_theta(&keys)?,
            max_position_embeddings: keys.size("max_position_embeddings", MAX_CONTEXT)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings")?,
            bos_token_id: keys.optional_token_id("bos_token_id", vocab_size)?,
            eos_token_ids,
            original,
        })
    }

    /// Width of all query heads together, in numbers per token.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together (and of all value heads), in numbers per token.
    pub fn key_value_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }
}

/// Refuses every setting that would change the numbers and is not implemented.
fn refuse_unsupported(keys: &Keys<'_>) -> Result<(), InputError> {
    match keys.object.get("model_type") {
        Some(Value::String(name)) if name == "llama" => {}
        Some(other) => {
            return Err(keys
                .error("model_type", format!("`{}` is not supported; only `llama` is", shown(other)))
                .hint("choose a base model of the Llama architecture, such as SmolLM2"));
        }
        None => return Err(keys.missing("model_type")),
    }
    if let Some(architectures) = keys.present("architectures") {
        let is_causal = |name: &Value| name.as_str() == Some("LlamaForCausalLM");
        if !architectures.as_array().is_some_and(|names| names.iter().any(is_causal)) {
            return Err(keys.error(
                "architectures",
                format!("`{}` is not supported; only `LlamaForCausalLM` is", shown(architectures)),
            ));
        }
    }
    for key in ["attention_bias", "mlp_bias", "rope_interleaved"] {
        if keys.flag(key)? {
            return Err(keys.error(key, "`true` is not supported; only `false` is"));
        }
    }
    match keys.present("hidden_act") {
        Some(Value::String(name)) if name == "silu" => {}
        Some(other) => {
            return Err(keys.error("hidden_act", format!("`{}` is not supported; only `silu` is", shown(other))));
        }
        None => {}
    }
    if keys.present("quantization_config").is_some() {
        return Err(keys
            .error("quantization_config", "quantised weights are not supported")
            .hint("use the release of the model in float32, float16 or bfloat16"));
    }
    if let Some(fraction) = keys.number("partial_rotary_factor")?
        && fraction != 1.0
    {
        return Err(keys.error("partial_rotary_factor", format!("`{fraction}` is not supported; only `1` is")));
    }
    Ok(())
}

/// The base of the rotary frequencies, from the top level or from the nested rotary settings.
fn rope_theta(keys: &Keys<'_>) -> Result<f64, InputError> {
    let mut nested = None;
    for (key, prefix) in [("rope_scaling", "rope_scaling."), ("rope_parameters", "rope_parameters.")] {
        let Some(value) = keys.present(key) else { continue };
        let Value::Object(object) = value else {
            return Err(keys.error(key, format!("is `{}`, not an object", shown(value))));
        };
        for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let changes_nothing = match name.as_str() {
                "rope_type" | "type" => value == "default",
                "partial_rotary_factor" => value.as_f64() == Some(1.0),
                "rope_theta" => true,
                _ => false,
            };
            if !changes_nothing {
                return Err(keys
                    .error(
                        key,
                        format!("`{name}` = `{}` is not supported; only unscaled rotary positions are", shown(value)),
                    )
                    .hint("choose a base model without rotary scaling"));
            }
        }
        let inner = Keys { path: keys.path, prefix, object };
        nested = nested.or(inner.number("rope_theta")?);
    }
    let theta = match (keys.number("rope_theta")?, nested) {
        (Some(outer), Some(inner)) if outer != inner => {
            return Err(
                keys.error("rope_theta", format!("is `{outer}`, but `rope_parameters.rope_theta` is `{inner}`"))
            );
        }
        (outer, inner) => outer.or(inner).unwrap_or(10_000.0),
    };
    if !(theta > 1.0 && theta <= 1e12) {
        return Err(keys.error("rope_theta", format!("is `{theta}`, not between 1 and 1e12")));
    }
    Ok(theta)
}

/// The keys of one JSON object, with the file that errors name.
struct Keys<'a> {
    path: &'a Path,
    /// Put before a key in errors, such as `rope_parameters.`.
    prefix: &'a str,
    object: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn error(&self, key: &str, cause: impl Into<String>) -> InputError {
        InputError::new(self.path, cause).at(Place::Named(format!("{}{key}", self.prefix)))
    }

    fn missing(&self, key: &str) -> InputError {
        self.error(key, "is missing")
    }

    /// The value of a key, unless it is absent or null.
    fn present(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn optional_size(&self, key: &str, most: usize) -> Result<Option<usize>, InputError> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value
            .as_u64()
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| (1..=most).contains(size))
            .map(Some)
            .ok_or_else(|| self.error(key, format!("is `{}`, not a whole number from 1 to {most}", shown(value))))
    }

    fn size(&self, key: &str, most: usize) -> Result<usize, InputError> {
        self.optional_size(key, most)?.ok_or_else(|| self.missing(key))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, InputError> {
        let Some(value) = self.present(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| self.error(key, format!("is `{}`, not a number", shown(value))))
    }

    /// A flag that is false when absent.
    fn flag(&self, key: &str) -> Result<bool, InputError> {
        let Some(value) = self.present(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.error(key, format!("is `{}`, not `true` or `false`", shown(value))))
    }

    fn token_id(&self, key: &str, value: &Value, vocab_size: usize) -> Result<u32, InputError> {
        value
            .as_u64()
            .filter(|id| usize::try_from(*id).is_ok_and(|id| id < vocab_size))
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| {
                self.error(key, format!("is `{}`, not a token id below `vocab_size` `{vocab_size}`", shown(value)))
            })
    }

    fn optional_token_id(&self, key: &str, vocab_size: usize) -> Result<Option<u32>, InputError> {
        self.present(key).map(|value| self.token_id(key, value, vocab_size)).transpose()
    }
}

/// A value for an error message, without quotes around text, cut if it is long.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use serde_json::json;

    fn smollm2() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
            "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5,
            "rope_theta": 100000, "max_position_embeddings": 8192, "tie_word_embeddings": true,
            "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "rope_scaling": null,
        })
    }

    /// The SmolLM2 configuration with some keys replaced; a null removes the key.
    fn with(changes: Value) -> Result<LlamaConfig, InputError> {
        let mut value = smollm2();
        let object = value.as_object_mut().unwrap();
        for (key, change) in changes.as_object().unwrap() {
            match change {
                Value::Null => drop(object.shift_remove(key)),
                change => drop(object.insert(key.clone(), change.clone())),
            }
        }
        LlamaConfig::from_json(Path::new("config.json"), value)
    }

    fn check_refused(changes: Value, expect: &str) {
        assert_eq!(with(changes).unwrap_err().to_string(), format!("`config.json`{expect}"));
    }

    #[test]
    fn defaults_follow_the_architecture() {
        let config = with(json!({})).unwrap();
        assert_eq!((config.head_dim, config.query_width(), config.key_value_width()), (64, 576, 192));
        assert_eq!((config.bos_token_id, config.eos_token_ids.as_slice()), (Some(1), &[2][..]));
        assert_eq!(config.original, smollm2());

        let sparse = json!({"num_key_value_heads": null, "rope_theta": null, "tie_word_embeddings": null,
            "bos_token_id": null, "eos_token_id": null, "head_dim": 32});
        let config = with(sparse).unwrap();
        assert_eq!((config.num_key_value_heads, config.head_dim, config.query_width()), (9, 32, 288));
        assert_eq!((config.rope_theta, config.tie_word_embeddings), (10_000.0, false));
        assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));
    }

    #[test]
    fn both_spellings_of_theta_are_read() {
        let nested = json!({"rope_theta": null, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}});
        assert_eq!(with(nested).unwrap().rope_theta, 500_000.0);
        check_refused(
            json!({"rope_parameters": {"rope_theta": 5e5}}),
            ", `rope_theta`: is `100000`, but `rope_parameters.rope_theta` is `500000`",
        );
        check_refused(
            json!({"rope_parameters": {"rope_theta": "x"}}),
            ", `rope_parameters.rope_theta`: is `x`, not a number",
        );
        check_refused(json!({"rope_theta": 0}), ", `rope_theta`: is `0`, not between 1 and 1e12");
    }

    #[test]
    fn several_ends_are_read() {
        assert_eq!(with(json!({"eos_token_id": [2, 0]})).unwrap().eos_token_ids, [2, 0]);
        check_refused(
            json!({"eos_token_id": [2, 49152]}),
            ", `eos_token_id`: is `49152`, not a token id below `vocab_size` `49152`",
        );
        check_refused(
            json!({"bos_token_id": -1}),
            ", `bos_token_id`: is `-1`, not a token id below `vocab_size` `49152`",
        );
    }

    #[test]
    fn what_would_change_the_numbers_is_refused() {
        check_refused(json!({"model_type": "qwen2"}), ", `model_type`: `qwen2` is not supported; only `llama` is");
        check_refused(json!({"model_type": null}), ", `model_type`: is missing");
        check_refused(
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            ", `architectures`: `[\"LlamaForSequenceClassification\"]` is not supported; only `LlamaForCausalLM` is",
        );
        check_refused(
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8}}),
            ", `rope_scaling`: `rope_type` = `llama3` is not supported; only unscaled rotary positions are",
        );
        check_refused(
            json!({"rope_scaling": {"rope_type": "default", "factor": 8}}),
            ", `rope_scaling`: `factor` = `8` is not supported; only unscaled rotary positions are",
        );
        check_refused(json!({"attention_bias": true}), ", `attention_bias`: `true` is not supported; only `false` is");
        check_refused(json!({"mlp_bias": true}), ", `mlp_bias`: `true` is not supported; only `false` is");
        check_refused(json!({"hidden_act": "gelu"}), ", `hidden_act`: `gelu` is not supported; only `silu` is");
        check_refused(
            json!({"quantization_config": {"bits": 4}}),
            ", `quantization_config`: quantised weights are not supported",
        );
        check_refused(
            json!({"partial_rotary_factor": 0.5}),
            ", `partial_rotary_factor`: `0.5` is not supported; only `1` is",
        );
    }

    #[test]
    fn sizes_must_be_believable_and_fit() {
        check_refused(json!({"hidden_size": 0}), ", `hidden_size`: is `0`, not a whole number from 1 to 1000000");
        check_refused(
            json!({"intermediate_size": 1_000_001}),
            ", `intermediate_size`: is `1000001`, not a whole number from 1 to 1000000",
        );
        check_refused(json!({"vocab_size": 1.5}), ", `vocab_size`: is `1.5`, not a whole number from 1 to 10000000");
        check_refused(json!({"hidden_size": null}), ", `hidden_size`: is missing");
        check_refused(
            json!({"num_attention_heads": 10, "num_key_value_heads": 5}),
            ", `num_attention_heads`: `10` heads do not divide `hidden_size` `576`, and no `head_dim` is given",
        );
        check_refused(
            json!({"num_key_value_heads": 2}),
            ", `num_key_value_heads`: `2` key/value heads do not divide `9` attention heads",
        );
        check_refused(json!({"head_dim": 63}), ", `head_dim`: is `63`, but rotary positions need an even head width");
        check_refused(
            json!({"head_dim": 200_000}),
            ", `head_dim`: `9` heads of `200000` are wider than the largest supported width, `1000000`",
        );
        check_refused(json!({"rms_norm_eps": 0}), ", `rms_norm_eps`: is `0`, not between 0 and 1");
        check_refused(
            json!({"tie_word_embeddings": "yes"}),
            ", `tie_word_embeddings`: is `yes`, not `true` or `false`",
        );
    }

    #[test]
    fn files_that_are_no_configuration_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let cause = || LlamaConfig::read(folder.path()).unwrap_err().cause;
        assert!(cause().starts_with("cannot read: "), "{}", cause());
        fs::create_dir(&path).unwrap();
        assert_eq!(cause(), "is not a regular file");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "{\"a\":").unwrap();
        assert!(cause().starts_with("is not valid JSON: EOF"), "{}", cause());
        fs::write(&path, "[]").unwrap();
        assert_eq!(cause(), "is not a JSON object");
        fs::write(&path, " ".repeat(MAX_CONFIG_BYTES as usize + 1)).unwrap();
        assert_eq!(cause(), "is longer than 1048576 bytes, the most that is read");
        fs::write(&path, smollm2().to_string()).unwrap();
        assert_eq!(LlamaConfig::read(folder.path()).unwrap().vocab_size, 49152);
    }
}
