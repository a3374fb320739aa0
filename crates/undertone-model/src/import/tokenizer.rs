//! Translates the tokenizer in a GGUF file's metadata to `tokenizer.json` and its two companions.
//!
//! Supports only the byte-level BPE of GPT-2. SentencePiece vocabularies (`llama`) are not read.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use undertone_files::InputError;

use super::gguf::Gguf;
use super::llama::special_ids;

/// The token types of llama.cpp that a byte-level vocabulary may have.
pub mod token_type {
    /// A token of texts.
    pub const NORMAL: u64 = 1;
    /// A special token.
    pub const CONTROL: u64 = 3;
    /// A token that is added, but not special.
    pub const USER_DEFINED: u64 = 4;
    /// A placeholder for an id that the original vocabulary skips; no text is encoded to it.
    pub const UNUSED: u64 = 5;
}
use token_type::{CONTROL, NORMAL, UNUSED, USER_DEFINED};

/// The contents of the folder's tokenizer files.
#[derive(Debug)]
pub(super) struct TokenizerFiles {
    /// `tokenizer.json`.
    pub(super) tokenizer: Value,
    /// `tokenizer_config.json`.
    pub(super) config: Value,
    /// `special_tokens_map.json`.
    pub(super) special_tokens: Value,
    /// Tokens in the vocabulary.
    pub(super) tokens: usize,
    /// Bytes that occur in UTF-8 but have no token; BPE drops them from a text.
    pub(super) unencodable_bytes: Vec<u8>,
}

/// Translates the tokenizer.
///
/// # Errors
///
/// The tokenizer is of another kind, or its pre-tokenizer is not known; a list is missing or of
/// another length than the vocabulary; a token occurs twice or is of a type that byte-level
/// vocabularies do not have; a special id is not in the vocabulary.
pub(super) fn tokenizer_files(gguf: &Gguf) -> Result<TokenizerFiles, InputError> {
    let kind = gguf.text("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(gguf
            .error("tokenizer.ggml.model", format!("`{kind}` is not supported; only `gpt2` (byte-level BPE) is"))
            .hint("choose a base model with a byte-level tokenizer, such as SmolLM2"));
    }
    let pre_tokenizer = pre_tokenizer(gguf)?;
    for key in ["add_bos_token", "add_eos_token", "add_space_prefix"] {
        let key = format!("tokenizer.ggml.{key}");
        if gguf.flag(&key)? {
            return Err(gguf.error(&key, "`true` is not supported: encoding must not add tokens"));
        }
    }

    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let types = gguf.counts("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        let cause = format!("has `{}` entries for `{}` tokens", types.len(), tokens.len());
        return Err(gguf.error("tokenizer.ggml.token_type", cause));
    }
    let mut vocabulary = Map::new();
    let mut added = Vec::new();
    let mut decoder = Map::new();
    for (id, (token, kind)) in tokens.iter().zip(&types).enumerate() {
        let error = |cause: String| gguf.error("tokenizer.ggml.tokens", format!("token `{id}`, `{token}`, {cause}"));
        if !matches!(*kind, NORMAL | CONTROL | USER_DEFINED | UNUSED) {
            return Err(error(format!("has type `{kind}`, which a byte-level vocabulary cannot have")));
        }
        if let Some(first) = vocabulary.insert((*token).to_owned(), json!(id)) {
            return Err(error(format!("is also token `{first}`")));
        }
        if matches!(*kind, CONTROL | USER_DEFINED) {
            if token.is_empty() {
                return Err(error("is a control token without text".into()));
            }
            let mut entry = json!({"content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == CONTROL});
            decoder.insert(id.to_string(), entry.clone());
            entry["id"] = json!(id);
            added.push(entry);
        }
    }
    let merges = gguf
        .texts("tokenizer.ggml.merges")?
        .into_iter()
        .enumerate()
        .map(|(index, merge)| match merge.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok(json!([left, right])),
            _ => Err(gguf.error(
                "tokenizer.ggml.merges",
                format!("merge `{index}`, `{merge}`, is not two tokens with a space between"),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut special_tokens = Map::new();
    for (name, id) in special_ids(gguf)? {
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id)).ok_or_else(|| {
            gguf.error(
                &format!("the {name} id"),
                format!("is `{id}`, but the vocabulary has `{}` tokens", tokens.len()),
            )
        })?;
        special_tokens.insert(format!("{name}_token"), json!(token));
    }
    let mut config = json!({
        "added_tokens_decoder": decoder, "clean_up_tokenization_spaces": false,
        "model_max_length": gguf.count("llama.context_length")?,
        // The class that takes `tokenizer.json` as it is; others rebuild parts of it.
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    for (key, token) in &special_tokens {
        config[key] = token.clone();
    }
    if let Some(template) = gguf.optional_text("tokenizer.chat_template")? {
        config["chat_template"] = json!(template);
    }
    Ok(TokenizerFiles {
        tokens: tokens.len(),
        unencodable_bytes: unencodable_bytes(&tokens),
        tokenizer: json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": byte_level(),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary, "merges": merges,
            },
        }),
        config,
        special_tokens: Value::Object(special_tokens),
    })
}

/// How text is split before the merges.
fn pre_tokenizer(gguf: &Gguf) -> Result<Value, InputError> {
    // As transformers reads it; llama.cpp splits digits and punctuation further for `default`.
    let name = match gguf.text("tokenizer.ggml.pre")? {
        "default" => "gpt-2",
        name => name,
    };
    let found = pre_tokenizers().into_iter().find(|(known, _)| *known == name);
    found.map(|(_, pre_tokenizer)| pre_tokenizer).ok_or_else(|| {
        gguf.error("tokenizer.ggml.pre", format!("`{name}` is not supported; these are: `smollm`, `gpt-2`, `default`"))
            .hint("text would be split differently from what the model was trained on")
    })
}

/// The ways to split text before the merges, by llama.cpp's names.
pub fn pre_tokenizers() -> [(&'static str, Value); 2] {
    let digits = json!({"type": "Digits", "individual_digits": true});
    [("smollm", json!({"type": "Sequence", "pretokenizers": [digits, byte_level()]})), ("gpt-2", byte_level())]
}

fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
}

/// The bytes that UTF-8 can contain and the vocabulary cannot encode.
fn unencodable_bytes(tokens: &[&str]) -> Vec<u8> {
    let single: HashSet<char> = tokens
        .iter()
        .filter_map(|token| {
            let mut letters = token.chars();
            letters.next().filter(|_| letters.next().is_none())
        })
        .collect();
    let alphabet = byte_alphabet();
    let in_utf8 = |byte: &u8| !matches!(byte, 0xC0 | 0xC1 | 0xF5..);
    (0..=255).filter(in_utf8).filter(|byte| !single.contains(&alphabet[usize::from(*byte)])).collect()
}

/// The character that represents each byte in a byte-level vocabulary: the byte's own character if it is visible, else
/// the next one from U+0100 (`bytes_to_unicode` in GPT-2's `encoder.py`).
fn byte_alphabet() -> [char; 256] {
    let mut stand_ins = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        visible @ (b'!'..=b'~' | 0xA1..=0xAC | 0xAE..) => char::from(visible),
        _ => stand_ins.next().unwrap_or(char::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_without_a_token_are_found() {
        let alphabet = byte_alphabet();
        assert_eq!((alphabet[b' ' as usize], alphabet[b'\n' as usize], alphabet[0xAD]), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(alphabet.iter().collect::<HashSet<_>>().len(), 256);
        let all: Vec<String> = alphabet.iter().map(char::to_string).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert!(unencodable_bytes(&all).is_empty());
        // Without `!`, and without 0xC0, which no text contains.
        let fewer: Vec<&str> = all.iter().copied().filter(|token| !["!", "À"].contains(token)).collect();
        assert_eq!(unencodable_bytes(&fewer), [b'!']);
    }
}
