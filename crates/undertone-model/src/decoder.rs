//! The Llama decoder: one forward for training, evaluation and generation.
//!
//! Gradients are computed block by block, last to first. With [`Recompute::Blocks`] only the input of
//! each block is kept from the forward, and the block runs again when its turn comes; with
//! [`Recompute::Off`] its recorded forward is kept instead.

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use undertone_data::{Document, Row};

use crate::block::{Block, Pass, Recorded};
use crate::cache::Cache;
use crate::config::LlamaConfig;
use crate::head::Head;
use crate::linear::{Adapter, DropoutKey, Linear, LoraConfig, Projection};
use crate::parameter::{Gradients, Parameter, Tape};
use crate::rope::Rotation;

/// What the backward pass remembers of the forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// The input of each block; costs one more forward, memory of one block.
    #[default]
    Blocks,
    /// Everything; memory grows with the number of blocks.
    Off,
}

/// A Llama with or without adapters.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Sizes and constants.
    pub config: LlamaConfig,
    /// Token embedding, `[vocabulary, width]`.
    pub embedding: Parameter,
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// The final norm, `[1, width]`.
    pub norm: Parameter,
    /// The vocabulary projection, `[vocabulary, width]`, where it is not the embedding.
    pub output: Option<Parameter>,
    /// The adapters' configuration, if there are any.
    pub lora: Option<LoraConfig>,
}

impl Decoder {
    /// Adds fresh adapters and trains nothing else.
    pub fn add_adapters(&mut self, lora: &LoraConfig, seed: u64) {
        let device = self.device();
        self.lora = Some(lora.clone());
        for (index, block) in self.blocks.iter_mut().enumerate() {
            for &projection in &lora.targets {
                let linear = block.linear_mut(projection);
                let path = format!("model.layers.{index}.{}", projection.path());
                linear.adapter = Some(Adapter::new(&path, lora, linear.weight.value.dims(), seed, &device));
            }
        }
    }

    /// Trains every weight.
    pub fn train_all(&mut self) {
        for parameter in self.parameters_mut() {
            parameter.trainable = true;
        }
    }

    /// Every parameter, in a fixed order.
    pub fn parameters(&self) -> Vec<&Parameter> {
        let blocks = self.blocks.iter().flat_map(Block::parameters);
        [&self.embedding].into_iter().chain(blocks).chain([&self.norm]).chain(self.output.as_ref()).collect()
    }

    /// Every parameter, to change it.
    pub fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let blocks = self.blocks.iter_mut().flat_map(Block::parameters_mut);
        [&mut self.embedding].into_iter().chain(blocks).chain([&mut self.norm]).chain(self.output.as_mut()).collect()
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.embedding.value.device()
    }

    fn head(&self) -> Head<'_> {
        Head {
            norm: &self.norm,
            vocabulary: self.output.as_ref().unwrap_or(&self.embedding),
            norm_epsilon: self.config.rms_norm_eps,
        }
    }

    fn indices(&self, ids: impl Iterator<Item = usize>) -> Tensor<1, Int> {
        let ids: Vec<i64> = ids.map(|id| id as i64).collect();
        let count = ids.len();
        Tensor::from_data(TensorData::new(ids, [count]), &self.device())
    }

    fn embed(&self, tokens: &[u32], tape: &mut Tape) -> Tensor<2> {
        tape.read(&self.embedding).select(0, self.indices(tokens.iter().map(|&id| id as usize)))
    }

    fn pass<'a>(&self, positions: &[u32], documents: &'a [Document], dropout: Option<DropoutKey>) -> Pass<'a> {
        let rotation = Rotation::new(positions, self.config.head_dim, self.config.rope_theta, &self.device());
        Pass { documents, rotation, dropout }
    }

    /// Hidden states `[tokens, width]` before the final norm.
    fn hidden(&self, row: &Row) -> Tensor<2> {
        let pass = self.pass(&row.positions, &row.documents, None);
        let embedded = self.embed(&row.tokens, &mut Tape::off());
        self.blocks.iter().fold(embedded, |x, block| block.forward(x, &pass, None))
    }

    /// Nats of every supervised token of a row, in the order of [`Row::supervised`].
    pub fn nats(&self, row: &Row) -> Vec<f32> {
        let (positions, targets): (Vec<usize>, Vec<u32>) = row.supervised().into_iter().unzip();
        if targets.is_empty() {
            return Vec::new();
        }
        let hidden = self.hidden(row).select(0, self.indices(positions.into_iter()));
        self.head().nats(hidden, &targets)
    }

    /// Nats as [`Self::nats`], but with dropout if a key is given; adds the gradients of `scale` times
    /// their sum. Whoever divides by a number of tokens knows it before, and passes its inverse.
    pub fn nats_and_gradients(
        &self,
        row: &Row,
        scale: f64,
        recompute: Recompute,
        dropout: Option<DropoutKey>,
        gradients: &mut Gradients,
    ) -> Vec<f32> {
        let (positions, targets): (Vec<usize>, Vec<u32>) = row.supervised().into_iter().unzip();
        if targets.is_empty() {
            return Vec::new();
        }
        let pass = self.pass(&row.positions, &row.documents, dropout);
        let mut x = self.embed(&row.tokens, &mut Tape::off());
        // For each block, how to come by its recorded forward when its turn comes.
        let mut kept: Vec<Box<dyn FnOnce() -> Recorded + '_>> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            match recompute {
                Recompute::Blocks => {
                    let (input, pass) = (x.clone(), &pass);
                    x = block.forward(x, pass, None);
                    kept.push(Box::new(move || block.record(input, pass)));
                }
                Recompute::Off => {
                    let recorded = block.record(x, &pass);
                    x = recorded.output();
                    kept.push(Box::new(move || recorded));
                }
            }
        }
        let predictors = self.indices(positions.into_iter());
        let selected = x.clone().select(0, predictors.clone());
        let (nats, d_selected) = self.head().nats_and_gradient(selected, &targets, scale, gradients);
        let zeros = x.zeros_like();
        drop(x);
        let mut d_x = zeros.select_assign(0, predictors, d_selected, burn::tensor::IndexingUpdateOp::Add);
        for recorded in kept.into_iter().rev() {
            d_x = recorded().backward(d_x, &row.documents, gradients);
        }
        if self.embedding.trainable {
            let mut tape = Tape::on();
            let embedded = self.embed(&row.tokens, &mut tape);
            tape.backward((embedded * d_x.autodiff()).sum(), gradients);
        }
        nats
    }

    /// Logits `[tokens.len() or 1, vocabulary]` of tokens that continue what the cache has seen.
    pub fn logits(&self, tokens: &[u32], cache: &mut Cache, last_only: bool) -> Tensor<2> {
        let positions: Vec<u32> = (cache.tokens..cache.tokens + tokens.len()).map(|position| position as u32).collect();
        let document =
            Document { id: String::new(), start: 0, trunk: tokens.len(), branches: Vec::new(), tokens: tokens.len() };
        let documents = [document];
        let pass = self.pass(&positions, &documents, None);
        cache.blocks.resize(self.blocks.len(), Default::default());
        let mut x = self.embed(tokens, &mut Tape::off());
        for (block, cache) in self.blocks.iter().zip(&mut cache.blocks) {
            x = block.forward(x, &pass, Some(cache));
        }
        cache.tokens += tokens.len();
        let x = if last_only { x.narrow(0, tokens.len() - 1, 1) } else { x };
        self.head().logits(x)
    }
}

impl Block {
    /// One of the seven linear layers.
    pub fn linear(&self, projection: Projection) -> &Linear {
        match projection {
            Projection::Q => &self.q,
            Projection::K => &self.k,
            Projection::V => &self.v,
            Projection::O => &self.o,
            Projection::Gate => &self.gate,
            Projection::Up => &self.up,
            Projection::Down => &self.down,
        }
    }

    fn linear_mut(&mut self, projection: Projection) -> &mut Linear {
        match projection {
            Projection::Q => &mut self.q,
            Projection::K => &mut self.k,
            Projection::V => &mut self.v,
            Projection::O => &mut self.o,
            Projection::Gate => &mut self.gate,
            Projection::Up => &mut self.up,
            Projection::Down => &mut self.down,
        }
    }

    fn parameters(&self) -> Vec<&Parameter> {
        let mut all = vec![&self.input_norm, &self.post_norm];
        for projection in Projection::ALL {
            let linear = self.linear(projection);
            all.push(&linear.weight);
            all.extend(linear.adapter.iter().flat_map(|adapter| [&adapter.a, &adapter.b]));
        }
        all
    }

    fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let mut all = vec![&mut self.input_norm, &mut self.post_norm];
        for linear in [&mut self.q, &mut self.k, &mut self.v, &mut self.o, &mut self.gate, &mut self.up, &mut self.down]
        {
            all.push(&mut linear.weight);
            all.extend(linear.adapter.iter_mut().flat_map(|adapter| [&mut adapter.a, &mut adapter.b]));
        }
        all
    }
}
