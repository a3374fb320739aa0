//! A fine-tuned model in, a folder that other tools read out; verified by reading it back.
//!
//! [`hugging_face`] writes a whole model, with any adapters merged into its weights; [`peft()`] writes
//! only the adapters. A file goes this way: `base.rs` checks the folder that the model was
//! fine-tuned from and lends its tokenizer and configuration, a [`StagedFolder`] is a hidden
//! sibling of the destination, `verify.rs` loads the result from disk and compares its logits with
//! those of the model in memory. Only then does the folder get its name: an export that computes
//! something else never exists.
//!
//! All arithmetic here is f32 on the CPU, whatever device the model was trained on. Nothing is
//! quantised, and the chat template stays the base model's.

#![warn(clippy::unwrap_used)]

mod base;
mod card;
mod peft;
mod verify;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::Value;
use undertone_data::{InputError, Place, refuse_existing};
use undertone_model::{Decoder, Linear, Parameter, Projection, StagedFolder, Weight, values};

use crate::base::Base;
use crate::verify::Probe;

pub use crate::peft::peft;

/// What an export writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// A Hugging Face folder, adapters merged.
    Hf,
    /// A PEFT adapter folder.
    Peft,
}

impl Format {
    /// Writes a model in this format: see [`hugging_face`] and [`peft()`].
    ///
    /// # Errors
    /// As these.
    pub fn write(
        self,
        model: &Decoder,
        base: &Path,
        destination: &Path,
        provenance: &Value,
    ) -> Result<Exported, InputError> {
        match self {
            Self::Hf => hugging_face(model, base, destination, provenance),
            Self::Peft => peft(model, base, destination, provenance),
        }
    }
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// The names of its files, in the order they were written.
    pub files: Vec<String>,
    /// The largest absolute difference between a logit of the model in memory and the same logit
    /// of the folder as it was read back, over 32 fixed tokens and the whole vocabulary.
    pub largest_logit_difference: f64,
}

/// Writes a complete Hugging Face folder: the fully fine-tuned weights, or W + s·BA for LoRA.
///
/// `base` is the folder of the model that was fine-tuned. Its `config.json` is kept but for the type
/// of the weights, its `generation_config.json` and tokenizer files are copied byte for byte.
/// `provenance` becomes `undertone.json`. Weights are F32; a model with tied embeddings gets no
/// `lm_head.weight`.
///
/// # Errors
///
/// The destination exists or cannot be written; `base` lacks a file or belongs to another model; a
/// weight or a logit of the model is not finite. The destination then does not exist.
///
/// # Panics
///
/// The folder as read back computes other logits than the model: a defect of ours.
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
    staged.write_weights("model.safetensors", &merged_weights(&model))?;
    staged.copy_if_present(base.folder, "generation_config.json")?;
    base.copy_tokenizer(&mut staged)?;
    staged.write_json("undertone.json", provenance)?;
    staged.write_text("README.md", &card::of_model(destination, base.folder))?;

    let read_back = Decoder::load(staged.folder(), &Device::flex()).map_err(|error| staged.published(error))?;
    let largest_logit_difference = probe.largest_difference(&read_back);
    let files = staged.publish()?;
    Ok(Exported { folder: destination.to_owned(), files, largest_logit_difference })
}

/// Refuses a model that no reader would accept.
fn refuse_broken(model: &Decoder, destination: &Path) -> Result<(), InputError> {
    for parameter in model.parameters() {
        let values = values(parameter.value().clone());
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let cause = format!("is not written: value {at} of this weight is `{}`, not a finite number", values[at]);
            return Err(InputError::new(destination, cause)
                .at(Place::Named(parameter.name.clone()))
                .hint("the training has diverged; export an earlier checkpoint, or train with a lower learning rate"));
        }
    }
    Ok(())
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
