//! A complete Llama in a folder of 40 kilobytes, and the same as a GGUF file: random weights, one token
//! per byte. It loads and trains like any other model, in milliseconds.
//!
//! The files are written byte by byte, without the libraries that read them.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Width of the residual stream.
const WIDTH: usize = 16;
/// Inner width of the feed-forward network.
const INNER: usize = 24;
const BLOCKS: usize = 2;
/// Query heads; they share one key head.
const HEADS: usize = 2;
const HEAD_WIDTH: usize = WIDTH / HEADS;
/// The number of tokens: 256 bytes and the two tokens of the template.
const VOCABULARY: usize = 258;
const CONTEXT: usize = 4096;
const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";

/// A named tensor, row-major.
#[derive(Debug, Clone)]
pub struct Weight {
    /// Its Hugging Face name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f32>,
}

/// Writes `config.json`, `tokenizer.json` and `model.safetensors`.
pub fn write(folder: &Path) {
    fs::create_dir_all(folder).expect("the folder can be made");
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("the folder can be written");
    put("config.json", config().to_string().as_bytes());
    put("tokenizer.json", tokenizer().to_string().as_bytes());
    put("model.safetensors", &safetensors(&weights(), json!({"format": "pt"})));
}

/// `config.json`
pub fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS,
        "num_key_value_heads": 1, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": true, "hidden_act": "silu",
        "bos_token_id": 256, "eos_token_id": 257,
    })
}

/// `tokenizer.json`: byte-pair encoding without merges.
pub fn tokenizer() -> Value {
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let vocabulary: Map<String, Value> =
        letters().into_iter().enumerate().map(|(id, letter)| (letter.to_string(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [special(256, START), special(257, END)],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []}
    })
}

/// The character for each byte in GPT-2's vocabulary (`bytes_to_unicode` in its `encoder.py`): the
/// byte's own if it is printable, else the next one from 256.
fn letters() -> Vec<char> {
    let mut invisible = 256..;
    (0..=255_u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => invisible.next().and_then(char::from_u32).expect("the letters above 255 go on"),
        })
        .collect()
}

/// Every tensor in the order of the blocks; the numbers are the same on every call.
pub fn weights() -> Vec<Weight> {
    weights_of(BLOCKS)
}

/// As [`weights`], of a model with so many blocks.
pub fn weights_of(blocks: usize) -> Vec<Weight> {
    let mut state = 1_u64;
    // SplitMix64, mapped to numbers from -0.4 to 0.4.
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 0.8
    };
    let mut weights = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let values = if shape.len() == 1 { vec![1.0; count] } else { (0..count).map(|_| draw()).collect() };
        weights.push(Weight { name, shape: shape.to_vec(), values });
    };
    add("model.embed_tokens.weight".into(), &[VOCABULARY, WIDTH]);
    for block in 0..blocks {
        let mut part = |name: &str, shape: &[usize]| add(format!("model.layers.{block}.{name}.weight"), shape);
        part("input_layernorm", &[WIDTH]);
        part("self_attn.q_proj", &[WIDTH, WIDTH]);
        part("self_attn.k_proj", &[HEAD_WIDTH, WIDTH]);
        part("self_attn.v_proj", &[HEAD_WIDTH, WIDTH]);
        part("self_attn.o_proj", &[WIDTH, WIDTH]);
        part("post_attention_layernorm", &[WIDTH]);
        part("mlp.gate_proj", &[INNER, WIDTH]);
        part("mlp.up_proj", &[INNER, WIDTH]);
        part("mlp.down_proj", &[WIDTH, INNER]);
    }
    add("model.norm.weight".into(), &[WIDTH]);
    weights
}

/// A safetensors file of F32 tensors.
pub fn safetensors(weights: &[Weight], metadata: Value) -> Vec<u8> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata)]);
    let mut data = Vec::new();
    for weight in weights {
        let start = data.len();
        data.extend(weight.values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": weight.shape, "data_offsets": [start, data.len()]});
        header.insert(weight.name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// The header of a safetensors file, and the bytes of its tensors.
pub fn safetensors_parts(file: &[u8]) -> (Map<String, Value>, &[u8]) {
    let (length, rest) = file.split_first_chunk::<8>().expect("a file begins with the length of its header");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (serde_json::from_slice(header).expect("the header is a JSON object"), data)
}

/// The bytes of one tensor of a safetensors file.
pub fn tensor_bytes<'a>(file: &'a [u8], name: &str) -> &'a [u8] {
    let (header, data) = safetensors_parts(file);
    let at = |end: usize| header[name]["data_offsets"][end].as_u64().expect("a tensor has two offsets") as usize;
    &data[at(0)..at(1)]
}

/// The model as one GGUF file of version 3, in F32.
pub fn gguf() -> Vec<u8> {
    gguf_with(&[])
}

/// The same, with these numbers in its metadata, too.
pub fn gguf_with(more: &[(&'static str, usize)]) -> Vec<u8> {
    const UINT32: u32 = 4;
    const FLOAT32: u32 = 6;
    const STRING: u32 = 8;
    const ARRAY: u32 = 9;
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let count = |number: usize| (UINT32, (number as u32).to_le_bytes().to_vec());
    let number = |number: f32| (FLOAT32, number.to_le_bytes().to_vec());
    let word = |word: &str| (STRING, text(word));
    let list = |kind: u32, items: Vec<Vec<u8>>| {
        let head = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
        (ARRAY, [head, items.concat()].concat())
    };
    let tokens = letters().into_iter().map(String::from).chain([START.to_owned(), END.to_owned()]);
    let types = (0..VOCABULARY as u32).map(|id| if id < 256 { 1_u32 } else { 3 });
    let mut metadata = vec![
        ("general.architecture", word("llama")),
        ("llama.block_count", count(BLOCKS)),
        ("llama.context_length", count(CONTEXT)),
        ("llama.embedding_length", count(WIDTH)),
        ("llama.feed_forward_length", count(INNER)),
        ("llama.attention.head_count", count(HEADS)),
        ("llama.attention.head_count_kv", count(1)),
        ("llama.attention.layer_norm_rms_epsilon", number(1e-5)),
        ("llama.rope.freq_base", number(10000.0)),
        ("tokenizer.ggml.model", word("gpt2")),
        ("tokenizer.ggml.pre", word("gpt-2")),
        ("tokenizer.ggml.tokens", list(STRING, tokens.map(|token| text(&token)).collect())),
        ("tokenizer.ggml.token_type", list(5, types.map(|kind| kind.to_le_bytes().to_vec()).collect())),
        ("tokenizer.ggml.merges", list(STRING, vec![])),
        ("tokenizer.ggml.bos_token_id", count(256)),
        ("tokenizer.ggml.eos_token_id", count(257)),
    ];
    metadata.extend(more.iter().map(|(key, number)| (*key, count(*number))));
    let weights = weights();
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((weights.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, (kind, value)) in metadata {
        file.extend([text(key), kind.to_le_bytes().to_vec(), value].concat());
    }
    let mut data: Vec<u8> = Vec::new();
    for weight in &weights {
        data.resize(data.len().next_multiple_of(32), 0);
        file.extend(text(&gguf_name(&weight.name)));
        file.extend((weight.shape.len() as u32).to_le_bytes());
        file.extend(weight.shape.iter().rev().flat_map(|&axis| (axis as u64).to_le_bytes()));
        file.extend(0_u32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        let rotated = weight.name.contains("q_proj") || weight.name.contains("k_proj");
        let values = if rotated { permuted(&weight.values) } else { weight.values.clone() };
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

/// llama.cpp's name for a tensor.
fn gguf_name(name: &str) -> String {
    [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ]
    .iter()
    .fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
}

/// llama.cpp's order of query and key rows: the two halves of each head, interleaved row by row.
fn permuted(values: &[f32]) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks_exact(WIDTH).collect();
    let halves = rows.chunks_exact(HEAD_WIDTH).map(|head| head.split_at(HEAD_WIDTH / 2));
    halves.flat_map(|(first, second)| first.iter().zip(second).flat_map(|(a, b)| [*a, *b])).flatten().copied().collect()
}
