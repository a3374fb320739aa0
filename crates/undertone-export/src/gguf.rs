//! A whole model as one GGUF file, which llama.cpp and the programs built on it read, with an Ollama `Modelfile`.

mod metadata;
mod modelfile;

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
use undertone_model::import::{self, TensorPlan, gguf_tensors, permute};
use undertone_model::{Decoder, HasBias, ModelConfig, Scaling, load_tokenizer};

use self::metadata::{metadata, refused_tokenizer};
use crate::base::Base;
use crate::card;
use crate::exported::{Exported, refuse_broken};
use crate::hugging_face::merged_weights;
use crate::original::Original;
use crate::verify::Probe;
use crate::weight_type::WeightType;

/// The name of the file.
const FILE: &str = "model.gguf";

/// The type of one tensor: norms are F32. Blocks must divide a row; a matrix of another width is F16.
fn type_of_tensor(kind: WeightType, plan: &TensorPlan) -> GgmlDType {
    let [_, width] = plan.shape[..] else { return GgmlDType::F32 };
    let is_vocabulary = ["token_embd.weight", "output.weight"].contains(&plan.gguf_name.as_str());
    let kind = match kind {
        WeightType::F32 => GgmlDType::F32,
        WeightType::F16 => GgmlDType::F16,
        WeightType::Bf16 => GgmlDType::BF16,
        WeightType::Q4_0 if !is_vocabulary => GgmlDType::Q4_0,
        WeightType::Q8_0 | WeightType::Q4_0 => GgmlDType::Q8_0,
    };
    if width.is_multiple_of(kind.block_size()) { kind } else { GgmlDType::F16 }
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
    refuse_other_models(&model.config, destination)?;
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

/// Refuses models that our reader of GGUF does not know, so that each file is read back before it counts.
fn refuse_other_models(config: &ModelConfig, destination: &Path) -> Result<(), InputError> {
    let family = config.family.model_type;
    let cause = if !["llama", "mistral"].contains(&family) {
        format!("`{family}` models are not written as GGUF; `llama` and `mistral` are")
    } else if config.has_bias != HasBias::default() {
        "models with biases are not written as GGUF".to_owned()
    } else if config.rotary.iter().any(|rotary| rotary.scaling != Scaling::None) {
        "models with scaled rotary positions are not written as GGUF".to_owned()
    } else if config.layers.iter().any(|layer| layer.window.is_some()) {
        "models with windows of attention are not written as GGUF".to_owned()
    } else {
        return Ok(());
    };
    Err(InputError::new(destination, format!("is not written: {cause}"))
        .hint("export a Hugging Face folder, and convert it with llama.cpp's `convert_hf_to_gguf.py`"))
}

/// Every tensor under llama.cpp's name.
fn tensors(model: &Decoder, kind: WeightType) -> Result<Vec<(String, QTensor)>, InputError> {
    let weights = merged_weights(model);
    let by_name: HashMap<&str, _> = weights.iter().map(|weight| (weight.name.as_str(), weight)).collect();
    let write = |plan: TensorPlan| {
        let values = (by_name[plan.name.as_str()].values)()?;
        let values = match plan.permuted_heads {
            Some(heads) => permute(&values, heads, model.config.hidden_size),
            None => values,
        };
        let tensor = Tensor::from_vec(values, plan.shape.clone(), &CandleDevice::Cpu)
            .and_then(|tensor| QTensor::quantize(&tensor, type_of_tensor(kind, &plan)));
        Ok((plan.gguf_name, tensor.expect("blocks divide the rows")))
    };
    gguf_tensors(&model.config).into_iter().map(write).collect()
}

/// Imports the file again; returns the largest difference of a logit, which quantised weights make large.
fn read_back(staged: &StagedFolder, base: &Base<'_>, probe: &Probe, kind: WeightType) -> Result<f64, InputError> {
    let folder = staged.folder().join("read-back");
    let imported = import::gguf(&staged.folder().join(FILE), &folder).map_err(|error| staged.published(error))?;
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

/// Texts that both tokenizers must encode in the same way.
const TEXTS: [&str; 4] = [
    "Could you write a shorter plan, please? I've got 2026 things to do.",
    "fn main() {\n    println!(\"{:?}\", vec![1, 22, 333]);\n}\n\n\tend",
    "你好, мир! Größe ﬁ 🎉🎉  two  spaces ",
    "<|im_start|>user\n<|im_end|></s>",
];
