//! Builds a decoder from a Hugging Face folder, or from any other source of named weights.

use std::path::Path;

use burn::tensor::Device;
use undertone_files::{InputError, Place};
use undertone_ops::Heads;

use crate::block::{Around, Block};
use crate::config::{Layer, ModelConfig, QueryNorms};
use crate::decoder::{Decoder, Weights};
use crate::linear::{Linear, Projection};
use crate::norm::Norm;
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
        let config = ModelConfig::read(folder)?;
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
        config: ModelConfig,
        device: &Device,
        take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut source = Source { config: &config, device, take };
        let width = config.hidden_size;
        let embedding = source.parameter(EMBEDDING.into(), &[config.vocab_size, width])?;
        // Without capacity: the number of blocks is an unchecked claim until their weights are read.
        let mut blocks = Vec::new();
        for (index, layer) in config.layers.iter().enumerate() {
            blocks.push(source.block(&format!("model.layers.{index}"), layer)?);
        }
        let norm = source.norm("model.norm".into(), width)?;
        let output = match config.tie_word_embeddings {
            true => None,
            false => Some(source.parameter(HEAD.into(), &[config.vocab_size, width])?),
        };
        Ok(Self::new(config, Weights { embedding, blocks, norm, output }))
    }
}

/// Named weights of a configuration, and where they go.
struct Source<'a, T> {
    config: &'a ModelConfig,
    device: &'a Device,
    take: T,
}

impl<E, T: FnMut(&str, &[usize]) -> Result<Vec<f32>, E>> Source<'_, T> {
    fn parameter(&mut self, name: String, shape: &[usize]) -> Result<Parameter, E> {
        let values = (self.take)(&name, shape)?;
        let rows = if shape.len() == 1 { 1 } else { shape[0] };
        Ok(Parameter::new(name, values, [rows, shape[shape.len() - 1]], self.device))
    }

    fn norm(&mut self, path: String, width: usize) -> Result<Norm, E> {
        let weight = self.parameter(format!("{path}.weight"), &[width])?;
        Ok(Norm { weight, epsilon: self.config.rms_norm_eps, offset: self.config.family.norm_offset })
    }

    fn linear(&mut self, path: &str, projection: Projection, shape: [usize; 2]) -> Result<Linear, E> {
        let path = format!("{path}.{}", projection.path());
        let weight = self.parameter(format!("{path}.weight"), &shape)?;
        let has_bias = self.config.has_bias.of(projection);
        let bias = has_bias.then(|| self.parameter(format!("{path}.bias"), &shape[..1])).transpose()?;
        Ok(Linear { weight, bias, adapter: None })
    }

    /// Linear layers that the file may have as one: their rows follow each other in the matrix `fused`.
    fn linears<const N: usize>(
        &mut self,
        path: &str,
        projections: [(Projection, usize); N],
        fused: &str,
    ) -> Result<[Linear; N], E> {
        let width = self.config.hidden_size;
        let mut layers = Vec::with_capacity(N);
        if self.config.family.fused {
            let rows: usize = projections.iter().map(|(_, rows)| rows).sum();
            let all = (self.take)(&format!("{path}.{fused}.weight"), &[rows, width])?;
            let mut from = 0;
            for (projection, rows) in projections {
                let name = format!("{path}.{}.weight", projection.path());
                let values = all[from * width..(from + rows) * width].to_vec();
                let weight = Parameter::new(name, values, [rows, width], self.device);
                layers.push(Linear { weight, bias: None, adapter: None });
                from += rows;
            }
        } else {
            for (projection, rows) in projections {
                layers.push(self.linear(path, projection, [rows, width])?);
            }
        }
        Ok(layers.try_into().unwrap_or_else(|_| unreachable!("as many layers as projections")))
    }

    fn block(&mut self, path: &str, layer: &Layer) -> Result<Block, E> {
        let config = self.config;
        let (family, width, wide) = (config.family, config.hidden_size, config.intermediate_size);
        let (query_width, key_width) = (config.query_width(), config.key_value_width());
        let heads = Heads {
            heads: config.num_attention_heads,
            key_heads: config.num_key_value_heads,
            width: config.head_dim,
            scale: config.factors.scores as f32,
            window: layer.window,
        };
        let mut norm = |part: &str, width: usize| self.norm(format!("{path}.{part}"), width);
        let mut around = |[before, after]: [Option<&str>; 2]| -> Result<Around, E> {
            let mut optional = |part: Option<&str>| part.map(|part| norm(part, width)).transpose();
            Ok(Around { before: optional(before)?, after: optional(after)? })
        };
        let [of_attention, of_feed_forward] = family.norms.parts();
        let (attention_norms, feed_forward_norms) = (around(of_attention)?, around(of_feed_forward)?);
        let widths = match family.query_norms {
            QueryNorms::Absent => None,
            QueryNorms::EachHead => Some([config.head_dim; 2]),
            QueryNorms::AllHeads => Some([query_width, key_width]),
        };
        let query_norms = match widths {
            None => None,
            Some([q, k]) => Some([norm("self_attn.q_norm", q)?, norm("self_attn.k_norm", k)?]),
        };
        let qkv = [(Projection::Q, query_width), (Projection::K, key_width), (Projection::V, key_width)];
        let [q, k, v] = self.linears(path, qkv, "self_attn.qkv_proj")?;
        let o = self.linear(path, Projection::O, [width, query_width])?;
        let [gate, up] =
            self.linears(path, [Projection::Gate, Projection::Up].map(|part| (part, wide)), "mlp.gate_up_proj")?;
        let down = self.linear(path, Projection::Down, [width, wide])?;
        Ok(Block {
            attention_norms,
            feed_forward_norms,
            query_norms,
            q,
            k,
            v,
            o,
            gate,
            up,
            down,
            heads,
            activation: family.activation.2,
            rotation: layer.rotary,
            residual_factor: config.factors.residual,
        })
    }
}
