//! Sentence embeddings: a BERT encoder with mean pooling, as in Sentence-BERT (arXiv 1908.10084).
//!
//! Reads a folder in the form of sentence-transformers, such as all-MiniLM-L6-v2, and returns vectors of length 1, so
//! that the cosine of two texts is their dot product. The encoder runs on one text at a time, without padding, and is
//! never trained.

use std::path::Path;

use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};
use undertone_files::{InputError, Place};

use crate::weights::WeightFiles;
use undertone_files::read_bounded;

/// The longest configuration file, and the longest tokenizer, that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// The largest size that a configuration may give.
const MAX_SIZE: usize = 1 << 20;

/// The parts of a BERT `config.json` that the encoder needs.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
}

/// `sentence_bert_config.json`
#[derive(Debug, Deserialize)]
struct Limits {
    max_seq_length: usize,
}

/// `1_Pooling/config.json`
#[derive(Debug, Deserialize)]
struct Pooling {
    pooling_mode_mean_tokens: bool,
}

/// An affine map: `x Wᵀ + b`, `[tokens, in]` to `[tokens, out]`.
#[derive(Debug, Clone)]
struct Affine {
    /// `[out, in]`
    weight: Tensor<2>,
    /// `[1, out]`
    bias: Tensor<2>,
}

impl Affine {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone().transpose()) + self.bias.clone()
    }
}

/// Layer normalisation over the width (arXiv 1607.06450).
#[derive(Debug, Clone)]
struct Norm {
    /// `[1, width]`
    weight: Tensor<2>,
    /// `[1, width]`
    bias: Tensor<2>,
    epsilon: f64,
}

impl Norm {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = (centred.clone() * centred.clone()).mean_dim(1);
        centred / (variance + self.epsilon).sqrt() * self.weight.clone() + self.bias.clone()
    }
}

/// One block: attention of every token to every token, then a feed-forward network; each is added to its input and
/// normalised.
#[derive(Debug, Clone)]
struct Block {
    query: Affine,
    key: Affine,
    value: Affine,
    output: Affine,
    attention_norm: Norm,
    widen: Affine,
    narrow: Affine,
    output_norm: Norm,
    heads: usize,
}

impl Block {
    /// `[tokens, width]` to the same.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [tokens, width] = x.dims();
        let head_width = width / self.heads;
        // [heads, tokens, head_width]
        let heads = |map: &Affine| map.forward(x.clone()).reshape([tokens, self.heads, head_width]).swap_dims(0, 1);
        let scores = heads(&self.query).matmul(heads(&self.key).transpose()) / (head_width as f64).sqrt();
        let mixed: Tensor<3> = softmax(scores, 2).matmul(heads(&self.value));
        let mixed = mixed.swap_dims(0, 1).reshape([tokens, width]);
        let x = self.attention_norm.forward(x + self.output.forward(mixed));
        let wide = gelu(self.widen.forward(x.clone()));
        self.output_norm.forward(x + self.narrow.forward(wide))
    }
}

/// A sentence encoder on one device.
#[derive(Debug, Clone)]
pub struct SentenceEncoder {
    tokenizer: Tokenizer,
    /// `[vocabulary, width]`
    words: Tensor<2>,
    /// `[positions, width]`, with the embedding of the only segment added.
    positions: Tensor<2>,
    norm: Norm,
    blocks: Vec<Block>,
}

impl SentenceEncoder {
    /// Reads a folder with `config.json`, `tokenizer.json` and safetensors; weights become f32 on `device`.
    ///
    /// # Errors
    /// A file or tensor is missing, malformed, of the wrong shape, or not used; the model is not a BERT, or does not
    /// pool by the mean.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, InputError> {
        let path = folder.join("config.json");
        let config: Config = read_json(&path)?;
        config.check(&path)?;
        let pooling = folder.join("1_Pooling").join("config.json");
        if pooling.exists() && !read_json::<Pooling>(&pooling)?.pooling_mode_mean_tokens {
            return Err(InputError::new(&pooling, "does not pool by the mean over tokens")
                .at(Place::Named("pooling_mode_mean_tokens".into()))
                .hint("choose a sentence encoder that does, such as all-MiniLM-L6-v2"));
        }
        let limits = folder.join("sentence_bert_config.json");
        let longest = if limits.exists() { read_json::<Limits>(&limits)?.max_seq_length } else { MAX_SIZE };
        let tokenizer = load_tokenizer(folder, &config, longest.min(config.max_position_embeddings))?;

        let mut files = WeightFiles::open(folder)?;
        for unused in ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"] {
            files.ignore(unused);
        }
        let mut weights = Weights { files, device, epsilon: config.layer_norm_eps };
        let width = config.hidden_size;
        let words = weights.matrix("embeddings.word_embeddings.weight", [config.vocab_size, width])?;
        let positions =
            weights.matrix("embeddings.position_embeddings.weight", [config.max_position_embeddings, width])?;
        let segments = weights.matrix("embeddings.token_type_embeddings.weight", [config.type_vocab_size, width])?;
        let norm = weights.norm("embeddings.LayerNorm", width)?;
        // Without capacity: the number of blocks is an unchecked claim until their weights are read.
        let mut blocks = Vec::new();
        for index in 0..config.num_hidden_layers {
            blocks.push(weights.block(index, &config)?);
        }
        weights.files.finish()?;
        Ok(Self { tokenizer, words, positions: positions + segments.narrow(0, 0, 1), norm, blocks })
    }

    /// The ids of a text, with the tokens that open and close it.
    ///
    /// # Panics
    /// If the tokenizer fails on the text; a WordPiece tokenizer never fails.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        match self.tokenizer.encode(text, true) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            Err(error) => panic!("the tokenizer failed on {text:?}: {error}"),
        }
    }

    /// The vector of a text, of length 1.
    pub fn encode(&self, text: &str) -> Vec<f32> {
        let ids: Vec<i64> = self.tokens(text).into_iter().map(i64::from).collect();
        let count = ids.len();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), &self.words.device());
        let embedded = self.words.clone().select(0, ids) + self.positions.clone().narrow(0, 0, count);
        let hidden = self.blocks.iter().fold(self.norm.forward(embedded), |x, block| block.forward(x));
        let mean = hidden.mean_dim(0).into_data().convert::<f32>();
        let mean: Vec<f32> = mean.try_to_vec().expect("converted to f32");
        let length = mean.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        mean.iter().map(|value| (f64::from(*value) / length) as f32).collect()
    }
}

impl Config {
    fn check(&self, path: &Path) -> Result<(), InputError> {
        let refuse = |key: &str, cause: String| {
            Err(InputError::new(path, cause)
                .at(Place::Named(key.to_owned()))
                .hint("choose a BERT sentence encoder, such as all-MiniLM-L6-v2 (`make encoder`)"))
        };
        if self.model_type != "bert" {
            return refuse("model_type", format!("`{}` is not supported; only `bert` is", self.model_type));
        }
        if self.hidden_act != "gelu" {
            return refuse("hidden_act", format!("`{}` is not supported; only `gelu` is", self.hidden_act));
        }
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
            return refuse(key, format!("`{size}` is not from 1 to {MAX_SIZE}"));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let cause = format!("`{}` heads do not divide a width of {}", self.num_attention_heads, self.hidden_size);
            return refuse("num_attention_heads", cause);
        }
        if self.max_position_embeddings < 3 {
            return refuse(
                "max_position_embeddings",
                format!("`{}` leaves no room for text", self.max_position_embeddings),
            );
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return refuse("layer_norm_eps", format!("`{}` is not above 0 and below 1", self.layer_norm_eps));
        }
        Ok(())
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, InputError> {
    let bytes = read_bounded(path, MAX_CONFIG_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| InputError::new(path, format!("cannot be read: {error}")))
}

fn load_tokenizer(folder: &Path, config: &Config, longest: usize) -> Result<Tokenizer, InputError> {
    let path = folder.join("tokenizer.json");
    let bytes = read_bounded(&path, MAX_TOKENIZER_BYTES)?;
    let unfit = |cause: String| InputError::new(&path, format!("is not a tokenizer file: {cause}"));
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| unfit(error.to_string()))?;
    let vocabulary = tokenizer.get_vocab(true);
    if let Some((token, id)) = vocabulary.iter().find(|(_, id)| **id as usize >= config.vocab_size) {
        let cause = format!("has the id `{id}`, but the model's `vocab_size` is `{}`", config.vocab_size);
        return Err(InputError::new(&path, cause)
            .at(Place::Named(token.clone()))
            .hint("`tokenizer.json` and `config.json` belong to different models"));
    }
    tokenizer.with_padding(None);
    let truncation = TruncationParams { max_length: longest, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(|error| unfit(error.to_string()))?;
    // An empty text needs the tokens that open and close it: there is no mean of no tokens.
    match tokenizer.encode("", true) {
        Ok(encoding) if !encoding.is_empty() => Ok(tokenizer),
        Ok(_) => Err(unfit("it adds no opening or closing token, so an empty text has no tokens".into())),
        Err(error) => Err(unfit(error.to_string())),
    }
}

/// Reads weights by the names of Hugging Face's BERT.
struct Weights<'a> {
    files: WeightFiles,
    device: &'a Device,
    epsilon: f64,
}

impl Weights<'_> {
    fn matrix(&mut self, name: &str, [rows, width]: [usize; 2]) -> Result<Tensor<2>, InputError> {
        self.shaped(name, &[rows, width], [rows, width])
    }

    fn vector(&mut self, name: &str, width: usize) -> Result<Tensor<2>, InputError> {
        self.shaped(name, &[width], [1, width])
    }

    fn shaped(&mut self, name: &str, in_file: &[usize], shape: [usize; 2]) -> Result<Tensor<2>, InputError> {
        Ok(Tensor::from_data(TensorData::new(self.files.take(name, in_file)?, shape), self.device))
    }

    fn affine(&mut self, path: &str, [out, into]: [usize; 2]) -> Result<Affine, InputError> {
        let weight = self.matrix(&format!("{path}.weight"), [out, into])?;
        Ok(Affine { weight, bias: self.vector(&format!("{path}.bias"), out)? })
    }

    fn norm(&mut self, path: &str, width: usize) -> Result<Norm, InputError> {
        let weight = self.vector(&format!("{path}.weight"), width)?;
        Ok(Norm { weight, bias: self.vector(&format!("{path}.bias"), width)?, epsilon: self.epsilon })
    }

    fn block(&mut self, index: usize, config: &Config) -> Result<Block, InputError> {
        let (width, wide) = (config.hidden_size, config.intermediate_size);
        let path = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(Block {
            query: self.affine(&path("attention.self.query"), [width, width])?,
            key: self.affine(&path("attention.self.key"), [width, width])?,
            value: self.affine(&path("attention.self.value"), [width, width])?,
            output: self.affine(&path("attention.output.dense"), [width, width])?,
            attention_norm: self.norm(&path("attention.output.LayerNorm"), width)?,
            widen: self.affine(&path("intermediate.dense"), [wide, width])?,
            narrow: self.affine(&path("output.dense"), [width, wide])?,
            output_norm: self.norm(&path("output.LayerNorm"), width)?,
            heads: config.num_attention_heads,
        })
    }
}
