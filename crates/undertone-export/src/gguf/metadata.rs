//! The metadata of a GGUF file: the shape of the model, its tokenizer, and the chat template.

use std::path::Path;

use candle_core::quantized::gguf_file::Value as Entry;
use serde_json::Value;
use undertone_files::{InputError, Place};
use undertone_model::import::{pre_tokenizers, token_type};

use crate::base::Base;
use crate::chat_template::chat_template;
use crate::weight_type::WeightType;

/// Keys and values, in the order of the file.
pub(super) fn metadata(
    base: &Base<'_>,
    destination: &Path,
    kind: WeightType,
) -> Result<Vec<(String, Entry)>, InputError> {
    let config = &base.config;
    let count = |number: usize| Entry::U32(u32::try_from(number).expect("a configuration has bounded numbers"));
    let name = destination.file_name().unwrap_or(destination.as_os_str()).to_string_lossy().into_owned();
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut set = |key: &str, value: Entry| entries.push((key.to_owned(), value));
    set("general.architecture", Entry::String("llama".to_owned()));
    set("general.type", Entry::String("model".to_owned()));
    set("general.name", Entry::String(name));
    set("general.file_type", Entry::U32(type_of_file(kind)));
    set("general.quantization_version", Entry::U32(2));
    set("llama.block_count", count(config.layers.len()));
    set("llama.context_length", count(config.max_position_embeddings));
    set("llama.embedding_length", count(config.hidden_size));
    set("llama.feed_forward_length", count(config.intermediate_size));
    set("llama.attention.head_count", count(config.num_attention_heads));
    set("llama.attention.head_count_kv", count(config.num_key_value_heads));
    set("llama.attention.key_length", count(config.head_dim));
    set("llama.attention.value_length", count(config.head_dim));
    set("llama.attention.layer_norm_rms_epsilon", Entry::F32(config.rms_norm_eps as f32));
    set("llama.rope.dimension_count", count(config.head_dim));
    set("llama.rope.freq_base", Entry::F32(config.rotary[0].theta as f32));
    set("llama.vocab_size", count(config.vocab_size));
    tokenizer(base, &mut entries)?;
    Ok(entries)
}

fn tokenizer(base: &Base<'_>, entries: &mut Vec<(String, Entry)>) -> Result<(), InputError> {
    let file = base.tokenizer_json()?;
    if !file["normalizer"].is_null() {
        return Err(refused_tokenizer(base, "normalizer", "has no counterpart in GGUF"));
    }
    let known = pre_tokenizers();
    let Some((pre, _)) =
        known.iter().find(|(_, known)| without_offsets(known) == without_offsets(&file["pre_tokenizer"]))
    else {
        let cause = "splits text in a way that is not written as GGUF; those of SmolLM2 and GPT-2 are";
        return Err(refused_tokenizer(base, "pre_tokenizer", cause));
    };
    let size = base.config.vocab_size;
    let mut tokens: Vec<String> = (0..size).map(|id| format!("[UNUSED{id}]")).collect();
    let mut types = vec![token_type::UNUSED; size];
    let mut put = |id: &Value, token: &str, kind: u64| {
        let id = id.as_u64().expect("a checked tokenizer has whole numbers below the vocabulary's size") as usize;
        (tokens[id], types[id]) = (token.to_owned(), kind);
    };
    for (token, id) in file["model"]["vocab"].as_object().into_iter().flatten() {
        put(id, token, token_type::NORMAL);
    }
    for added in file["added_tokens"].as_array().into_iter().flatten() {
        let kind = if added["special"] == true { token_type::CONTROL } else { token_type::USER_DEFINED };
        put(&added["id"], added["content"].as_str().unwrap_or_default(), kind);
    }
    let merges = file["model"]["merges"].as_array().into_iter().flatten();
    let merge = |merge: &Value| match merge.as_array() {
        Some(pair) => pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => merge.as_str().unwrap_or_default().to_owned(),
    };
    let merges: Vec<String> = merges.map(merge).filter(|merge| !merge.starts_with("#version")).collect();

    let texts = |texts: Vec<String>| Entry::Array(texts.into_iter().map(Entry::String).collect());
    let mut set = |key: &str, value: Entry| entries.push((format!("tokenizer.{key}"), value));
    set("ggml.model", Entry::String("gpt2".to_owned()));
    set("ggml.pre", Entry::String((*pre).to_owned()));
    set("ggml.tokens", texts(tokens));
    set("ggml.token_type", Entry::Array(types.into_iter().map(|kind| Entry::I32(kind as i32)).collect()));
    set("ggml.merges", texts(merges));
    if let Some(bos) = base.config.bos_token_id {
        set("ggml.bos_token_id", Entry::U32(bos));
    }
    // Programs stop at both; the first end is that of the user's turn.
    let ends = base.end_ids();
    set("ggml.eos_token_id", Entry::U32(ends[0]));
    set("ggml.eot_token_id", Entry::U32(ends[0]));
    // The chat template writes what a text begins with.
    set("ggml.add_bos_token", Entry::Bool(false));
    set("ggml.add_eos_token", Entry::Bool(false));
    set("chat_template", Entry::String(chat_template(base.original.template.format())));
    Ok(())
}

/// A pre-tokenizer without what does not change how it splits.
fn without_offsets(pre_tokenizer: &Value) -> Value {
    let mut plain = pre_tokenizer.clone();
    let steps: Vec<&mut Value> = match plain["pretokenizers"].as_array() {
        Some(_) => plain["pretokenizers"].as_array_mut().into_iter().flatten().collect(),
        None => vec![&mut plain],
    };
    for step in steps {
        if let Some(step) = step.as_object_mut() {
            step.shift_remove("trim_offsets");
        }
    }
    plain
}

/// llama.cpp's number of the type of a file.
fn type_of_file(kind: WeightType) -> u32 {
    match kind {
        WeightType::F32 => 0,
        WeightType::F16 => 1,
        WeightType::Q4_0 => 2,
        WeightType::Q8_0 => 7,
        WeightType::Bf16 => 32,
    }
}

/// The error of a tokenizer that GGUF does not have.
pub(super) fn refused_tokenizer(base: &Base<'_>, part: &str, cause: &str) -> InputError {
    InputError::new(base.original.folder.join("tokenizer.json"), cause)
        .at(Place::Named(part.to_owned()))
        .hint("export a Hugging Face folder, and convert it with llama.cpp's `convert_hf_to_gguf.py`")
}
