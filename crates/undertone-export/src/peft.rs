//! Adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The matrices have PEFT's shapes already; only their names get PEFT's prefix. Options that change
//! the result of an adapter and that this project does not support (DoRA, per-layer ranks, biases) are
//! written as off, not left to PEFT's defaults.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::Dtype;
use serde_json::{Value, json};
use undertone_files::StagedFolder;
use undertone_files::{InputError, Place, refuse_existing};
use undertone_model::{Decoder, LoraConfig, Parameter, Projection, Weight, WeightFiles, values, write_weights};

use crate::base::Base;
use crate::card;
use crate::exported::{Exported, refuse_broken};
use crate::original::Original;
use crate::verify::Probe;

/// PEFT's prefix of the names of parameters.
const PREFIX: &str = "base_model.model.";

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
    let Some(lora) = model.lora.as_ref().filter(|_| model.parameters().into_iter().any(is_adapter)) else {
        return Err(InputError::new(destination, "is not written: the model has no adapters")
            .hint("export a fully fine-tuned model as a Hugging Face folder"));
    };
    if model.config.family.fused
        && lora.targets.iter().any(|target| !matches!(target, Projection::O | Projection::Down))
    {
        let cause = format!(
            "is not written: `{}` has queries, keys and values in one matrix, and these adapters have one each",
            model.config.family.model_type
        );
        return Err(InputError::new(destination, cause).hint("export a Hugging Face folder, with the adapters merged"));
    }
    let base = Base::read(original, &model.config)?;
    let model = model.to_device(&Device::flex());
    refuse_broken(&model, destination)?;
    let mut anew = Decoder::load(base.original.folder, &Device::flex())?;
    refuse_other_base(&model, &anew, base.original.folder)?;
    let probe = Probe::of(&model, destination)?;

    let mut staged = StagedFolder::create(destination)?;
    staged.write_json("adapter_config.json", &adapter_config(lora, base.original.name))?;
    write_weights(&mut staged, "adapter_model.safetensors", &adapter_weights(&model), Dtype::F32)?;
    base.copy_tokenizer(&mut staged)?;
    staged.write_json("undertone.json", provenance)?;
    staged.write_text("README.md", &card::of_adapter(destination, &base.original))?;

    put_on(&mut anew, staged.folder()).map_err(|error| staged.published(error))?;
    let largest_logit_difference = probe.largest_difference(&anew);
    let files = staged.publish()?;
    Ok(Exported { folder: destination.to_owned(), files, largest_logit_difference })
}

fn is_adapter(parameter: &Parameter) -> bool {
    parameter.name.ends_with(".lora_A.weight") || parameter.name.ends_with(".lora_B.weight")
}

/// Refuses a base with other weights than those that the adapters were trained on.
fn refuse_other_base(model: &Decoder, base: &Decoder, folder: &Path) -> Result<(), InputError> {
    let frozen = model.parameters().into_iter().filter(|parameter| !is_adapter(parameter));
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

/// The last part of a projection's path, which is how PEFT finds the layers to adapt.
fn module(projection: Projection) -> &'static str {
    let path = projection.path();
    path.rsplit_once('.').map_or(path, |(_, module)| module)
}

/// `adapter_config.json` as PEFT 0.17 and later read it.
fn adapter_config(lora: &LoraConfig, base: &str) -> Value {
    let targets: Vec<&str> =
        Projection::ALL.into_iter().filter(|projection| lora.targets.contains(projection)).map(module).collect();
    // PEFT declares alpha as an integer, but computes with any number.
    let alpha = if lora.alpha.fract() == 0.0 { json!(lora.alpha as i64) } else { json!(lora.alpha) };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": null,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "use_dora": false,
        "modules_to_save": null,
        "layers_to_transform": null,
        "layers_pattern": null,
        "rank_pattern": {},
        "alpha_pattern": {},
    })
}

/// Every A and B under its PEFT name.
fn adapter_weights<'a>(model: &'a Decoder) -> Vec<Weight<'a>> {
    let adapters = model.parameters().into_iter().filter(|parameter| is_adapter(parameter));
    let weight = |parameter: &'a Parameter| Weight {
        name: format!("{PREFIX}{}", parameter.name),
        shape: parameter.value().dims().to_vec(),
        values: Box::new(|| Ok(values(parameter.value().clone()))),
    };
    adapters.map(weight).collect()
}

/// Reads a PEFT folder that was just written, and puts its adapters on a base model.
///
/// # Errors
///
/// The file does not hold exactly the adapters that its configuration names.
///
/// # Panics
///
/// If [`adapter_config`] did not write the configuration.
fn put_on(base: &mut Decoder, folder: &Path) -> Result<(), InputError> {
    let path = folder.join("adapter_config.json");
    let bytes = fs::read(&path).map_err(|error| InputError::io(&path, "read", &error))?;
    let config: Value = serde_json::from_slice(&bytes).expect("JSON that was just written");
    let targets: Vec<&str> =
        config["target_modules"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let lora = LoraConfig {
        rank: config["r"].as_u64().expect("a rank") as usize,
        alpha: config["lora_alpha"].as_f64().expect("an alpha"),
        dropout: 0.0,
        rslora: config["use_rslora"].as_bool().expect("true or false"),
        targets: Projection::ALL.into_iter().filter(|&projection| targets.contains(&module(projection))).collect(),
    };
    base.add_adapters(&lora, 0);

    let mut files = WeightFiles::open_file(&folder.join("adapter_model.safetensors"))?;
    for parameter in base.parameters_mut().into_iter().filter(|parameter| is_adapter(parameter)) {
        let shape = parameter.value().dims();
        let values = files.take(&format!("{PREFIX}{}", parameter.name), &shape)?;
        parameter.set(Tensor::from_data(TensorData::new(values, shape), &Device::flex()));
    }
    files.finish()
}
