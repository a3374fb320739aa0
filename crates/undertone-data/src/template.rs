//! The chat template, as token ids: ChatML with the roles `user`, `assistant`, `reason`, `reaction`.
//!
//! ```text
//! <|im_start|>user⏎Can you make a checklist?<|im_end|>⏎
//! └── header ─────┘└── target when it is one ──────┘└ context
//! ```
//!
//! Spans are built from token ids; no text is rendered and searched again. Content is encoded with
//! special tokens switched off: `<|im_end|>` typed by a user becomes ordinary text.

use std::collections::HashMap;

use tokenizers::Tokenizer;

use crate::guarded::{TokenizerFailed, guarded};
use crate::{Role, ThoughtKind};

/// Whose turn a header opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaker {
    /// The fixed text before every conversation.
    System,
    /// A message.
    Message(Role),
    /// The text of a thought.
    Thought(ThoughtKind),
    /// The label of a thought; only ever a target, never context.
    Label(ThoughtKind),
    /// Whether the conversation ends here; only ever a target.
    End,
}

impl Speaker {
    /// Every speaker.
    pub const ALL: [Self; 8] = [
        Self::System,
        Self::Message(Role::User),
        Self::Message(Role::Assistant),
        Self::Thought(ThoughtKind::Reason),
        Self::Thought(ThoughtKind::Reaction),
        Self::Label(ThoughtKind::Reason),
        Self::Label(ThoughtKind::Reaction),
        Self::End,
    ];

    /// The role name in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Message(Role::User) => "user",
            Self::Message(Role::Assistant) => "assistant",
            Self::Thought(ThoughtKind::Reason) => "reason",
            Self::Thought(ThoughtKind::Reaction) => "reaction",
            Self::Label(ThoughtKind::Reason) => "reason label",
            Self::Label(ThoughtKind::Reaction) => "reaction label",
            Self::End => "conversation",
        }
    }
}

/// The token that opens a turn.
pub const START: &str = "<|im_start|>";
/// The token that ends a turn; it is part of every target.
pub const END: &str = "<|im_end|>";
/// Marks the cut in the middle of a shortened assistant message.
pub const SHORTENED: &str = " [… shortened …] ";

/// The template over one tokenizer.
#[derive(Debug, Clone)]
pub struct Template {
    tokenizer: Tokenizer,
    end: u32,
    newline: Vec<u32>,
    shortened: Vec<u32>,
    /// The header of every speaker.
    headers: HashMap<Speaker, Vec<u32>>,
}

impl Template {
    /// # Errors
    /// Names the template's token that the tokenizer lacks.
    pub fn new(mut tokenizer: Tokenizer) -> Result<Self, MissingToken> {
        let id = |token: &'static str| tokenizer.token_to_id(token).ok_or(MissingToken(token));
        let (start, end) = (id(START)?, id(END)?);
        tokenizer.set_encode_special_tokens(true);
        let mut template = Self { tokenizer, end, newline: Vec::new(), shortened: Vec::new(), headers: HashMap::new() };
        template.newline = template.encode("\n");
        template.shortened = template.encode(SHORTENED);
        let header = |speaker: Speaker| [vec![start], template.encode(&format!("{}\n", speaker.name()))].concat();
        template.headers = Speaker::ALL.into_iter().map(|speaker| (speaker, header(speaker))).collect();
        Ok(template)
    }

    /// Text as ids, special tokens in it as plain text.
    ///
    /// # Panics
    /// If the tokenizer fails on the text, with [`TokenizerFailed`]; a byte-level tokenizer never fails.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match guarded(|| self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())) {
            Ok(Ok(encoding)) => encoding.get_ids().to_vec(),
            Ok(Err(cause)) | Err(cause) => TokenizerFailed::raise(text, cause),
        }
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

    /// `<|im_start|>role⏎`
    pub fn header(&self, speaker: Speaker) -> &[u32] {
        &self.headers[&speaker]
    }

    /// `<|im_end|>`
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The ids that follow the end token of a trunk turn.
    pub fn newline(&self) -> &[u32] {
        &self.newline
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

/// The tokenizer lacks a token that the template needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tokenizer lacks the token `{0}`")]
pub struct MissingToken(pub &'static str);
