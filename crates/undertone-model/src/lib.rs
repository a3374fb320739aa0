//! The decoder with its adapters, loss and cache; a sentence encoder; and the import of weights.
//!
//! [`Decoder::load`] reads a Hugging Face folder, [`Decoder::nats`] scores a row, [`Decoder::nats_and_gradients`]
//! computes the gradients of a row, [`Decoder::generate`] generates text. All run the same blocks. Model families other
//! than Llama get a decoder of their own beside this one.

#![warn(clippy::unwrap_used)]

mod block;
mod cache;
mod chat;
mod config;
mod decoder;
mod device;
mod dropout;
mod generate;
pub mod import;
mod linear;
mod load;
mod norm;
mod parameter;
mod pass;
mod peft;
mod safetensors_header;
mod sentence;
mod tokenizer;
mod weight_file;
mod weights;

pub use block::{Around, Block};
pub use cache::Cache;
pub use chat::{ChatMessage, ChatTemplate, SpecialTokens, format_of_template, load_template};
pub use config::{
    Biases, FAMILIES, Factors, Family, HasBias, Layer, ModelConfig, Norms, QueryNorms, Rotary, Scaling, Windows,
};
pub use decoder::{Decoder, Recompute};
pub use device::{DeviceName, NotBuilt};
pub use dropout::DropoutKey;
pub use generate::{Batch, Chosen, Opening, Sampling, Step};
pub use linear::{Adapter, Linear, LoraConfig, Projection};
pub use norm::Norm;
pub use parameter::{Gradients, Parameter, values};
pub use peft::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, PEFT_PREFIX, PeftAdapter, PeftLayer, peft_layers, peft_module, stacked_alpha,
};
pub use safetensors_header::{SafetensorsHeader, TensorEntry};
pub use sentence::SentenceEncoder;
pub use tokenizer::load_tokenizer;
pub use undertone_ops::{AdamWStep, MatmulPrecision, Moments, Operators, keep_freed_memory, release_freed_memory};
pub use weight_file::{Weight, write_weights};
pub use weights::WeightFiles;
