//! A whole model as one GGUF file, which llama.cpp and the programs built on it read, with an Ollama `Modelfile`.

mod metadata;
mod modelfile;
mod tokenizer;

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use candle_core::quantized::gguf_file;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device as CandleDevice, Tensor};
use serde_json::Value;
use tokenizers::Tokenizer;
use undertone_data::guarded;
use undertone_files::{InputError, StagedFolder, WriteError, refuse_existing};
use undertone_model::import::{self, ROTARY_FACTORS, TensorPlan, gguf_tensors};
use undertone_model::{Decoder, Factors, Layer, ModelConfig, Rotary, Scaling, load_tokenizer};

use self::metadata::metadata;
use self::tokenizer::{HINT, refused_tokenizer};
use crate::base::Base;
use crate::card;
use crate::exported::{Exported, refuse_broken};
use crate::hugging_face::merged_weights;
use crate::original::Original;
use crate::verify::{PROBE_TOKENS, Probe};
use crate::weight_type::WeightType;

/// The name of the file.
const FILE: &str = "model.gguf";

/// The type of one tensor: norms and biases are F32. Blocks must divide a row; else the next type that does is taken.
fn type_of_tensor(kind: WeightType, plan: &TensorPlan) -> GgmlDType {
    let [_, width] = plan.shape[..] else { return GgmlDType::F32 };
    let is_vocabulary = ["token_embd.weight", "output.weight"].contains(&plan.gguf_name.as_str());
    let kinds: &[GgmlDType] = match kind {
        WeightType::F32 => &[GgmlDType::F32],
        WeightType::F16 => &[GgmlDType::F16],
        WeightType::Bf16 => &[GgmlDType::BF16],
        WeightType::Q4_0 if !is_vocabulary => &[GgmlDType::Q4_0],
        WeightType::Q4K if !is_vocabulary => &[GgmlDType::Q4K, GgmlDType::Q5_0],
        WeightType::Q4K => &[GgmlDType::Q6K, GgmlDType::Q8_0],
        WeightType::Q8_0 | WeightType::Q4_0 => &[GgmlDType::Q8_0],
    };
    let fits = |kind: &&GgmlDType| width.is_multiple_of(kind.block_size());
    kinds.iter().find(fits).copied().unwrap_or(GgmlDType::F16)
}

/// Writes a folder with `model.gguf`, a `Modelfile`, `undertone.json` and `README.md`: the fully fine-tuned weights, or
/// W + s·BA for LoRA, the tokenizer, the chat template of training and the token that ends a turn.
///
/// # Errors
///
/// The destination exists or cannot be written; the model or its tokenizer has no counterpart in GGUF that can be read
/// back; the folder lacks a file or belongs to another model; a weight or a logit of the model is not finite. The
/// destination then does not exist.
///
/// # Panics
///
/// If the file, read back, computes other logits than the model in F32, which is a bug.
pub fn gguf(
    model: &Decoder,
    original: Original<'_>,
    destination: &Path,
    provenance: &Value,
    kind: WeightType,
) -> Result<Exported, InputError> {
    refuse_existing(destination)?;
    let base = Base::read(original, &model.config)?;
    let metadata = metadata(&base, destination, kind)?;
    let model = model.to_device(&Device::flex());
    refuse_broken(&model, destination)?;
    let probe = Probe::of(&model, destination)?;

    let mut staged = StagedFolder::create(destination)?;
    let tensors = tensors(&model, kind)?;
    staged.write(FILE, |file| {
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(file, &metadata, &tensors).map_err(|error| match error {
            candle_core::Error::Io(error) => WriteError::Io(error),
            other => panic!("checked metadata and tensors can be written: {other}"),
        })
    })?;
    drop(tensors);
    staged.write_text("Modelfile", &modelfile::modelfile(original.template.format()))?;
    staged.write_json("undertone.json", provenance)?;
    staged.write_text("README.md", &card::of_gguf(destination, &base.original))?;

    let largest_logit_difference = read_back(&staged, &base, &probe, kind)?;
    let files = staged.publish()?;
    Ok(Exported { folder: destination.to_owned(), files, largest_logit_difference })
}

/// Every tensor under llama.cpp's name.
fn tensors(model: &Decoder, kind: WeightType) -> Result<Vec<(String, QTensor)>, InputError> {
    let weights = merged_weights(model);
    let by_name: HashMap<&str, _> = weights.iter().map(|weight| (weight.name.as_str(), weight)).collect();
    let write = |plan: TensorPlan| {
        let values = plan.stored.written((by_name[plan.name.as_str()].values)()?, &plan.shape);
        let kind = type_of_tensor(kind, &plan);
        Ok((plan.gguf_name, quantized(values, &plan.shape, kind)))
    };
    let factors = model.config.rotary.first().filter(|rotary| matches!(rotary.scaling, Scaling::Llama3 { .. }));
    let factors = factors.map(|rotary| {
        let factors = rotary.factors();
        let shape = [factors.len()];
        Ok((ROTARY_FACTORS.to_owned(), quantized(factors, &shape, GgmlDType::F32)))
    });
    gguf_tensors(&model.config).into_iter().map(write).chain(factors).collect()
}

fn quantized(values: Vec<f32>, shape: &[usize], kind: GgmlDType) -> QTensor {
    let tensor = Tensor::from_vec(values, shape, &CandleDevice::Cpu);
    tensor.and_then(|tensor| QTensor::quantize(&tensor, kind)).expect("blocks divide the rows")
}

/// Imports the file again; returns the largest difference of a logit, which quantised weights make large.
fn read_back(staged: &StagedFolder, base: &Base<'_>, probe: &Probe, kind: WeightType) -> Result<f64, InputError> {
    let folder = staged.folder().join("read-back");
    let imported = import::gguf(&staged.folder().join(FILE), &folder).map_err(|error| staged.published(error))?;
    if let Some(what) = lost(&base.config, &imported.config) {
        let cause = format!("has {what}, which GGUF cannot say of `{}` models", base.config.family.model_type);
        return Err(InputError::new(base.original.folder.join("config.json"), cause).hint(HINT));
    }
    let decoder = Decoder::load(&folder, &Device::flex()).map_err(|error| staged.published(error))?;
    let theirs = load_tokenizer(&folder, &imported.config).map_err(|error| staged.published(error))?;
    let ours = load_tokenizer(base.original.folder, &base.config)?;
    for text in TEXTS {
        let ids = |tokenizer: &Tokenizer| guarded(|| Some(tokenizer.encode_fast(text, false).ok()?.get_ids().to_vec()));
        // Flags of a tokenizer that GGUF does not have, such as `ignore_merges`.
        if ids(&ours) != ids(&theirs) {
            return Err(refused_tokenizer(base, "model", &format!("encodes {text:?} in a way that GGUF cannot say")));
        }
    }
    std::fs::remove_dir_all(&folder).map_err(|error| InputError::io(&folder, "remove", &error))?;
    Ok(match kind {
        WeightType::F32 => probe.largest_difference(&decoder),
        _ => probe.difference(&decoder),
    })
}

/// What the configuration of the file that was read back lacks. Windows are not needed if they are as long as the context.
fn lost(ours: &ModelConfig, theirs: &ModelConfig) -> Option<&'static str> {
    let rotations = |config: &ModelConfig| config.layers.iter().map(|layer| layer.rotary.is_some()).collect::<Vec<_>>();
    let windows = |config: &ModelConfig| {
        let window = |layer: &Layer| layer.window.filter(|window| *window < theirs.max_position_embeddings);
        config.layers.iter().map(window).collect::<Vec<_>>()
    };
    let frequencies =
        |config: &ModelConfig| config.rotary.iter().flat_map(Rotary::frequencies).map(f64::from).collect::<Vec<_>>();
    let factors = |config: &ModelConfig| {
        let Factors { embedding, scores, residual, logits } = config.factors;
        let attention = config.rotary.iter().map(|rotary| f64::from(rotary.attention_factor()));
        [embedding, scores, residual, logits].into_iter().chain(attention).collect::<Vec<_>>()
    };
    let differ = |numbers: &dyn Fn(&ModelConfig) -> Vec<f64>| {
        let (ours, theirs) = (numbers(ours), numbers(theirs));
        // A GGUF file has numbers of 32 bits.
        let far = |(one, other): (&f64, &f64)| (one / other - 1.0).abs() > 1e-6;
        ours.len() != theirs.len() || ours.iter().zip(&theirs).any(far)
    };
    let has_windows = ours.layers.iter().any(|layer| layer.window.is_some());
    match () {
        () if has_windows && theirs.max_position_embeddings < PROBE_TOKENS => Some("windows of very few tokens"),
        () if rotations(ours) != rotations(theirs) => Some("other blocks without rotary positions"),
        () if windows(ours) != windows(theirs) => Some("other blocks with windows of attention"),
        () if differ(&frequencies) => Some("another scaling of rotary positions"),
        () if differ(&factors) => Some("other factors of activations"),
        () => None,
    }
}

/// Texts that both tokenizers must encode in the same way.
const TEXTS: [&str; 4] = [
    "Could you write a shorter plan, please? I've got 2026 things to do.",
    "fn main() {\n    println!(\"{:?}\", vec![1, 22, 333]);\n}\n\n\tend",
    "你好, мир! Größe ﬁ 🎉🎉  two  spaces ",
    "<|im_start|>user\n<|im_end|></s>",
];
