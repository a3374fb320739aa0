//! A Hugging Face folder to a decoder.

use std::path::Path;

use burn::tensor::Device;
use undertone_data::InputError;

use crate::block::Block;
use crate::config::LlamaConfig;
use crate::decoder::Decoder;
use crate::linear::{Linear, Projection};
use crate::parameter::Parameter;
use crate::weights::WeightFiles;

impl Decoder {
    /// Reads `config.json` and the safetensors beside it; weights become f32 on `device`.
    ///
    /// # Errors
    /// Whatever is missing, malformed, of the wrong shape, or not used.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, InputError> {
        let config = LlamaConfig::read(folder)?;
        let mut files = WeightFiles::open(folder)?;
        let width = config.hidden_size;
        let (query_width, key_width) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let mut matrix = |name: String, [rows, columns]: [usize; 2]| -> Result<Parameter, InputError> {
            let values = files.take(&name, &[rows, columns])?;
            Ok(Parameter::new(name, values, [rows, columns], device))
        };
        let embedding = matrix("model.embed_tokens.weight".into(), [config.vocab_size, width])?;
        let output = match config.tie_word_embeddings {
            true => None,
            false => Some(matrix("lm_head.weight".into(), [config.vocab_size, width])?),
        };
        let mut matrices = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let mut linear = |projection: Projection, shape| -> Result<Linear, InputError> {
                let name = format!("model.layers.{index}.{}.weight", projection.path());
                Ok(Linear { weight: matrix(name, shape)?, adapter: None })
            };
            let wide = config.intermediate_size;
            matrices.push([
                linear(Projection::Q, [query_width, width])?,
                linear(Projection::K, [key_width, width])?,
                linear(Projection::V, [key_width, width])?,
                linear(Projection::O, [width, query_width])?,
                linear(Projection::Gate, [wide, width])?,
                linear(Projection::Up, [wide, width])?,
                linear(Projection::Down, [width, wide])?,
            ]);
        }
        let mut vector = |name: String| -> Result<Parameter, InputError> {
            let values = files.take(&name, &[width])?;
            Ok(Parameter::new(name, values, [1, width], device))
        };
        let mut blocks = Vec::with_capacity(matrices.len());
        for (index, [q, k, v, o, gate, up, down]) in matrices.into_iter().enumerate() {
            blocks.push(Block {
                input_norm: vector(format!("model.layers.{index}.input_layernorm.weight"))?,
                post_norm: vector(format!("model.layers.{index}.post_attention_layernorm.weight"))?,
                q,
                k,
                v,
                o,
                gate,
                up,
                down,
                head_width: config.head_dim,
                norm_epsilon: config.rms_norm_eps,
            });
        }
        let norm = vector("model.norm.weight".into())?;
        if config.tie_word_embeddings {
            files.ignore("lm_head.weight");
        }
        files.finish()?;
        Ok(Self { config, embedding, blocks, norm, output, lora: None })
    }
}
