//! A tiny random Llama, a byte-level tokenizer and targets, for tests that need no real weights.

use std::convert::Infallible;
use std::ops::Range;
use std::path::Path;

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};
use undertone_data::{Item, Target, TargetKind};
use undertone_model::{Decoder, ModelConfig};

/// The number of tokens: 256 bytes and the two tokens of the template.
pub const VOCABULARY: usize = 258;

/// A byte-level tokenizer: one token per byte.
pub fn tokenizer() -> Tokenizer {
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let vocabulary: Vec<(String, u32)> =
        letters.iter().enumerate().map(|(id, letter)| (letter.to_string(), id as u32)).collect();
    let vocabulary: [(String, u32); 256] = vocabulary.try_into().unwrap();
    let model = BPE::builder().vocab_and_merges(vocabulary, vec![]);
    let mut tokenizer = Tokenizer::new(model.build().unwrap());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, false, false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer
        .add_special_tokens([AddedToken::from("<|im_start|>", true), AddedToken::from("<|im_end|>", true)])
        .unwrap();
    tokenizer
}

/// Two blocks of width 32, 4 query heads on 2 key heads; all weights are drawn from `seed`.
pub fn decoder(device: &Device, seed: u64) -> Decoder {
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": true,
        "hidden_act": "silu", "bos_token_id": 256, "eos_token_id": 257,
    });
    let config = ModelConfig::from_json(Path::new("config.json"), json).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let decoder = Decoder::assemble(config, device, |name, shape| {
        let count: usize = shape.iter().product();
        let norm = name.ends_with("norm.weight") || name.contains("layernorm");
        let spread = if norm { 0.2 } else { 0.5 / (shape[shape.len() - 1] as f32).sqrt() * 3.0 };
        let centre = if norm { 1.0 } else { 0.0 };
        Ok::<_, Infallible>((0..count).map(|_| centre + random.random_range(-spread..spread)).collect())
    });
    let Ok(decoder) = decoder;
    decoder
}

/// A target over these tokens of a row.
pub fn target(span: Range<usize>) -> Target {
    let item = Item { conversation: "tiny".into(), message: 0, kind: TargetKind::NextPrompt, thought: 0 };
    Target {
        item,
        candidate: None,
        span,
        bytes: 1,
        seen: Vec::new(),
        quoted: false,
        lacks_words: false,
        earlier_user_messages: 0,
        reply_tokens_lost: 0,
    }
}
