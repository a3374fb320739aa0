//! A whole GGUF file with one small block, built byte by byte, for tests to change.

/// A metadata value, with the type number that the format gives it.
#[derive(Clone)]
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'static str),
    Texts(Vec<&'static str>),
    I32s(Vec<i32>),
    /// Written as it is: type number, then bytes.
    Raw(u32, Vec<u8>),
}

/// A tensor as the file holds it: axes in the file's order, type number, data.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) axes: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    /// Written instead of the true offset.
    pub(crate) claimed_offset: Option<u64>,
}

/// A whole GGUF file, to be changed before it is written.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) metadata: Vec<(String, Meta)>,
    pub(crate) tensors: Vec<Stored>,
}

impl Gguf {
    pub(crate) fn set(&mut self, key: &str, value: Meta) {
        self.unset(key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(crate) fn unset(&mut self, key: &str) {
        self.metadata.retain(|(existing, _)| existing != key);
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Stored {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// The file, and how many of its bytes are header.
    pub(crate) fn bytes(&self) -> (Vec<u8>, usize) {
        let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            let (kind, bytes) = match value {
                Meta::U32(number) => (4, number.to_le_bytes().to_vec()),
                Meta::F32(number) => (6, number.to_le_bytes().to_vec()),
                Meta::Bool(flag) => (7, vec![u8::from(*flag)]),
                Meta::Text(value) => (8, text(value)),
                Meta::Texts(values) => {
                    let items: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
                    (9, [&8_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &items].concat())
                }
                Meta::I32s(values) => {
                    let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    (9, [&5_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &items].concat())
                }
                Meta::Raw(kind, bytes) => (*kind, bytes.clone()),
            };
            file.extend(text(key));
            file.extend(u32::to_le_bytes(kind));
            file.extend(bytes);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            data.resize(data.len().next_multiple_of(32), 0);
            file.extend(text(&tensor.name));
            file.extend((tensor.axes.len() as u32).to_le_bytes());
            file.extend(tensor.axes.iter().flat_map(|axis| axis.to_le_bytes()));
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.claimed_offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
        }
        let header = file.len();
        file.resize(header.next_multiple_of(32), 0);
        file.extend(data);
        (file, header)
    }
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

pub(crate) const WIDTH: usize = 32;
pub(crate) const TOKENS: [&str; 6] = ["<|im_start|>", "<|im_end|>", "a", "b", "ab", "<|extra|>"];

/// One block of width 32 with two heads of width 16, one key/value head, and every supported type.
pub(crate) fn tiny() -> Gguf {
    let mut gguf = Gguf { version: 3, metadata: Vec::new(), tensors: Vec::new() };
    for (key, value) in [
        ("general.architecture", Meta::Text("llama")),
        ("llama.block_count", Meta::U32(1)),
        ("llama.context_length", Meta::U32(64)),
        ("llama.embedding_length", Meta::U32(WIDTH as u32)),
        ("llama.feed_forward_length", Meta::U32(WIDTH as u32)),
        ("llama.attention.head_count", Meta::U32(2)),
        ("llama.attention.head_count_kv", Meta::U32(1)),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
        ("llama.rope.freq_base", Meta::F32(100_000.0)),
        ("llama.rope.dimension_count", Meta::U32(16)),
        ("llama.vocab_size", Meta::U32(6)),
        ("tokenizer.ggml.model", Meta::Text("gpt2")),
        ("tokenizer.ggml.pre", Meta::Text("smollm")),
        ("tokenizer.ggml.tokens", Meta::Texts(TOKENS.to_vec())),
        ("tokenizer.ggml.token_type", Meta::I32s(vec![3, 3, 1, 1, 1, 4])),
        ("tokenizer.ggml.merges", Meta::Texts(vec!["a b"])),
        ("tokenizer.ggml.bos_token_id", Meta::U32(0)),
        ("tokenizer.ggml.eos_token_id", Meta::U32(1)),
        ("tokenizer.ggml.unknown_token_id", Meta::U32(0)),
        ("tokenizer.chat_template", Meta::Text("{{ messages }}")),
    ] {
        gguf.set(key, value);
    }
    let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
    let mut add = |name: &str, rows: usize, kind: u32, row: &dyn Fn(usize) -> Vec<u8>| {
        let axes = if rows == 0 { vec![WIDTH as u64] } else { vec![WIDTH as u64, rows as u64] };
        let data = (0..rows.max(1)).flat_map(row).collect();
        gguf.tensors.push(Stored { name: name.into(), axes, kind, data, claimed_offset: None });
    };
    let row_number = |row: usize| floats([row as f32; WIDTH]);
    add("token_embd.weight", 6, 0, &row_number);
    add("blk.0.attn_norm.weight", 0, 0, &row_number);
    add("blk.0.attn_q.weight", 32, 0, &row_number);
    add("blk.0.attn_k.weight", 16, 0, &row_number);
    add("blk.0.attn_v.weight", 16, 1, &|row| half(row as f32 / 4.0).repeat(WIDTH));
    // BF16 is the upper half of an F32.
    add("blk.0.attn_output.weight", 32, 30, &|row| (row as f32).to_le_bytes()[2..].repeat(WIDTH));
    add("blk.0.ffn_norm.weight", 0, 0, &row_number);
    // Q4_0: scale, then nibbles; a value is scale * (nibble - 8), low nibbles first.
    add("blk.0.ffn_gate.weight", 32, 2, &|_| [&half(0.5)[..], &[0xF3; 16]].concat());
    // Q4_1: scale, minimum, nibbles; a value is scale * nibble + minimum.
    add("blk.0.ffn_up.weight", 32, 3, &|_| [&half(0.5)[..], &half(-2.0), &[0xF3; 16]].concat());
    // Q8_0: scale, signed bytes.
    add("blk.0.ffn_down.weight", 32, 8, &|_| [&half(0.25)[..], &[0xFC; 32]].concat());
    add("output_norm.weight", 0, 0, &row_number);
    gguf
}
