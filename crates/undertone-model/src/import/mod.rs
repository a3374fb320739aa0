//! Converts weights in other formats to Hugging Face folders.
//!
//! [`gguf()`] turns a GGUF file into the folder that the decoder and every other tool read:
//! `config.json`, `generation_config.json`, `model.safetensors` (F32), `tokenizer.json` and its
//! companions, and `import.json`, which names the source. The file passes through
//! `header.rs` (claims), `gguf.rs` (values), `config.rs` and `architecture.rs` (names) and `tokenizer.rs`. `undertone-export`
//! writes GGUF with the same names.

mod architecture;
mod config;
mod gguf;
mod header;
mod permute;
mod tokenizer;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use undertone_files::{FileKind, InputError};

pub use self::architecture::{Architecture, Stored, TensorPlan, gguf_tensors};
use self::architecture::{after_blocks, embedding, of_block};
pub use self::config::ROTARY_FACTORS;
use self::gguf::Gguf;
pub use self::tokenizer::{Splits, splits, token_type};
use crate::config::{ModelConfig, Scaling};
use crate::weight_file::{Weight, write_weights};
use crate::weights::listed;
use undertone_files::StagedFolder;

/// What an import read and wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportReport {
    /// The folder that was written.
    pub destination: PathBuf,
    /// SHA-256 of the source file, in hexadecimal.
    pub source_sha256: String,
    /// Size of the source file, in bytes.
    pub source_bytes: u64,
    /// The number of tensors of each stored type. All are written as F32, which does not restore the precision that a
    /// smaller type lost.
    pub tensors_by_type: BTreeMap<&'static str, usize>,
    /// Parameters of the model.
    pub parameters: u64,
    /// Bytes that text can contain but the vocabulary cannot encode; the tokenizer drops them. SmolLM2 has eight: six
    /// control characters, and the first bytes of two ranges of unassigned characters.
    pub unencodable_bytes: Vec<u8>,
    /// The configuration that was written.
    pub config: ModelConfig,
}

/// Imports a GGUF file, or the parts of a split one, of a supported architecture.
///
/// The weights are dequantised to `f32`, and what llama.cpp stores otherwise (the order of rows of queries and keys, norms of
/// Gemma) is undone, so both models compute the same. The destination appears whole or not at all.
///
/// # Errors
///
/// The source is not a GGUF file, is damaged, contradicts itself, or needs something that the
/// decoder does not have; the destination exists or cannot be written.
pub fn gguf(source: &Path, destination: &Path) -> Result<ImportReport, InputError> {
    let gguf = Gguf::open(source).map_err(FileKind::explain)?;
    config::architecture(&gguf)?;
    let tokenizer = tokenizer::tokenizer_files(&gguf)?;
    let config = ModelConfig::from_json(source, config::config_json(&gguf, tokenizer.tokens)?)?;
    let plans = tensor_plans(&gguf, &config)?;
    // Built once to check that the library accepts it, and that its merges can be applied.
    let tokenizer_json = tokenizer.tokenizer.to_string();
    crate::tokenizer::parse(source, tokenizer_json.as_bytes(), config.vocab_size)?;

    let mut tensors_by_type = BTreeMap::new();
    let mut parameters = 0;
    for plan in &plans {
        *tensors_by_type.entry(gguf.tensor_of_shape(&plan.gguf_name, &plan.shape)?.block.name).or_insert(0) += 1;
        parameters += plan.shape.iter().product::<usize>() as u64;
    }
    let report = ImportReport {
        destination: destination.to_owned(),
        source_sha256: gguf.sha256(),
        source_bytes: gguf.file_bytes(),
        tensors_by_type,
        parameters,
        unencodable_bytes: tokenizer.unencodable_bytes.clone(),
        config,
    };

    let generation = generation_config(&gguf, &report.config)?;
    let mut staged = StagedFolder::create(destination)?;
    staged.write_json("config.json", &report.config.original)?;
    staged.write_json("generation_config.json", &generation)?;
    staged.write_json("tokenizer.json", &tokenizer.tokenizer)?;
    staged.write_json("tokenizer_config.json", &tokenizer.config)?;
    staged.write_json("special_tokens_map.json", &tokenizer.special_tokens)?;
    staged.write_json("import.json", &provenance(source, &report))?;
    let gguf = &gguf;
    let mut weights = Vec::new();
    for plan in &plans {
        let values = move || Ok(plan.stored.read(gguf.tensor(&plan.gguf_name, &plan.shape)?, &plan.shape));
        weights.push(Weight { name: plan.name.clone(), shape: plan.shape.clone(), values: Box::new(values) });
    }
    write_weights(&mut staged, "model.safetensors", &weights, Dtype::F32)?;
    staged.publish()?;
    Ok(report)
}

/// Every tensor of the model, in the order of the blocks; checked to be exactly those of the file.
///
/// # Errors
///
/// A tensor is missing, has another shape than the configuration asks for, or is not used by the model.
fn tensor_plans(gguf: &Gguf, config: &ModelConfig) -> Result<Vec<TensorPlan>, InputError> {
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
    let scales = config.rotary.iter().any(|rotary| matches!(rotary.scaling, Scaling::Llama3 { .. }));
    let planned: HashSet<&str> = plans.iter().map(|plan| plan.gguf_name.as_str()).collect();
    let is_used = |name: &&str| planned.contains(name) || scales && *name == ROTARY_FACTORS;
    let mut unused: Vec<&str> = gguf.tensor_names().filter(|name| !is_used(name)).collect();
    unused.sort_unstable();
    match unused.first() {
        None => Ok(plans),
        Some(first) => {
            let family = config.family.model_type;
            Err(gguf.error(first, format!("a plain `{family}` model does not use {}", listed(&unused))))
        }
    }
}

/// `generation_config.json`: the special ids, as the configuration has them. Generation also ends at the end of a turn.
fn generation_config(gguf: &Gguf, config: &ModelConfig) -> Result<Value, InputError> {
    const END_OF_TURN: &str = "tokenizer.ggml.eot_token_id";
    let mut generation = Map::new();
    generation.insert("_from_model_config".into(), json!(true));
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] {
        if let Some(id) = config.original.get(key) {
            generation.insert(key.into(), id.clone());
        }
    }
    if let Some(turn) = gguf.optional_count(END_OF_TURN)? {
        if turn >= config.vocab_size as u64 {
            return Err(gguf.error(END_OF_TURN, format!("`{turn}` is not in the vocabulary")));
        }
        let text = generation.get("eos_token_id").filter(|text| **text != json!(turn)).cloned();
        let ends = text.map_or(json!(turn), |text| json!([text, turn]));
        generation.insert("eos_token_id".into(), ends);
    }
    Ok(Value::Object(generation))
}

/// `import.json`: the source of the folder.
fn provenance(source: &Path, report: &ImportReport) -> Value {
    json!({
        "source": source.file_name().map(|name| name.to_string_lossy()),
        "source_sha256": report.source_sha256,
        "source_bytes": report.source_bytes,
        "tensors_by_type": report.tensors_by_type,
        "tool": concat!("undertone-model ", env!("CARGO_PKG_VERSION")),
    })
}
