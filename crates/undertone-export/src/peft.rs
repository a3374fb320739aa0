//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The matrices have PEFT's shapes already, unless projections share a matrix in this family. Options that change
//! the result of an adapter and that this project does not support (DoRA, per-layer ranks, biases) are
//! written as off, not left to PEFT's defaults.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use undertone_files::StagedFolder;
use undertone_files::{InputError, Place, refuse_existing};
use undertone_model::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, Decoder, LoraConfig, ModelConfig, PEFT_PREFIX, Parameter, PeftAdapter,
    PeftLayer, Weight, peft_layers, peft_module, stacked_alpha, values, write_weights,
};

use crate::base::Base;
use crate::card;
use crate::exported::{Exported, refuse_broken};
use crate::original::Original;
use crate::verify::Probe;

/// Writes the adapters of a model as a PEFT folder, with the tokenizer and a `README.md`.
///
/// The folder is that of the model that the adapters were trained on, weights included; its name for other software
/// becomes `base_model_name_or_path`. `provenance` becomes `undertone.json`.
///
/// # Errors
///
/// The model has no adapters; the destination exists or cannot be written; the folder lacks a file,
/// cannot be read, or is not what the adapters were trained on; a weight or a logit of the model is
/// not finite. The destination then does not exist.
///
/// # Panics
///
/// If the adapters, read back onto a fresh base model, compute other logits than the model, which is
/// a bug.
pub fn peft(
    model: &Decoder,
    original: Original<'_>,
    destination: &Path,
    provenance: &Value,
) -> Result<Exported, InputError> {
    refuse_existing(destination)?;
    let Some(lora) = model.lora.as_ref().filter(|_| model.parameters().into_iter().any(Parameter::is_adapter)) else {
        return Err(InputError::new(destination, "is not written: the model has no adapters")
            .hint("export a fully fine-tuned model as a Hugging Face folder"));
    };
    let layers = adapted_layers(&model.config, lora, destination)?;
    let base = Base::read(original, &model.config)?;
    let model = model.to_device(&Device::flex());
    refuse_broken(&model, destination)?;
    let mut anew = Decoder::load(base.original.folder, &Device::flex())?;
    refuse_other_base(&model, &anew, base.original.folder)?;
    let probe = Probe::of(&model, destination)?;

    let mut staged = StagedFolder::create(destination)?;
    staged.write_json(ADAPTER_CONFIG, &adapter_config(lora, &layers, base.original.name))?;
    write_weights(&mut staged, ADAPTER_WEIGHTS, &adapter_weights(&model, &layers), Dtype::F32)?;
    base.copy_tokenizer(&mut staged)?;
    staged.write_json("undertone.json", provenance)?;
    staged.write_text("README.md", &card::of_adapter(destination, &base.original))?;

    let written = PeftAdapter::read(staged.folder()).and_then(|adapter| adapter.put_on(&mut anew));
    written.map_err(|error| staged.published(error))?;
    let largest_logit_difference = probe.largest_difference(&anew);
    let files = staged.publish()?;
    Ok(Exported { folder: destination.to_owned(), files, largest_logit_difference })
}

/// Refuses a base with other weights than those that the adapters were trained on.
fn refuse_other_base(model: &Decoder, base: &Decoder, folder: &Path) -> Result<(), InputError> {
    let frozen = model.parameters().into_iter().filter(|parameter| !parameter.is_adapter());
    for (ours, theirs) in frozen.zip(base.parameters()) {
        assert_eq!(ours.name, theirs.name, "two decoders of one configuration");
        if values(ours.value().clone()) != values(theirs.value().clone()) {
            return Err(InputError::new(folder, "this weight differs from the one that the adapters were trained on")
                .at(Place::Named(ours.name.clone()))
                .hint("give the folder of the model that was fine-tuned; if its own weights were trained too, export a Hugging Face folder"));
        }
    }
    Ok(())
}

/// The matrices of a block that have adapters.
///
/// # Errors
/// Only some of the projections that share a matrix have an adapter.
fn adapted_layers(config: &ModelConfig, lora: &LoraConfig, destination: &Path) -> Result<Vec<PeftLayer>, InputError> {
    let mut layers = Vec::new();
    for &(path, parts) in peft_layers(config.family) {
        match parts.iter().filter(|part| lora.targets.contains(part)).count() {
            0 => {}
            all if all == parts.len() => layers.push((path, parts)),
            _ => {
                let cause = format!(
                    "is not written: `{}` has `{}` in one matrix, and only some of its parts have adapters",
                    config.family.model_type,
                    peft_module(path)
                );
                return Err(
                    InputError::new(destination, cause).hint("export a Hugging Face folder, with the adapters merged")
                );
            }
        }
    }
    Ok(layers)
}

/// A number as PEFT writes it: it declares alpha as an integer, but computes with any number.
fn number(number: f64) -> Value {
    if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
}

/// `adapter_config.json` as PEFT 0.17 and later read it. Adapters of projections that share a matrix are stacked
/// ([`PeftAdapter`]).
fn adapter_config(lora: &LoraConfig, layers: &[PeftLayer], base: &str) -> Value {
    let modules: Vec<&str> = layers.iter().map(|(path, _)| peft_module(path)).collect();
    let pattern = |value: &dyn Fn(usize) -> Value| -> Map<String, Value> {
        let shared = layers.iter().filter(|(_, parts)| parts.len() > 1);
        shared.map(|(path, parts)| (peft_module(path).to_owned(), value(parts.len()))).collect()
    };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": null,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": number(lora.alpha),
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "use_dora": false,
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
        "rank_pattern": pattern(&|parts| json!(parts * lora.rank)),
        "alpha_pattern": pattern(&|parts| number(stacked_alpha(lora, parts))),
    })
}

/// Every A and B under its PEFT name.
fn adapter_weights<'a>(model: &'a Decoder, layers: &'a [PeftLayer]) -> Vec<Weight<'a>> {
    let mut weights = Vec::new();
    for (number, block) in model.blocks.iter().enumerate() {
        for &(path, parts) in layers {
            let adapters = move || {
                let adapter = move |&part| block.linear(part).adapter.as_ref().expect("every part has an adapter");
                parts.iter().map(adapter)
            };
            let shape = |matrix: fn(&'a Adapter) -> &'a Parameter| {
                let dims = adapters().map(|adapter| matrix(adapter).value().dims());
                dims.fold([0, 0], |[rows, columns], [more, width]| [rows + more, columns + width])
            };
            let ([rank, _], [rows, _]) = (shape(|adapter| &adapter.a), shape(|adapter| &adapter.b));
            let width = block.linear(parts[0]).weight.value().dims()[1];
            let name = |matrix: &str| format!("{PEFT_PREFIX}model.layers.{number}.{path}.{matrix}.weight");
            let a = move || Ok(adapters().flat_map(|adapter| values(adapter.a.value().clone())).collect());
            let b = move || Ok(on_the_diagonal(adapters().map(|adapter| adapter.b.value().clone()).collect()));
            weights.push(Weight { name: name("lora_A"), shape: vec![rank, width], values: Box::new(a) });
            weights.push(Weight { name: name("lora_B"), shape: vec![rows, rank], values: Box::new(b) });
        }
    }
    weights
}

/// Matrices as the blocks on the diagonal of one, row-major; everything else is zero.
fn on_the_diagonal(matrices: Vec<Tensor<2>>) -> Vec<f32> {
    let all: usize = matrices.iter().map(|matrix| matrix.dims()[1]).sum();
    let (mut rows, mut before) = (Vec::new(), 0);
    for matrix in matrices {
        let width = matrix.dims()[1];
        for row in values(matrix).chunks(width) {
            rows.extend(std::iter::repeat_n(0.0, before));
            rows.extend_from_slice(row);
            rows.extend(std::iter::repeat_n(0.0, all - before - width));
        }
        before += width;
    }
    rows
}
