//! A Hugging Face `config.json` in, a checked [`ModelConfig`] out.
//!
//! The supported families are rows of a table ([`Family`]). A setting that would change the numbers and that the decoder
//! does not implement is refused by name rather than ignored. Weights are read in [`crate::weights`], the tokenizer in
//! [`crate::tokenizer`].

mod family;
mod keys;
mod layers;
mod rotary;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;
use undertone_files::{FileKind, InputError, read_bounded};

pub use self::family::{Biases, FAMILIES, Family, Norms, QueryNorms, Windows};
use self::keys::{Keys, MAX_BLOCKS, MAX_CONTEXT, MAX_SIZE, MAX_VOCABULARY, shown};
pub use self::layers::Layer;
pub use self::rotary::{Rotary, Scaling};
use crate::linear::Projection;

/// The largest `config.json` that is read, in bytes. Published ones have about a thousand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HasBias {
    /// Queries, keys and values.
    pub query_key_value: bool,
    /// The output of attention.
    pub output: bool,
    /// The three of the feed-forward network.
    pub feed_forward: bool,
}

impl HasBias {
    /// Whether this projection has one.
    pub fn of(self, projection: Projection) -> bool {
        match projection {
            Projection::Q | Projection::K | Projection::V => self.query_key_value,
            Projection::O => self.output,
            Projection::Gate | Projection::Up | Projection::Down => self.feed_forward,
        }
    }
}

/// Factors of activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Of the embedding.
    pub embedding: f64,
    /// Of the scores of attention.
    pub scores: f64,
    /// Of what attention and the feed-forward network add to the residual stream.
    pub residual: f64,
    /// Of the logits.
    pub logits: f64,
}

/// The shape of a decoder, as its `config.json` gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family that it belongs to.
    pub family: &'static Family,
    /// Width of the residual stream, in numbers per token.
    pub hidden_size: usize,
    /// Inner width of the gated feed-forward network, in numbers per token.
    pub intermediate_size: usize,
    /// What differs between the decoder blocks.
    pub layers: Vec<Layer>,
    /// Query heads per block.
    pub num_attention_heads: usize,
    /// Key/value heads per block; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, in numbers; even, because rotary positions pair its halves.
    pub head_dim: usize,
    /// Tokens in the vocabulary: the rows of the embedding.
    pub vocab_size: usize,
    /// Added to the mean square inside every RMS norm.
    pub rms_norm_eps: f64,
    /// The rotary positions that [`Layer::rotary`] names.
    pub rotary: Vec<Rotary>,
    /// Which linear layers have a bias.
    pub has_bias: HasBias,
    /// Factors of activations.
    pub factors: Factors,
    /// Longest path the model was trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output projection is the embedding, transposed; the file then needs no
    /// `lm_head.weight`.
    pub tie_word_embeddings: bool,
    /// Id of the token that opens a text, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Ids of the tokens that end a text; empty if the file names none.
    pub eos_token_ids: Vec<u32>,
    /// The whole file as it was read, so that an export can write it back with only the needed
    /// changes.
    pub original: Value,
}

impl ModelConfig {
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
            .map_err(|error| FileKind::explain(InputError::new(&path, format!("is not valid JSON: {error}"))))?;
        Self::from_json(&path, original)
    }

    /// Checks a configuration that is already parsed; `path` is the file that errors name.
    ///
    /// # Errors
    ///
    /// As for [`ModelConfig::read`], except errors of reading the file.
    pub fn from_json(path: &Path, original: Value) -> Result<Self, InputError> {
        let Value::Object(object) = &original else {
            return Err(InputError::new(path, "is not a JSON object"));
        };
        let keys = Keys { path, prefix: "", object };
        let family = family_of(&keys)?;
        refuse_unsupported(&keys, family)?;

        let hidden_size = keys.size("hidden_size", MAX_SIZE)?;
        let num_hidden_layers = keys.size("num_hidden_layers", MAX_BLOCKS)?;
        let num_attention_heads = keys.size("num_attention_heads", MAX_SIZE)?;
        let key_heads = if object.contains_key("num_key_value_heads") { None } else { family.key_heads };
        let num_key_value_heads =
            keys.optional_size("num_key_value_heads", MAX_SIZE)?.unwrap_or(key_heads.unwrap_or(num_attention_heads));
        if !num_attention_heads.is_multiple_of(num_key_value_heads) {
            return Err(keys.error(
                "num_key_value_heads",
                format!(
                    "`{num_key_value_heads}` key/value heads do not divide `{num_attention_heads}` attention heads"
                ),
            ));
        }
        let head_dim = head_dim(&keys, family, hidden_size, num_attention_heads)?;
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
        let max_position_embeddings = keys.size("max_position_embeddings", MAX_CONTEXT)?;
        Ok(Self {
            family,
            hidden_size,
            intermediate_size: keys.size("intermediate_size", MAX_SIZE)?,
            layers: layers::layers(&keys, family, num_hidden_layers)?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            vocab_size,
            rms_norm_eps,
            rotary: layers::rotary(&keys, family, [head_dim, max_position_embeddings])?,
            has_bias: has_bias(&keys, family)?,
            factors: factors(&keys, family, [hidden_size, head_dim])?,
            max_position_embeddings,
            tie_word_embeddings: keys.flag_or("tie_word_embeddings", family.ties)?,
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

/// The family that `model_type` names.
fn family_of(keys: &Keys<'_>) -> Result<&'static Family, InputError> {
    let Some(name) = keys.present("model_type") else { return Err(keys.missing("model_type")) };
    let name = shown(name);
    Family::of(&name).ok_or_else(|| {
        let all: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.model_type)).collect();
        // The nearest supported one has a name that begins alike: `gemma3` for pictures, `qwen3_moe`, `gemma2`.
        let alike = |family: &&Family| name.chars().zip(family.model_type.chars()).take_while(|(a, b)| a == b).count();
        let nearest = FAMILIES.iter().max_by_key(alike).filter(|family| alike(family) >= 4);
        let hint = nearest.map_or_else(
            || "choose a base model of one of these families, such as SmolLM2".to_owned(),
            |nearest| format!("the nearest supported family is `{}`", nearest.model_type),
        );
        keys.error("model_type", format!("`{name}` is not supported; these are: {}", all.join(", "))).hint(hint)
    })
}

/// Refuses every setting that would change the numbers and is not implemented.
fn refuse_unsupported(keys: &Keys<'_>, family: &Family) -> Result<(), InputError> {
    if let Some(architectures) = keys.present("architectures") {
        let is_causal = |name: &Value| name.as_str() == Some(family.architecture);
        if !architectures.as_array().is_some_and(|names| names.iter().any(is_causal)) {
            let cause = format!("`{}` is not supported; only `{}` is", shown(architectures), family.architecture);
            return Err(keys.error("architectures", cause));
        }
    }
    for key in ["rope_interleaved", "use_bidirectional_attention"] {
        if keys.flag(key)? {
            return Err(keys.error(key, "`true` is not supported; only `false` is"));
        }
    }
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(value) = keys.present(key) {
            return Err(keys.error(key, format!("`{}` is not supported; only `null` is", shown(value))));
        }
    }
    let (key, name, _) = family.activation;
    if let Some(other) = keys.present(key).filter(|value| *value != name) {
        return Err(keys.error(key, format!("`{}` is not supported; only `{name}` is", shown(other))));
    }
    if keys.present("quantization_config").is_some() {
        return Err(keys
            .error("quantization_config", "quantised weights are not supported")
            .hint("use the release of the model in float32, float16 or bfloat16"));
    }
    Ok(())
}

fn head_dim(keys: &Keys<'_>, family: &Family, width: usize, heads: usize) -> Result<usize, InputError> {
    let head_dim = match keys.optional_size("head_dim", MAX_SIZE)?.or(family.head_dim) {
        Some(head_dim) => head_dim,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let cause = format!("`{heads}` heads do not divide `hidden_size` `{width}`, and no `head_dim` is given");
            return Err(keys.error("num_attention_heads", cause));
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(keys.error("head_dim", format!("is `{head_dim}`, but rotary positions need an even head width")));
    }
    if heads * head_dim > MAX_SIZE {
        let cause = format!("`{heads}` heads of `{head_dim}` are wider than the largest supported width, `{MAX_SIZE}`");
        return Err(keys.error("head_dim", cause));
    }
    Ok(head_dim)
}

fn has_bias(keys: &Keys<'_>, family: &Family) -> Result<HasBias, InputError> {
    let (attention, feed_forward) = (keys.flag("attention_bias")?, keys.flag("mlp_bias")?);
    match family.biases {
        Biases::ByKeys { feed_forward: false } | Biases::Never | Biases::QueryKeyValue if feed_forward => {
            Err(keys.error("mlp_bias", "`true` is not a setting of this family"))
        }
        Biases::Never if attention => Err(keys.error("attention_bias", "`true` is not a setting of this family")),
        Biases::Never => Ok(HasBias { query_key_value: false, output: false, feed_forward: false }),
        Biases::QueryKeyValue => Ok(HasBias { query_key_value: true, output: false, feed_forward: false }),
        Biases::ByKeys { .. } => Ok(HasBias { query_key_value: attention, output: attention, feed_forward }),
    }
}

fn factors(keys: &Keys<'_>, family: &Family, [width, head_dim]: [usize; 2]) -> Result<Factors, InputError> {
    let plain = Factors { embedding: 1.0, scores: (head_dim as f64).powf(-0.5), residual: 1.0, logits: 1.0 };
    let embedding = if family.scales_embedding { (width as f64).sqrt() } else { 1.0 };
    if family.has_multipliers {
        return Ok(Factors {
            embedding: keys.positive("embedding_multiplier", 1.0)?,
            scores: keys.positive("attention_multiplier", 1.0)?,
            residual: keys.positive("residual_multiplier", 1.0)?,
            logits: 1.0 / keys.positive("logits_scaling", 1.0)?,
        });
    }
    let scores = match family.query_scalar {
        Some(default) => keys.positive("query_pre_attn_scalar", default)?.powf(-0.5),
        None => plain.scores,
    };
    Ok(Factors { embedding, scores, ..plain })
}
