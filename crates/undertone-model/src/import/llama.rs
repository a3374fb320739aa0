//! The parts of a Llama model under llama.cpp's and under Hugging Face's names.
//!
//! Takes the metadata of a GGUF file; returns a `config.json` and, for each tensor, both names, the shape and whether
//! its rows are permuted.

use serde_json::{Map, Value, json};
use undertone_files::InputError;

use super::gguf::Gguf;
use crate::config::ModelConfig;
use crate::weights::listed;

/// The supported keys of the architecture. Any other key might change the numbers and is refused.
const KNOWN_KEYS: [&str; 14] = [
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.value_length",
    "llama.block_count",
    "llama.context_length",
    "llama.embedding_length",
    "llama.expert_count",
    "llama.feed_forward_length",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.type",
    "llama.vocab_size",
];

/// One tensor of the model under both names.
#[derive(Debug, PartialEq)]
pub struct TensorPlan {
    /// llama.cpp's name.
    pub gguf_name: String,
    /// The name in a Hugging Face folder.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The number of heads whose rows are stored permuted; `None` if rows are not permuted.
    pub permuted_heads: Option<usize>,
}

impl TensorPlan {
    fn new(gguf_name: &str, name: &str, shape: &[usize], permuted_heads: Option<usize>) -> Self {
        Self { gguf_name: gguf_name.to_owned(), name: name.to_owned(), shape: shape.to_vec(), permuted_heads }
    }
}

/// Every tensor of a plain Llama model, in the order of the blocks.
pub fn gguf_tensors(config: &ModelConfig) -> Vec<TensorPlan> {
    let blocks = (0..config.layers.len()).flat_map(|layer| of_block(config, layer));
    [embedding(config)].into_iter().chain(blocks).chain(after_blocks(config)).collect()
}

fn embedding(config: &ModelConfig) -> TensorPlan {
    let shape = [config.vocab_size, config.hidden_size];
    TensorPlan::new("token_embd.weight", "model.embed_tokens.weight", &shape, None)
}

fn of_block(config: &ModelConfig, layer: usize) -> [TensorPlan; 9] {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let (queries, keys) = (config.query_width(), config.key_value_width());
    let (heads, key_heads) = (Some(config.num_attention_heads), Some(config.num_key_value_heads));
    let plan = |gguf_part: &str, part: &str, shape: &[usize], permuted_heads| {
        let (gguf_name, name) =
            (format!("blk.{layer}.{gguf_part}.weight"), format!("model.layers.{layer}.{part}.weight"));
        TensorPlan::new(&gguf_name, &name, shape, permuted_heads)
    };
    [
        plan("attn_norm", "input_layernorm", &[width], None),
        plan("attn_q", "self_attn.q_proj", &[queries, width], heads),
        plan("attn_k", "self_attn.k_proj", &[keys, width], key_heads),
        plan("attn_v", "self_attn.v_proj", &[keys, width], None),
        plan("attn_output", "self_attn.o_proj", &[width, queries], None),
        plan("ffn_norm", "post_attention_layernorm", &[width], None),
        plan("ffn_gate", "mlp.gate_proj", &[inner, width], None),
        plan("ffn_up", "mlp.up_proj", &[inner, width], None),
        plan("ffn_down", "mlp.down_proj", &[width, inner], None),
    ]
}

fn after_blocks(config: &ModelConfig) -> Vec<TensorPlan> {
    let (vocabulary, width) = (config.vocab_size, config.hidden_size);
    let mut plans = vec![TensorPlan::new("output_norm.weight", "model.norm.weight", &[width], None)];
    if !config.tie_word_embeddings {
        plans.push(TensorPlan::new("output.weight", "lm_head.weight", &[vocabulary, width], None));
    }
    plans
}

/// The `config.json` that corresponds to the metadata, for a vocabulary of this many tokens.
///
/// # Errors
///
/// The architecture is not Llama, a key is missing, of the wrong type, unknown, or contradicts
/// another.
pub(super) fn config_json(gguf: &Gguf, tokens: usize) -> Result<Value, InputError> {
    let architecture = gguf.text("general.architecture")?;
    if architecture != "llama" {
        return Err(gguf
            .error("general.architecture", format!("`{architecture}` is not supported; only `llama` is"))
            .hint("choose a base model of the Llama architecture, such as SmolLM2"));
    }
    let mut unknown: Vec<&str> =
        gguf.keys().filter(|key| key.starts_with("llama.") && !KNOWN_KEYS.contains(key)).collect();
    unknown.sort_unstable();
    if let Some(key) = unknown.first() {
        return Err(gguf.error(key, "is not supported: it may change what the model computes"));
    }
    if let Some(scaling) = gguf.optional_text("llama.rope.scaling.type")?
        && scaling != "none"
    {
        return Err(gguf.error("llama.rope.scaling.type", format!("`{scaling}` is not supported; only `none` is")));
    }
    if let Some(experts @ 1..) = gguf.optional_count("llama.expert_count")? {
        return Err(gguf.error("llama.expert_count", format!("`{experts}` experts are not supported")));
    }

    let hidden = gguf.count("llama.embedding_length")?;
    let heads = gguf.count("llama.attention.head_count")?;
    if heads == 0 {
        return Err(gguf.error("llama.attention.head_count", "is `0`"));
    }
    let key_length = gguf.optional_count("llama.attention.key_length")?;
    let head_dim = key_length.unwrap_or(hidden / heads);
    if key_length.is_none() && !hidden.is_multiple_of(heads) {
        let cause = format!("`{heads}` heads do not divide `llama.embedding_length` `{hidden}`");
        return Err(gguf.error("llama.attention.head_count", cause));
    }
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(width) = gguf.optional_count(key)?
            && width != head_dim
        {
            return Err(gguf.error(key, format!("is `{width}`, but a head is `{head_dim}` wide")));
        }
    }
    if let Some(claimed) = gguf.optional_count("llama.vocab_size")?
        && claimed != tokens as u64
    {
        let cause = format!("is `{claimed}`, but `tokenizer.ggml.tokens` has `{tokens}`");
        return Err(gguf.error("llama.vocab_size", cause));
    }
    let epsilon = gguf
        .optional_number("llama.attention.layer_norm_rms_epsilon")?
        .ok_or_else(|| gguf.error("llama.attention.layer_norm_rms_epsilon", "is missing from the metadata"))?;

    let mut config = Map::new();
    let mut set = |key: &str, value: Value| config.insert(key.to_owned(), value);
    set("architectures", json!(["LlamaForCausalLM"]));
    set("attention_bias", json!(false));
    // The configuration has no key for the unknown token; the tokenizer files name it.
    for (key, id) in special_ids(gguf)?.into_iter().filter(|(key, _)| *key != "unk") {
        set(&format!("{key}_token_id"), json!(id));
    }
    set("head_dim", json!(head_dim));
    set("hidden_act", json!("silu"));
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(gguf.count("llama.feed_forward_length")?));
    set("max_position_embeddings", json!(gguf.count("llama.context_length")?));
    set("mlp_bias", json!(false));
    set("model_type", json!("llama"));
    set("num_attention_heads", json!(heads));
    set("num_hidden_layers", json!(gguf.count("llama.block_count")?));
    set("num_key_value_heads", json!(gguf.optional_count("llama.attention.head_count_kv")?.unwrap_or(heads)));
    set("rms_norm_eps", json!(epsilon));
    set("rope_scaling", Value::Null);
    set("rope_theta", json!(gguf.optional_number("llama.rope.freq_base")?.unwrap_or(10_000.0)));
    set("tie_word_embeddings", json!(!gguf.tensors().contains_key("output.weight")));
    set("torch_dtype", json!("float32"));
    set("use_cache", json!(true));
    set("vocab_size", json!(tokens));
    Ok(Value::Object(config))
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

/// Every tensor of the model, in the order of the blocks; checked to be exactly those of the file.
///
/// # Errors
///
/// A tensor is missing, has another shape than the configuration asks for, or is not used by the model.
pub(super) fn tensor_plans(gguf: &Gguf, config: &ModelConfig) -> Result<Vec<TensorPlan>, InputError> {
    let mut plans = vec![embedding(config)];
    for layer in 0..config.layers.len() {
        for plan in of_block(config, layer) {
            // Checked before the next tensor is planned, so that an absurd number of layers fails at the first missing
            // tensor.
            gguf.tensor_of_shape(&plan.gguf_name, &plan.shape)?;
            plans.push(plan);
        }
    }
    plans.extend(after_blocks(config));
    for plan in &plans {
        gguf.tensor_of_shape(&plan.gguf_name, &plan.shape)?;
    }

    let planned: std::collections::HashSet<&str> = plans.iter().map(|plan| plan.gguf_name.as_str()).collect();
    let mut unused: Vec<&str> =
        gguf.tensors().keys().map(String::as_str).filter(|name| !planned.contains(name)).collect();
    unused.sort_unstable();
    match unused.first() {
        None => Ok(plans),
        Some(first) => Err(gguf
            .error(first, format!("a plain Llama model does not use {}", listed(&unused)))
            .hint("biases, rotary scaling and experts are not supported")),
    }
}

/// Undoes llama.cpp's permutation of query or key rows.
///
/// Hugging Face rotates the first half of a head against the second; llama.cpp rotates neighbours,
/// and therefore stores row `half · head_dim/2 + pair` of each head at `2 · pair + half`
/// (`LlamaModel.permute` in llama.cpp's `convert_hf_to_gguf.py`).
///
/// # Shapes
///
/// `rows`: `[heads · head_dim, columns]`, row-major, and so is the result.
pub(super) fn unpermute(rows: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let head_dim = rows.len() / heads / columns;
    assert_eq!(rows.len(), heads * head_dim * columns, "{heads} heads and {columns} columns do not divide the rows");
    let mut restored = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(head_dim * columns) {
        for half in 0..2 {
            for pair in 0..head_dim / 2 {
                let stored = 2 * pair + half;
                restored.extend_from_slice(&head[stored * columns..(stored + 1) * columns]);
            }
        }
    }
    restored
}

/// llama.cpp's permutation of query or key rows: `w.reshape(heads, 2, head_dim / 2, columns).swapaxes(1, 2)`.
///
/// # Shapes
///
/// `rows`: `[heads · head_dim, columns]`, row-major, and so is the result.
pub fn permute(rows: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let half_dim = rows.len() / heads / columns / 2;
    assert_eq!(
        rows.len(),
        heads * 2 * half_dim * columns,
        "{heads} heads and {columns} columns do not divide the rows"
    );
    let mut stored = vec![f32::NAN; rows.len()];
    for head in 0..heads {
        for half in 0..2 {
            for pair in 0..half_dim {
                let from = ((head * 2 + half) * half_dim + pair) * columns;
                let to = ((head * half_dim + pair) * 2 + half) * columns;
                stored[to..to + columns].copy_from_slice(&rows[from..from + columns]);
            }
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_the_permutation() {
        // One head of four rows: llama.cpp stores 0 2 1 3.
        assert_eq!(permute(&[0., 1., 2., 3.], 1, 1), [0., 2., 1., 3.]);
        assert_eq!(unpermute(&[0., 2., 1., 3.], 1, 1), [0., 1., 2., 3.]);
        let rows: Vec<f32> = (0..3 * 8 * 2).map(|i| i as f32).collect();
        let stored = permute(&rows, 3, 2);
        assert_ne!(stored, rows);
        assert_eq!(unpermute(&stored, 3, 2), rows);
    }
}
