//! The chat template: a [`ChatFormat`] as the token ids of one tokenizer.
//!
//! Spans are built from token ids; no text is rendered and searched again. Content is encoded with
//! special tokens switched off: an `<|im_end|>` that a user types becomes ordinary text.

use std::collections::HashMap;

use tokenizers::Tokenizer;

use crate::Role;
use crate::chat_format::ChatFormat;
use crate::guarded::{TokenizerFailed, guarded};
use crate::speaker::Speaker;

/// Marks the cut in the middle of a shortened assistant message.
pub const SHORTENED: &str = " [… shortened …] ";

/// The template over one tokenizer.
#[derive(Debug, Clone)]
pub struct Template {
    tokenizer: Tokenizer,
    format: ChatFormat,
    opening: Vec<u32>,
    shortened: Vec<u32>,
    turns: HashMap<Speaker, TurnIds>,
}

/// A [`Turn`](crate::Turn) as ids.
#[derive(Debug, Clone)]
struct TurnIds {
    header: Vec<u32>,
    end: u32,
    separator: Vec<u32>,
}

impl Template {
    /// # Errors
    /// The tokenizer lacks a token that the format needs, or would find it in the text of a message, too.
    pub fn new(mut tokenizer: Tokenizer, format: ChatFormat) -> Result<Self, UnfitToken> {
        let added = tokenizer.get_added_tokens_decoder();
        let mut turns = HashMap::new();
        for (speaker, turn) in format.turns() {
            let end = tokenizer.token_to_id(&turn.end).ok_or_else(|| UnfitToken::missing(&turn.end))?;
            if !added.get(&end).is_some_and(|token| token.special) {
                return Err(UnfitToken::not_special(&turn.end));
            }
            let [header, separator] = [&turn.header, &turn.separator].map(|text| of_format(&tokenizer, text));
            turns.insert(speaker, TurnIds { header: header?, end, separator: separator? });
        }
        let opening = of_format(&tokenizer, &format.opening)?;
        tokenizer.set_encode_special_tokens(true);
        let mut template = Self { tokenizer, format, opening, shortened: Vec::new(), turns };
        template.shortened = template.encode(SHORTENED);
        Ok(template)
    }

    /// The format.
    pub fn format(&self) -> &ChatFormat {
        &self.format
    }

    /// Text as ids, special tokens in it as plain text.
    ///
    /// # Panics
    /// If the tokenizer fails on the text, with [`TokenizerFailed`]; a byte-level tokenizer never fails.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        encoded(&self.tokenizer, text)
    }

    /// The size of the vocabulary, including special tokens.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Whether the ids decode to the whole text. A byte-level vocabulary may lack tokens for some bytes, which encoding
    /// then drops.
    pub fn is_lossless(&self, text: &str, ids: &[u32]) -> bool {
        self.decode(ids) == text
    }

    /// Ids as text, special tokens shown.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, false).unwrap_or_else(|error| format!("<undecodable {ids:?}: {error}>"))
    }

    /// The text of each token; joined, they are the whole text. A character whose bytes are spread over several tokens
    /// belongs to the last of them.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let mut told = String::new();
        let piece = |end: usize| {
            let text = self.decode(&ids[..end]);
            let is_whole = end == ids.len() || !text.ends_with(char::REPLACEMENT_CHARACTER);
            match text.strip_prefix(told.as_str()).filter(|_| is_whole).map(str::to_owned) {
                Some(new) => {
                    told = text;
                    new
                }
                None => String::new(),
            }
        };
        (1..=ids.len()).map(piece).collect()
    }

    /// The ids before the first turn.
    pub fn opening(&self) -> &[u32] {
        &self.opening
    }

    /// The ids before the text of a speaker.
    pub fn header(&self, speaker: Speaker) -> &[u32] {
        &self.turns[&speaker].header
    }

    /// The token that ends the text of a speaker.
    pub fn end(&self, speaker: Speaker) -> u32 {
        self.turns[&speaker].end
    }

    /// The tokens that end turns, each once, the user's first.
    pub fn ends(&self) -> Vec<u32> {
        let mut ends = Vec::new();
        for speaker in [&[Speaker::Message(Role::User)], &Speaker::ALL[..]].concat() {
            let end = self.end(speaker);
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        ends
    }

    /// The number of ids around the text of a speaker.
    pub fn around(&self, speaker: Speaker) -> usize {
        let TurnIds { header, separator, .. } = &self.turns[&speaker];
        header.len() + 1 + separator.len()
    }

    /// A whole turn: header, content, end and separator.
    pub fn turn(&self, speaker: Speaker, content: &[u32]) -> Vec<u32> {
        let TurnIds { header, end, separator } = &self.turns[&speaker];
        [header, content, &[*end], separator].concat()
    }

    /// Shortens `ids` to at most `limit` ids: the beginning and the end around [`SHORTENED`]. Also returns how many ids
    /// were left out.
    pub fn shorten(&self, ids: &[u32], limit: usize) -> (Vec<u32>, usize) {
        let kept = limit.saturating_sub(self.shortened.len());
        if ids.len() <= limit {
            return (ids.to_vec(), 0);
        }
        let head = kept.div_ceil(2);
        let tail = ids.len() - (kept - head);
        let short = [&ids[..head], &self.shortened, &ids[tail..]].concat();
        (short, ids.len() - kept)
    }
}

/// Text as ids.
fn encoded(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    match guarded(|| tokenizer.encode_fast(text, false).map_err(|error| error.to_string())) {
        Ok(Ok(encoding)) => encoding.get_ids().to_vec(),
        Ok(Err(cause)) | Err(cause) => TokenizerFailed::raise(text, cause),
    }
}

/// A text of the format as ids, with its special tokens.
fn of_format(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, UnfitToken> {
    let ids = encoded(tokenizer, text);
    let added = tokenizer.get_added_tokens_decoder();
    // A token that is added but not special is also found in the text of messages. Spaces may be: they forge no turn.
    let findable = |token: &&tokenizers::AddedToken| !token.special && !token.content.trim().is_empty();
    match ids.iter().filter_map(|id| added.get(id)).find(findable) {
        Some(token) => Err(UnfitToken::not_special(&token.content)),
        None => Ok(ids),
    }
}

/// A token of the chat format that the tokenizer lacks, or does not keep apart from text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}, and the chat format needs it")]
pub struct UnfitToken {
    /// The token.
    pub token: String,
    problem: &'static str,
}

impl UnfitToken {
    fn missing(token: &str) -> Self {
        Self { token: token.to_owned(), problem: "is not in the vocabulary" }
    }

    fn not_special(token: &str) -> Self {
        Self { token: token.to_owned(), problem: "is not a special token" }
    }
}
