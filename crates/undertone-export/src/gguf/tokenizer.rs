//! The tokenizer and the chat template, as metadata of a GGUF file.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value as Entry;
use serde_json::{Value, json};
use undertone_files::{InputError, Place};
use undertone_model::import::{splits, token_type};

use crate::base::Base;
use crate::chat_template::chat_template;

/// What to do about a model that GGUF does not have.
pub(super) const HINT: &str = "export a Hugging Face folder, and convert it with llama.cpp's `convert_hf_to_gguf.py`";

/// Stands for a space in the vocabularies of SentencePiece.
const SPACE: &str = "\u{2581}";

/// Keys and values of the tokenizer.
///
/// # Errors
/// The tokenizer is of a kind that GGUF does not have.
pub(super) fn tokenizer(base: &Base<'_>) -> Result<Vec<(String, Entry)>, InputError> {
    let file = base.tokenizer_json()?;
    let replaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let of_pieces = file["model"]["byte_fallback"] == true && file["normalizer"] == replaces;
    let pre = if of_pieces { "default" } else { name_of_splits(base, &file)? };
    let merges = merges(&file);
    let Vocabulary { mut tokens, types } = vocabulary(base, &file);
    let texts = |texts: Vec<String>| Entry::Array(texts.into_iter().map(Entry::String).collect());
    let mut entries = Vec::new();
    let mut set = |key: &str, value: Entry| entries.push((format!("tokenizer.{key}"), value));
    set("ggml.model", Entry::String(if of_pieces { "llama" } else { "gpt2" }.to_owned()));
    set("ggml.pre", Entry::String(pre.to_owned()));
    if of_pieces {
        let scores = scores(&tokens, &merges);
        for (token, _) in tokens.iter_mut().zip(&types).filter(|(_, kind)| **kind == token_type::USER_DEFINED) {
            *token = token.replace(SPACE, " ");
        }
        set("ggml.tokens", texts(tokens));
        set("ggml.scores", Entry::Array(scores.into_iter().map(Entry::F32).collect()));
        set("ggml.add_space_prefix", Entry::Bool(false));
    } else {
        set("ggml.tokens", texts(tokens));
    }
    set("ggml.token_type", Entry::Array(types.into_iter().map(|kind| Entry::I32(kind as i32)).collect()));
    if !of_pieces {
        set("ggml.merges", texts(merges.iter().map(|[left, right]| format!("{left} {right}")).collect()));
    }
    if let Some(bos) = base.config.bos_token_id {
        set("ggml.bos_token_id", Entry::U32(bos));
    }
    // Programs stop at both; the first end is that of the user's turn.
    let ends = base.end_ids();
    set("ggml.eos_token_id", Entry::U32(ends[0]));
    set("ggml.eot_token_id", Entry::U32(ends[0]));
    // The chat template writes what a text begins with.
    set("ggml.add_bos_token", Entry::Bool(false));
    set("ggml.add_eos_token", Entry::Bool(false));
    set("chat_template", Entry::String(chat_template(base.original.template.format())));
    Ok(entries)
}

/// llama.cpp's name of how a byte-level tokenizer splits text.
fn name_of_splits(base: &Base<'_>, file: &Value) -> Result<&'static str, InputError> {
    let ours = without_offsets(&file["pre_tokenizer"]);
    let alike: Vec<_> = splits().into_iter().filter(|known| without_offsets(&known.pre_tokenizer) == ours).collect();
    if alike.is_empty() {
        let cause = "splits text in a way that is not written as GGUF; those of SmolLM2, GPT-2, Llama 3 and Qwen 2 are";
        return Err(refused_tokenizer(base, "pre_tokenizer", cause));
    }
    // llama.cpp does not compose texts, and neither do the published files of Qwen.
    let composes = file["normalizer"] == json!({"type": "NFC"}) && alike.iter().any(|known| known.composes);
    if !composes && !file["normalizer"].is_null() {
        return Err(refused_tokenizer(base, "normalizer", "has no counterpart in GGUF"));
    }
    let ignores = file["model"]["ignore_merges"] == true;
    let found = alike.iter().find(|known| known.ignore_merges == ignores);
    found.map(|known| known.name).ok_or_else(|| {
        refused_tokenizer(base, "model.ignore_merges", &format!("`{ignores}` cannot be said of `{}`", alike[0].name))
    })
}

/// The tokens of a vocabulary and their types, by id.
struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<u64>,
}

fn vocabulary(base: &Base<'_>, file: &Value) -> Vocabulary {
    let size = base.config.vocab_size;
    let mut tokens: Vec<String> = (0..size).map(|id| format!("[UNUSED{id}]")).collect();
    let mut types = vec![token_type::UNUSED; size];
    let mut put = |id: &Value, token: &str, kind: u64| {
        let id = id.as_u64().expect("a checked tokenizer has whole numbers below the vocabulary's size") as usize;
        (tokens[id], types[id]) = (token.to_owned(), kind);
    };
    let falls_back = file["model"]["byte_fallback"] == true;
    let is_byte = |token: &str| {
        let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        falls_back && digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
    };
    for (token, id) in file["model"]["vocab"].as_object().into_iter().flatten() {
        put(id, token, if is_byte(token) { token_type::BYTE } else { token_type::NORMAL });
    }
    for added in file["added_tokens"].as_array().into_iter().flatten() {
        let kind = match () {
            () if added["content"] == file["model"]["unk_token"] => token_type::UNKNOWN,
            () if added["special"] == true => token_type::CONTROL,
            () => token_type::USER_DEFINED,
        };
        put(&added["id"], added["content"].as_str().unwrap_or_default(), kind);
    }
    Vocabulary { tokens, types }
}

/// The merges, which files write as pairs or as one text.
fn merges(file: &Value) -> Vec<[String; 2]> {
    let pair = |merge: &Value| {
        let (left, right) = match merge.as_array().map(Vec::as_slice) {
            Some([left, right]) => (left.as_str()?, right.as_str()?),
            _ => merge.as_str().filter(|merge| !merge.starts_with("#version"))?.split_once(' ')?,
        };
        Some([left.to_owned(), right.to_owned()])
    };
    file["model"]["merges"].as_array().into_iter().flatten().filter_map(pair).collect()
}

/// A score for each token, so that merges by the highest score are those of the file: minus the place of the token's first
/// merge.
fn scores(tokens: &[String], merges: &[[String; 2]]) -> Vec<f32> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, merge) in merges.iter().enumerate() {
        places.entry(merge.concat()).or_insert(place);
    }
    let score = |token: &String| -(places.get(token).map_or(merges.len(), |place| *place) as f32);
    tokens.iter().map(score).collect()
}

/// A pre-tokenizer without what does not change how it splits.
fn without_offsets(pre_tokenizer: &Value) -> Value {
    let mut plain = pre_tokenizer.clone();
    let steps: Vec<&mut Value> = match plain["pretokenizers"].as_array() {
        Some(_) => plain["pretokenizers"].as_array_mut().into_iter().flatten().collect(),
        None => vec![&mut plain],
    };
    for step in steps {
        if let Some(step) = step.as_object_mut() {
            step.shift_remove("trim_offsets");
        }
    }
    plain
}

/// The error of a tokenizer that GGUF does not have.
pub(super) fn refused_tokenizer(base: &Base<'_>, part: &str, cause: &str) -> InputError {
    InputError::new(base.original.folder.join("tokenizer.json"), cause).at(Place::Named(part.to_owned())).hint(HINT)
}
