//! A whole model as a Hugging Face folder, with any adapters merged into its weights.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;
use undertone_files::StagedFolder;
use undertone_files::{InputError, refuse_existing};
use undertone_model::{Decoder, Linear, Parameter, Projection, Weight, values, write_weights};

use crate::base::Base;
use crate::card;
use crate::exported::{Exported, refuse_broken};
use crate::verify::Probe;

/// Writes a complete Hugging Face folder: the fully fine-tuned weights, or W + s·BA for LoRA.
///
/// `base` is the folder of the model that was fine-tuned. Its `config.json` is kept except for the
/// architecture and the type of the weights; its `generation_config.json` and tokenizer files are
/// copied byte for byte. `provenance` becomes `undertone.json`. Weights are F32; a model with tied
/// embeddings gets no `lm_head.weight`.
///
/// # Errors
///
/// The destination exists or cannot be written; `base` lacks a file or belongs to another model; a
/// weight or a logit of the model is not finite. The destination then does not exist.
///
/// # Panics
///
/// If the folder, read back, computes other logits than the model, which is a bug.
pub fn hugging_face(
    model: &Decoder,
    base: &Path,
    destination: &Path,
    provenance: &Value,
) -> Result<Exported, InputError> {
    refuse_existing(destination)?;
    let base = Base::read(base, &model.config)?;
    let model = model.to_device(&Device::flex());
    refuse_broken(&model, destination)?;
    let probe = Probe::of(&model, destination)?;

    let mut staged = StagedFolder::create(destination)?;
    staged.write_json("config.json", &base.float32_config())?;
    write_weights(&mut staged, "model.safetensors", &merged_weights(&model))?;
    staged.copy_if_present(base.folder, "generation_config.json")?;
    base.copy_tokenizer(&mut staged)?;
    staged.write_json("undertone.json", provenance)?;
    staged.write_text("README.md", &card::of_model(destination, base.folder))?;

    let read_back = Decoder::load(staged.folder(), &Device::flex()).map_err(|error| staged.published(error))?;
    let largest_logit_difference = probe.largest_difference(&read_back);
    let files = staged.publish()?;
    Ok(Exported { folder: destination.to_owned(), files, largest_logit_difference })
}

/// Every tensor of the merged model under its Hugging Face name.
fn merged_weights(model: &Decoder) -> Vec<Weight<'_>> {
    fn matrix(parameter: &Parameter) -> Weight<'_> {
        let shape = parameter.value().dims().to_vec();
        Weight { name: parameter.name.clone(), shape, values: Box::new(|| Ok(values(parameter.value().clone()))) }
    }
    // Norms are `[1, width]` in the decoder and `[width]` in files.
    fn vector(parameter: &Parameter) -> Weight<'_> {
        let [_, width] = parameter.value().dims();
        Weight { shape: vec![width], ..matrix(parameter) }
    }
    fn merged(linear: &Linear) -> Weight<'_> {
        Weight { values: Box::new(|| Ok(values(linear.merged()))), ..matrix(&linear.weight) }
    }
    let mut weights = vec![matrix(&model.embedding)];
    for block in &model.blocks {
        weights.extend([vector(&block.input_norm), vector(&block.post_norm)]);
        weights.extend(Projection::ALL.map(|projection| merged(block.linear(projection))));
    }
    weights.push(vector(&model.norm));
    weights.extend(model.output.as_ref().map(matrix));
    weights
}
