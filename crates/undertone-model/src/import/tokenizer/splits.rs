//! How byte-level tokenizers split text before the merges, by llama.cpp's names.

use serde_json::{Value, json};
use undertone_files::InputError;

use crate::import::gguf::Gguf;

/// As in the tokenizers of Llama 3 and of GPT-4 (`cl100k`).
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// As in the tokenizers of Qwen: digits stand alone.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to split text.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// `tokenizer.ggml.pre`.
    pub name: &'static str,
    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub pre_tokenizer: Value,
    /// Whether a piece of text that is a token stays whole, whatever the merges.
    pub ignore_merges: bool,
    /// Whether texts are composed (NFC) before. llama.cpp does not do that.
    pub composes: bool,
    /// Whether encoding begins with the first token of texts, if the file does not say.
    pub begins: bool,
}

/// Every way that is known.
pub fn splits() -> [Splits; 5] {
    let digits = json!({"type": "Digits", "individual_digits": true});
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let steps = |first: Value, use_regex| json!({"type": "Sequence", "pretokenizers": [first, byte_level(use_regex)]});
    let by_pattern = |pattern: &str| {
        steps(json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}), false)
    };
    let splits =
        |name, pre_tokenizer| Splits { name, pre_tokenizer, ignore_merges: false, composes: false, begins: false };
    [
        splits("smollm", steps(digits, true)),
        splits("gpt-2", byte_level(true)),
        Splits { ignore_merges: true, begins: true, ..splits("llama-bpe", by_pattern(LLAMA3)) },
        splits("dbrx", by_pattern(LLAMA3)),
        Splits { composes: true, ..splits("qwen2", by_pattern(QWEN2)) },
    ]
}

/// What the metadata say.
pub(super) fn splits_of(gguf: &Gguf) -> Result<Splits, InputError> {
    let name = match gguf.text("tokenizer.ggml.pre")? {
        // As transformers reads it; llama.cpp splits digits and punctuation further for `default`.
        "default" => "gpt-2",
        // llama.cpp splits for these in the same way.
        "refact" | "starcoder" | "command-r" => "smollm",
        name => name,
    };
    splits().into_iter().find(|known| known.name == name).ok_or_else(|| {
        let known = splits().map(|known| format!("`{}`", known.name)).join(", ");
        gguf.error("tokenizer.ggml.pre", format!("`{name}` is not supported; these are: {known}, `default`"))
            .hint("text would be split differently from what the model was trained on")
    })
}
