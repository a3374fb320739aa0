//! The decoder: one forward for training, evaluation and generation, of every family.
//!
//! Gradients are computed block by block, last to first. With [`Recompute::Blocks`] the forward keeps only the input of
//! each block, and the block's forward runs again before its backward; with [`Recompute::Off`] the forward keeps all
//! activations that the backward needs. Only positions that predict a target reach the vocabulary projection, a few at
//! a time.

use std::sync::Arc;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use undertone_data::{Document, Row};
use undertone_ops::{MatmulPrecision, Operators, Rotation, operators};

use crate::block::{Activations, Block, scaled};
use crate::cache::{BlockCache, Cache};
use crate::config::{ModelConfig, Rotary};
use crate::dropout::DropoutKey;
use crate::linear::{Adapter, LoraConfig};
use crate::norm::Norm;
use crate::parameter::{Gradients, Parameter, values};
use crate::pass::Pass;

/// What the forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// The input of each block; costs one more forward, and the activation memory of one block.
    #[default]
    Blocks,
    /// Everything; memory grows with the number of blocks.
    Off,
}

/// A decoder with or without adapters.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Sizes and constants.
    pub config: ModelConfig,
    /// Token embedding, `[vocabulary, width]`.
    pub embedding: Parameter,
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// The final norm.
    pub norm: Norm,
    /// The vocabulary projection, `[vocabulary, width]`, if it is not the embedding.
    pub output: Option<Parameter>,
    /// The adapters' configuration, if there are any.
    pub lora: Option<LoraConfig>,
    precision: MatmulPrecision,
    /// The operators of its device and precision.
    operators: Arc<dyn Operators>,
}

/// The weights of a decoder without adapters.
pub(crate) struct Weights {
    pub(crate) embedding: Parameter,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Norm,
    pub(crate) output: Option<Parameter>,
}

impl Decoder {
    /// A decoder that multiplies in f32.
    pub(crate) fn new(config: ModelConfig, weights: Weights) -> Self {
        let Weights { embedding, blocks, norm, output } = weights;
        let precision = MatmulPrecision::Highest;
        let operators = operators(&embedding.value().device(), precision);
        Self { config, embedding, blocks, norm, output, lora: None, precision, operators }
    }

    /// The precision of products of activations and weights.
    pub fn precision(&self) -> MatmulPrecision {
        self.precision
    }

    /// Sets the precision of products of activations and weights.
    pub fn set_precision(&mut self, precision: MatmulPrecision) {
        self.precision = precision;
        self.operators = operators(&self.device(), precision);
    }

    /// The same weights on another device.
    #[must_use]
    pub fn to_device(&self, device: &Device) -> Self {
        let mut moved = self.clone();
        for parameter in moved.parameters_mut() {
            parameter.set(parameter.value().clone().to_device(device));
        }
        moved.operators = operators(device, moved.precision);
        moved
    }

    /// Adds new trainable adapters; all other parameters stay frozen.
    pub fn add_adapters(&mut self, lora: &LoraConfig, seed: u64) {
        let device = self.device();
        self.lora = Some(lora.clone());
        for (index, block) in self.blocks.iter_mut().enumerate() {
            for &projection in &lora.targets {
                let linear = block.linear_mut(projection);
                let path = format!("model.layers.{index}.{}", projection.path());
                linear.adapter = Some(Adapter::new(&path, lora, linear.weight.value().dims(), seed, &device));
            }
        }
    }

    /// Makes every parameter trainable.
    pub fn train_all(&mut self) {
        for parameter in self.parameters_mut() {
            parameter.trainable = true;
        }
    }

    /// Every parameter, in a fixed order.
    pub fn parameters(&self) -> Vec<&Parameter> {
        let blocks = self.blocks.iter().flat_map(Block::parameters);
        [&self.embedding].into_iter().chain(blocks).chain([&self.norm.weight]).chain(self.output.as_ref()).collect()
    }

    /// Every parameter, mutable, in the same order.
    pub fn parameters_mut(&mut self) -> Vec<&mut Parameter> {
        let blocks = self.blocks.iter_mut().flat_map(Block::parameters_mut);
        [&mut self.embedding]
            .into_iter()
            .chain(blocks)
            .chain([&mut self.norm.weight])
            .chain(self.output.as_mut())
            .collect()
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embedding.value().device()
    }

    /// The operators that this decoder's passes are computed with.
    pub fn operators(&self) -> &dyn Operators {
        &*self.operators
    }

    /// A shared handle to the operators, for use while the parameters are borrowed mutably.
    pub fn shared_operators(&self) -> Arc<dyn Operators> {
        Arc::clone(&self.operators)
    }

    /// The vocabulary projection, `[vocabulary, width]`.
    fn vocabulary(&self) -> &Parameter {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// The input of the vocabulary projection: the final norm of `hidden`, times the factor of the logits.
    fn final_norm(&self, hidden: &Tensor<2>) -> Tensor<2> {
        scaled(self.norm.forward(hidden, self.operators()), self.config.factors.logits)
    }

    fn indices(&self, ids: impl Iterator<Item = usize>) -> Tensor<1, Int> {
        let ids: Vec<i64> = ids.map(|id| id as i64).collect();
        let count = ids.len();
        Tensor::from_data(TensorData::new(ids, [count]), &self.device())
    }

    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let rows = self.embedding.value().clone().select(0, self.indices(tokens.iter().map(|&id| id as usize)));
        scaled(rows, self.config.factors.embedding)
    }

    fn pass<'a>(&'a self, positions: &[u32], documents: &'a [Document], dropout: Option<DropoutKey>) -> Pass<'a> {
        let (width, device) = (self.config.head_dim, self.device());
        let rotation = |rotary: &Rotary| {
            Rotation::new(positions, width, &rotary.frequencies(), rotary.attention_factor(), &device)
        };
        let rotations = self.config.rotary.iter().map(rotation).collect();
        Pass { operators: self.operators(), documents, rotations, dropout }
    }

    /// Nats of every supervised token of a row, in the order of [`Row::supervised`].
    pub fn nats(&self, row: &Row) -> Vec<f32> {
        let (positions, targets): (Vec<usize>, Vec<u32>) = row.supervised().into_iter().unzip();
        if targets.is_empty() {
            return Vec::new();
        }
        let pass = self.pass(&row.positions, &row.documents, None);
        let hidden = self.blocks.iter().fold(self.embed(&row.tokens), |x, block| block.forward(x, &pass));
        let hidden = hidden.select(0, self.indices(positions.into_iter()));
        values(self.operators.nats(&self.final_norm(&hidden), self.vocabulary().weight(), &targets))
    }

    /// Nats as from [`Self::nats`], `[supervised tokens]`, with dropout if a key is given; adds the gradients of
    /// `scale` times the sum of the nats. For a mean, `scale` is the inverse of the number of tokens, which is known
    /// before the pass. `None` if no token is supervised.
    pub fn nats_and_gradients(
        &self,
        row: &Row,
        scale: f64,
        recompute: Recompute,
        dropout: Option<DropoutKey>,
        gradients: &mut Gradients,
    ) -> Option<Tensor<1>> {
        let (positions, targets): (Vec<usize>, Vec<u32>) = row.supervised().into_iter().unzip();
        if targets.is_empty() {
            return None;
        }
        let pass = self.pass(&row.positions, &row.documents, dropout);
        let mut x = self.embed(&row.tokens);
        // For each block, the activations that its backward needs: kept, or recomputed when called.
        let mut activations: Vec<Box<dyn FnOnce() -> Activations + '_>> = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            match recompute {
                Recompute::Blocks => {
                    let (input, pass) = (x.clone(), &pass);
                    x = block.forward(x, pass);
                    activations.push(Box::new(move || block.forward_keeping(input, pass).1));
                }
                Recompute::Off => {
                    let (output, kept) = block.forward_keeping(x, &pass);
                    x = output;
                    activations.push(Box::new(move || kept));
                }
            }
        }
        let predictors = self.indices(positions.into_iter());
        let selected = x.clone().select(0, predictors.clone());
        let zeros = x.zeros_like();
        drop(x);

        let normed = self.final_norm(&selected);
        let vocabulary = self.vocabulary();
        let computed =
            self.operators.nats_and_gradients(&normed, vocabulary.weight(), &targets, scale, vocabulary.trainable);
        gradients.add_if(vocabulary, computed.d_weight);
        let d_normed = scaled(computed.d_x, self.config.factors.logits);
        let d_selected = self.norm.backward(&selected, &d_normed, selected.zeros_like(), self.operators(), gradients);

        let mut d_x = zeros.select_assign(0, predictors, d_selected, IndexingUpdateOp::Add);
        for (block, activations) in self.blocks.iter().zip(activations).rev() {
            d_x = block.backward(activations(), d_x, &pass, gradients);
        }
        if self.embedding.trainable {
            let ids = self.indices(row.tokens.iter().map(|&id| id as usize));
            let zeros = self.embedding.value().zeros_like();
            let d_rows = scaled(d_x, self.config.factors.embedding);
            gradients.add(&self.embedding.name, zeros.select_assign(0, ids, d_rows, IndexingUpdateOp::Add));
        }
        Some(computed.nats)
    }

    /// Logits `[tokens.len() or 1, vocabulary]` of tokens that follow those in the cache.
    pub fn logits(&self, tokens: &[u32], cache: &mut Cache, last_only: bool) -> Tensor<2> {
        let x = self.hidden_behind(tokens, &mut [cache]);
        let x = if last_only { x.narrow(0, tokens.len() - 1, 1) } else { x };
        self.logits_of(&x)
    }

    /// Logits `[sequences, vocabulary]` after one more token of each sequence; reads every weight once for all
    /// sequences.
    ///
    /// # Panics
    /// If the numbers of tokens and caches differ, or are 0.
    pub fn next_logits(&self, tokens: &[u32], caches: &mut [&mut Cache]) -> Tensor<2> {
        assert!(!tokens.is_empty() && tokens.len() == caches.len(), "a token a sequence");
        self.logits_of(&self.hidden_behind(tokens, caches))
    }

    fn logits_of(&self, hidden: &Tensor<2>) -> Tensor<2> {
        self.operators.linear(&self.final_norm(hidden), self.vocabulary().weight(), None, None).0
    }

    /// The last block's output for the same number of new tokens of each sequence; appends them to its cache.
    fn hidden_behind(&self, tokens: &[u32], caches: &mut [&mut Cache]) -> Tensor<2> {
        let each = tokens.len() / caches.len();
        let positions: Vec<u32> =
            caches.iter().flat_map(|cache| cache.tokens..cache.tokens + each).map(|position| position as u32).collect();
        let documents = [Document { id: String::new(), start: 0, trunk: each, branches: Vec::new(), tokens: each }];
        let pass = self.pass(&positions, &documents, None);
        for cache in caches.iter_mut() {
            cache.blocks.resize(self.blocks.len(), Default::default());
            cache.tokens += each;
        }
        let run = |x, (index, block): (usize, &Block)| {
            let mut caches: Vec<&mut BlockCache> = caches.iter_mut().map(|cache| &mut cache.blocks[index]).collect();
            block.forward_behind(x, &pass, &mut caches)
        };
        self.blocks.iter().enumerate().fold(self.embed(tokens), run)
    }
}
