//! Builds a decoder from a Hugging Face folder, or from any other source of named weights.

use std::path::Path;

use burn::tensor::Device;
use undertone_files::{InputError, Place};
use undertone_ops::Heads;

use crate::block::Block;
use crate::config::LlamaConfig;
use crate::decoder::{Decoder, Weights};
use crate::linear::{Linear, Projection};
use crate::parameter::Parameter;
use crate::weights::WeightFiles;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

impl Decoder {
    /// Reads `config.json` and the safetensors beside it; weights become f32 on `device`.
    ///
    /// # Errors
    /// A file or tensor is missing, malformed, of the wrong shape, or not used; or `config.json` ties an output head to the
    /// embedding, and the file has a head with other values.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, InputError> {
        let config = LlamaConfig::read(folder)?;
        let mut files = WeightFiles::open(folder)?;
        if config.tie_word_embeddings && files.has(HEAD) {
            // Some writers add the head all the same. transformers does not tie a head that differs.
            let shape = [config.vocab_size, config.hidden_size];
            if files.take(HEAD, &shape)? != files.take(EMBEDDING, &shape)? {
                let cause = format!("differs from `{EMBEDDING}`, though `tie_word_embeddings` is true");
                return Err(InputError::new(folder, cause)
                    .at(Place::Named(HEAD.into()))
                    .hint("set `tie_word_embeddings` to false in `config.json` if the model has a head of its own"));
            }
        }
        let decoder = Self::assemble(config, device, |name, shape| files.take(name, shape))?;
        files.finish()?;
        Ok(decoder)
    }

    /// A decoder whose every weight comes from `take(name, shape)`, row-major.
    ///
    /// # Errors
    /// The first error of `take`.
    pub fn assemble<E>(
        config: LlamaConfig,
        device: &Device,
        mut take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut parameter = |name: String, shape: &[usize]| -> Result<Parameter, E> {
            let values = take(&name, shape)?;
            let rows = if shape.len() == 1 { 1 } else { shape[0] };
            Ok(Parameter::new(name, values, [rows, shape[shape.len() - 1]], device))
        };
        let (width, wide) = (config.hidden_size, config.intermediate_size);
        let (query_width, key_width) = (config.query_width(), config.key_value_width());
        let heads =
            Heads { heads: config.num_attention_heads, key_heads: config.num_key_value_heads, width: config.head_dim };
        let embedding = parameter(EMBEDDING.into(), &[config.vocab_size, width])?;
        // Without capacity: the number of blocks is an unchecked claim until their weights are read.
        let mut blocks = Vec::new();
        for index in 0..config.num_hidden_layers {
            let path = |part: &str| format!("model.layers.{index}.{part}.weight");
            let input_norm = parameter(path("input_layernorm"), &[width])?;
            let post_norm = parameter(path("post_attention_layernorm"), &[width])?;
            let mut linear = |projection: Projection, shape: [usize; 2]| -> Result<Linear, E> {
                Ok(Linear { weight: parameter(path(projection.path()), &shape)?, adapter: None })
            };
            blocks.push(Block {
                input_norm,
                post_norm,
                q: linear(Projection::Q, [query_width, width])?,
                k: linear(Projection::K, [key_width, width])?,
                v: linear(Projection::V, [key_width, width])?,
                o: linear(Projection::O, [width, query_width])?,
                gate: linear(Projection::Gate, [wide, width])?,
                up: linear(Projection::Up, [wide, width])?,
                down: linear(Projection::Down, [width, wide])?,
                heads,
                norm_epsilon: config.rms_norm_eps,
            });
        }
        let norm = parameter("model.norm.weight".into(), &[width])?;
        let output = match config.tie_word_embeddings {
            true => None,
            false => Some(parameter(HEAD.into(), &[config.vocab_size, width])?),
        };
        Ok(Self::new(config, Weights { embedding, blocks, norm, output }))
    }
}
