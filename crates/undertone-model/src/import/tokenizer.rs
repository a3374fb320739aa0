//! Translates the tokenizer in a GGUF file's metadata to `tokenizer.json` and its two companions.
//!
//! Byte-level BPE (`gpt2`), and SentencePiece vocabularies (`llama`), which become BPE.

mod bytes;
mod pieces;
mod splits;

use serde_json::{Map, Value, json};
use undertone_files::InputError;

use self::bytes::unencodable_bytes;
use self::splits::splits_of;
pub use self::splits::{Splits, splits};
use super::config::special_ids;
use super::gguf::Gguf;

/// The token types of llama.cpp.
pub mod token_type {
    /// A token of texts.
    pub const NORMAL: u64 = 1;
    /// What stands for text that no token writes.
    pub const UNKNOWN: u64 = 2;
    /// A special token.
    pub const CONTROL: u64 = 3;
    /// A token that is added, but not special.
    pub const USER_DEFINED: u64 = 4;
    /// A placeholder for an id that the original vocabulary skips; no text is encoded to it.
    pub const UNUSED: u64 = 5;
    /// A byte, of text that no other token writes.
    pub const BYTE: u64 = 6;
}
use token_type::{BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED};

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

/// A vocabulary as the metadata have it.
struct Vocabulary {
    /// The texts of all tokens, by id.
    tokens: Vec<String>,
    types: Vec<u64>,
    /// `added_tokens` of `tokenizer.json`.
    added: Vec<Value>,
    /// `vocab` of its model.
    ids: Map<String, Value>,
}

/// Translates the tokenizer.
///
/// # Errors
///
/// The tokenizer is of another kind, or its pre-tokenizer is not known; a list is missing or of
/// another length than the vocabulary; a token occurs twice or is of a type that such
/// vocabularies do not have; a special id is not in the vocabulary.
pub(super) fn tokenizer_files(gguf: &Gguf) -> Result<TokenizerFiles, InputError> {
    let kind = gguf.text("tokenizer.ggml.model")?;
    let of_pieces = match kind {
        "gpt2" => false,
        "llama" => true,
        other => {
            let cause = format!("`{other}` is not supported; `gpt2` (byte-level BPE) and `llama` (SentencePiece) are");
            return Err(gguf
                .error("tokenizer.ggml.model", cause)
                .hint("choose a base model with another tokenizer, such as SmolLM2"));
        }
    };
    let splits = if of_pieces { None } else { Some(splits_of(gguf)?) };
    for (key, default) in [("add_eos_token", false), ("add_space_prefix", of_pieces)] {
        let key = format!("tokenizer.ggml.{key}");
        if gguf.flag(&key, default)? {
            let adds = if key.ends_with("prefix") { "a space" } else { "a token" };
            return Err(gguf.error(&key, format!("`true` is not supported: encoding would add {adds} to each text")));
        }
    }
    let begins = splits.as_ref().map_or(of_pieces, |splits| splits.begins);
    let begins = gguf.flag("tokenizer.ggml.add_bos_token", begins)?;

    let vocabulary = vocabulary(gguf, of_pieces)?;
    let tokens = &vocabulary.tokens;
    let mut special_tokens = Map::new();
    let mut first = None;
    for (name, id) in special_ids(gguf)? {
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id)).ok_or_else(|| {
            let cause = format!("is `{id}`, but the vocabulary has `{}` tokens", tokens.len());
            gguf.error(&format!("the {name} id"), cause)
        })?;
        special_tokens.insert(format!("{name}_token"), json!(token));
        if name == "bos" {
            first = Some((token.clone(), id));
        }
    }
    let [normalizer, decoder, model] = match &splits {
        None => {
            let merges = pieces::merges(gguf, tokens, &vocabulary.types)?;
            let unknown = vocabulary.types.iter().position(|kind| *kind == UNKNOWN).map(|id| tokens[id].as_str());
            pieces::parts(Value::Object(vocabulary.ids.clone()), merges, unknown)
        }
        Some(splits) => byte_level(gguf, splits, &vocabulary)?,
    };
    let mut config = json!({
        "added_tokens_decoder": added_tokens_decoder(&vocabulary), "clean_up_tokenization_spaces": false,
        "model_max_length": gguf.count(&format!("{}.context_length", gguf.text("general.architecture")?))?,
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
        unencodable_bytes: if of_pieces { Vec::new() } else { unencodable_bytes(tokens) },
        tokenizer: json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": vocabulary.added,
            "normalizer": normalizer, "pre_tokenizer": splits.map(|splits| splits.pre_tokenizer),
            "post_processor": first.filter(|_| begins).map(|(token, id)| beginning(&token, id)),
            "decoder": decoder, "model": model,
        }),
        config,
        special_tokens: Value::Object(special_tokens),
    })
}

/// Reads and checks the tokens and their types.
fn vocabulary(gguf: &Gguf, of_pieces: bool) -> Result<Vocabulary, InputError> {
    let tokens = gguf.texts("tokenizer.ggml.tokens")?;
    let types = gguf.counts("tokenizer.ggml.token_type")?;
    if types.len() != tokens.len() {
        let cause = format!("has `{}` entries for `{}` tokens", types.len(), tokens.len());
        return Err(gguf.error("tokenizer.ggml.token_type", cause));
    }
    let mut vocabulary = Vocabulary { tokens: Vec::new(), types: types.clone(), added: Vec::new(), ids: Map::new() };
    for (id, (token, kind)) in tokens.iter().zip(types).enumerate() {
        let error = |cause: String| gguf.error("tokenizer.ggml.tokens", format!("token `{id}`, `{token}`, {cause}"));
        let is_known = match kind {
            NORMAL | CONTROL | USER_DEFINED | UNUSED => true,
            UNKNOWN | BYTE => of_pieces,
            _ => false,
        };
        if !is_known {
            return Err(error(format!("has type `{kind}`, which such a vocabulary cannot have")));
        }
        let text = if of_pieces { pieces::text(token, kind) } else { (*token).to_owned() };
        if let Some(first) = vocabulary.ids.insert(text.clone(), json!(id)) {
            return Err(error(format!("is also token `{first}`")));
        }
        let is_special = matches!(kind, CONTROL | UNKNOWN);
        if is_special || kind == USER_DEFINED && !(of_pieces && pieces::is_spaces(&text)) {
            if token.is_empty() {
                return Err(error("is a control token without text".into()));
            }
            vocabulary.added.push(json!({"id": id, "content": text, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": is_special}));
        }
        vocabulary.tokens.push(text);
    }
    Ok(vocabulary)
}

/// The added tokens, as `tokenizer_config.json` has them.
fn added_tokens_decoder(vocabulary: &Vocabulary) -> Map<String, Value> {
    let entry = |added: &Value| {
        let mut entry = added.as_object().cloned().unwrap_or_default();
        let id = entry.shift_remove("id").unwrap_or_default();
        (id.to_string(), Value::Object(entry))
    };
    vocabulary.added.iter().map(entry).collect()
}

/// The normalizer, decoder and model of a byte-level vocabulary.
fn byte_level(gguf: &Gguf, splits: &Splits, vocabulary: &Vocabulary) -> Result<[Value; 3], InputError> {
    let merge = |(index, merge): (usize, &str)| match merge.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok(json!([left, right])),
        _ => Err(gguf.error(
            "tokenizer.ggml.merges",
            format!("merge `{index}`, `{merge}`, is not two tokens with a space between"),
        )),
    };
    let merges =
        gguf.texts("tokenizer.ggml.merges")?.into_iter().enumerate().map(merge).collect::<Result<Vec<_>, _>>()?;
    Ok([
        if splits.composes { json!({"type": "NFC"}) } else { Value::Null },
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
        json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": splits.ignore_merges,
            "vocab": vocabulary.ids, "merges": merges,
        }),
    ])
}

/// The post-processor that puts the first token of texts before each.
fn beginning(token: &str, id: u64) -> Value {
    let sequence = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let first = json!({"SpecialToken": {"id": token, "type_id": 0}});
    json!({
        "type": "TemplateProcessing", "single": [first, sequence("A")],
        "pair": [first, sequence("A"), first, sequence("B")],
        "special_tokens": { token: {"id": token, "ids": [id], "tokens": [token]} },
    })
}
