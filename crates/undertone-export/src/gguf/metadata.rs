//! The metadata of a GGUF file: the shape of the model, its tokenizer, and the chat template.

use std::path::Path;

use candle_core::quantized::gguf_file::Value as Entry;
use undertone_files::InputError;
use undertone_model::import::Architecture;
use undertone_model::{ModelConfig, Scaling, Windows};

use super::tokenizer::tokenizer;
use crate::base::Base;
use crate::weight_type::WeightType;

/// The local base of Gemma 3's rotary positions that no key has to say.
const LOCAL_THETA: f64 = 10_000.0;

/// Keys and values, in the order of the file.
pub(super) fn metadata(
    base: &Base<'_>,
    destination: &Path,
    kind: WeightType,
) -> Result<Vec<(String, Entry)>, InputError> {
    let config = &base.config;
    let architecture = Architecture::of(config.family).name;
    let name = destination.file_name().unwrap_or(destination.as_os_str()).to_string_lossy().into_owned();
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut set = |key: &str, value: Entry| entries.push((key.to_owned(), value));
    set("general.architecture", Entry::String(architecture.to_owned()));
    set("general.type", Entry::String("model".to_owned()));
    set("general.name", Entry::String(name));
    set("general.file_type", Entry::U32(type_of_file(kind)));
    set("general.quantization_version", Entry::U32(2));
    entries.extend(shape(config).into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value)));
    entries.extend(tokenizer(base)?);
    Ok(entries)
}

/// The keys of the architecture, without its name.
fn shape(config: &ModelConfig) -> Vec<(&'static str, Entry)> {
    let count = |number: usize| Entry::U32(u32::try_from(number).expect("a configuration has bounded numbers"));
    let number = |number: f64| Entry::F32(number as f32);
    let rotary = &config.rotary[0];
    let mut entries = vec![
        ("block_count", count(config.layers.len())),
        ("context_length", count(context(config))),
        ("embedding_length", count(config.hidden_size)),
        ("feed_forward_length", count(config.intermediate_size)),
        ("attention.head_count", count(config.num_attention_heads)),
        ("attention.head_count_kv", count(config.num_key_value_heads)),
        ("attention.key_length", count(config.head_dim)),
        ("attention.value_length", count(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", number(config.rms_norm_eps)),
        ("rope.dimension_count", count(rotary.width)),
        ("rope.freq_base", number(rotary.theta)),
        ("vocab_size", count(config.vocab_size)),
    ];
    let scaling = |method: &str, factor: f64| {
        [("rope.scaling.type", Entry::String(method.to_owned())), ("rope.scaling.factor", number(factor))]
    };
    match rotary.scaling {
        // Llama 3's factors are a tensor; no text is so long that dynamic scaling does anything.
        Scaling::None | Scaling::Dynamic | Scaling::Llama3 { .. } => {}
        Scaling::Linear { factor } => entries.extend(scaling("linear", factor)),
        Scaling::Yarn { factor, original, .. } => {
            entries.extend(scaling("yarn", factor));
            entries.push(("rope.scaling.original_context_length", count(original as usize)));
        }
    }
    if let Some(local) = config.rotary.get(1) {
        let window = config.layers.iter().find_map(|layer| layer.window);
        entries.push(("attention.sliding_window", count(window.unwrap_or(config.max_position_embeddings))));
        if local.theta != LOCAL_THETA {
            entries.push(("rope.freq_base_swa", number(local.theta)));
        }
    }
    if config.family.has_multipliers {
        entries.push(("attention.scale", number(config.factors.scores)));
        entries.push(("embedding_scale", number(config.factors.embedding)));
        entries.push(("residual_scale", number(config.factors.residual)));
        entries.push(("logit_scale", number(1.0 / config.factors.logits)));
    }
    entries
}

/// The longest context in which the file computes the same as the model: llama.cpp has windows of attention only in Gemma 3.
fn context(config: &ModelConfig) -> usize {
    let windows = config.layers.iter().filter_map(|layer| layer.window);
    match config.family.windows {
        Windows::Local(_) => config.max_position_embeddings,
        _ => windows.chain([config.max_position_embeddings]).min().unwrap_or_default(),
    }
}

/// llama.cpp's number of the type of a file.
fn type_of_file(kind: WeightType) -> u32 {
    match kind {
        WeightType::F32 => 0,
        WeightType::F16 => 1,
        WeightType::Q4_0 => 2,
        WeightType::Q8_0 => 7,
        WeightType::Q4K => 15,
        WeightType::Bf16 => 32,
    }
}
