//! SentencePiece vocabularies, as BPE: the merges follow from the scores of the tokens.

use serde_json::{Value, json};
use std::collections::HashMap;
use undertone_files::InputError;

use super::token_type::USER_DEFINED;
use crate::import::gguf::Gguf;

/// Stands for a space in a vocabulary.
const SPACE: char = '\u{2581}';

/// The longest token, in bytes: the time to find merges grows with the square. Gemma's longest has 93.
const LONGEST: usize = 256;

/// The text of a token in `tokenizer.json`: llama.cpp writes runs of spaces, which are tokens that users define, as spaces.
pub(super) fn text(token: &str, kind: u64) -> String {
    let is_spaces = kind == USER_DEFINED && !token.is_empty() && token.chars().all(|c| c == ' ' || c == SPACE);
    if is_spaces { token.chars().map(|_| SPACE).collect() } else { token.to_owned() }
}

/// Whether a token is a run of spaces, which merges make.
pub(super) fn is_spaces(text: &str) -> bool {
    text.chars().all(|c| c == SPACE)
}

/// The merges of a vocabulary, as `generate_merges` of transformers makes them: a token is merged of each two tokens that it
/// can be divided into; tokens with a higher score come first. Tokens that users define come before all others, as
/// SentencePiece finds them first.
///
/// # Errors
/// There are not as many scores as tokens, or a token is too long.
pub(super) fn merges(gguf: &Gguf, tokens: &[String], types: &[u64]) -> Result<Vec<Value>, InputError> {
    let scores = gguf.numbers("tokenizer.ggml.scores")?;
    if scores.len() != tokens.len() {
        let cause = format!("has `{}` entries for `{}` tokens", scores.len(), tokens.len());
        return Err(gguf.error("tokenizer.ggml.scores", cause));
    }
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut merges: Vec<(f32, [usize; 2], [&str; 2])> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if token.len() > LONGEST {
            let cause = format!("token `{id}` has {} bytes, more than {LONGEST}", token.len());
            return Err(gguf.error("tokenizer.ggml.tokens", cause));
        }
        let score = if types[id] == USER_DEFINED { f32::INFINITY } else { scores[id] };
        for (place, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(place);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                merges.push((score, [*left_id, *right_id], [left, right]));
            }
        }
    }
    let lengths = |[left, right]: [&str; 2]| [left, right].map(|part| part.chars().count());
    merges.sort_by(|(score, ids, parts), (other, other_ids, others)| {
        // Ties: longer parts first, and then in the order of ids.
        other.total_cmp(score).then(lengths(*others).cmp(&lengths(*parts))).then(ids.cmp(other_ids))
    });
    Ok(merges.into_iter().map(|(_, _, [left, right])| json!([left, right])).collect())
}

/// `tokenizer.json`, without what all vocabularies have: normalizer, decoder and model.
pub(super) fn parts(vocabulary: Value, merges: Vec<Value>, unknown: Option<&str>) -> [Value; 3] {
    let spaces = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let space = SPACE.to_string();
    [
        spaces(" ", &space),
        json!({"type": "Sequence", "decoders": [spaces(&space, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]}),
        json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges,
        }),
    ]
}
