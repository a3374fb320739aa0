//! A whole model as a Hugging Face folder, with any adapters merged into its weights.

use std::path::Path;

use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::{Map, Value, json};
use undertone_files::StagedFolder;
use undertone_files::{InputError, refuse_existing};
use undertone_model::{Decoder, Linear, Parameter, Projection, Weight, values, write_weights};

use crate::base::Base;
use crate::card;
use crate::exported::{Exported, refuse_broken};
use crate::original::Original;
use crate::verify::Probe;
use crate::weight_type::{Packing, WeightType};

/// Writes a complete Hugging Face folder: the fully fine-tuned weights, or W + s·BA for LoRA.
///
/// The folder of the model that was fine-tuned gives the rest. Its `config.json` is kept except for the
/// architecture, the type of the weights and the tokens at which generation ends: the end of a turn comes first, also
/// in `generation_config.json` and in the tokenizer's files. The rest of these files is copied. `chat_template.jinja` is
/// that of training. `provenance` becomes `undertone.json`. A model with tied
/// embeddings gets no `lm_head.weight`.
///
/// # Errors
///
/// The destination exists or cannot be written; the folder lacks a file or belongs to another model; a
/// weight or a logit of the model is not finite. The destination then does not exist.
///
/// # Panics
///
/// If the folder, read back, computes other logits than the model in F32, which is a bug.
pub fn hugging_face(
    model: &Decoder,
    original: Original<'_>,
    destination: &Path,
    provenance: &Value,
    packing: Packing,
) -> Result<Exported, InputError> {
    let Packing { kind, shard_bytes } = packing;
    refuse_existing(destination)?;
    let Some((dtype, name)) = kind.of_safetensors() else {
        return Err(InputError::new(
            destination,
            "is not written: a Hugging Face folder has no blocks of 4 or 8 bits here",
        )
        .hint("choose `f32`, `f16` or `bf16`, or the format `gguf`"));
    };
    let base = Base::read(original, &model.config)?;
    let model = model.to_device(&Device::flex());
    refuse_broken(&model, destination)?;
    let probe = Probe::of(&model, destination)?;

    let mut staged = StagedFolder::create(destination)?;
    staged.write_json("config.json", &base.config(name))?;
    write_shards(&mut staged, merged_weights(&model), dtype, shard_bytes)?;
    base.copy_generation_config(&mut staged)?;
    base.copy_tokenizer(&mut staged)?;
    staged.write_json("undertone.json", provenance)?;
    staged.write_text("README.md", &card::of_model(destination, &base.original))?;

    let read_back = Decoder::load(staged.folder(), &Device::flex()).map_err(|error| staged.published(error))?;
    let largest_logit_difference = match kind {
        WeightType::F32 => probe.largest_difference(&read_back),
        _ => probe.difference(&read_back),
    };
    let files = staged.publish()?;
    Ok(Exported { folder: destination.to_owned(), files, largest_logit_difference })
}

/// Writes `model.safetensors`, or several files with an index if the weights are larger than one may be.
fn write_shards(
    staged: &mut StagedFolder,
    weights: Vec<Weight<'_>>,
    dtype: Dtype,
    shard_bytes: u64,
) -> Result<(), InputError> {
    let bytes = |weight: &Weight<'_>| (weight.shape.iter().product::<usize>() * dtype.bitsize() / 8) as u64;
    let all: u64 = weights.iter().map(bytes).sum();
    let (mut shards, mut room) = (Vec::<Vec<Weight<'_>>>::new(), 0);
    for weight in weights {
        let needed = bytes(&weight);
        match shards.last_mut().filter(|_| needed <= room) {
            Some(shard) => {
                shard.push(weight);
                room -= needed;
            }
            None => {
                shards.push(vec![weight]);
                room = shard_bytes.saturating_sub(needed);
            }
        }
    }
    if let [whole] = &shards[..] {
        return write_weights(staged, "model.safetensors", whole, dtype);
    }
    let mut places = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
        write_weights(staged, &name, shard, dtype)?;
        places.extend(shard.iter().map(|weight| (weight.name.clone(), json!(name))));
    }
    let index = json!({ "metadata": { "total_size": all }, "weight_map": places });
    staged.write_json("model.safetensors.index.json", &index)
}

/// Every tensor of the merged model under its Hugging Face name.
pub(crate) fn merged_weights(model: &Decoder) -> Vec<Weight<'_>> {
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
    for (index, block) in model.blocks.iter().enumerate() {
        weights.extend(block.norms().map(|norm| vector(&norm.weight)));
        let linears = Projection::ALL.map(|projection| block.linear(projection));
        if model.config.family.fused {
            let [q, k, v, o, gate, up, down] = linears;
            let path = format!("model.layers.{index}");
            weights.push(fused(format!("{path}.self_attn.qkv_proj.weight"), vec![q, k, v]));
            weights.push(merged(o));
            weights.push(fused(format!("{path}.mlp.gate_up_proj.weight"), vec![gate, up]));
            weights.push(merged(down));
        } else {
            weights.extend(linears.map(merged));
        }
        weights.extend(linears.into_iter().filter_map(|linear| linear.bias.as_ref()).map(vector));
    }
    weights.push(vector(&model.norm.weight));
    weights.extend(model.output.as_ref().map(matrix));
    weights
}

/// Linear layers that the file has as one matrix: their rows follow each other.
fn fused<'a>(name: String, linears: Vec<&'a Linear>) -> Weight<'a> {
    let rows = linears.iter().map(|linear| linear.weight.value().dims()[0]).sum();
    let width = linears[0].weight.value().dims()[1];
    let values = move || Ok(linears.iter().flat_map(|linear| values(linear.merged())).collect());
    Weight { name, shape: vec![rows, width], values: Box::new(values) }
}
