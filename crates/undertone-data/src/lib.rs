//! Turns conversation files into views, streams and rows. Uses no tensors.
//!
//! The path of the data: JSONL lines are read into [`Conversation`]s, users are split, each
//! conversation is encoded once ([`Encoded`]), cut into [`Window`]s that all arms of a study share,
//! and laid out by a [`View`] as a [`Stream`] of tokens with branches and targets; streams are
//! packed into [`Row`]s for one forward pass.

#![warn(clippy::unwrap_used)]

mod builder;
mod chat_format;
mod chats;
mod conversation;
mod corpus;
mod counts;
mod dataset;
mod distractors;
mod encode;
mod generation;
mod guarded;
mod known;
mod nearest;
mod packed;
mod read;
mod redact;
mod row;
mod seed;
mod source;
mod speaker;
mod split;
mod stats;
mod stream;
mod synthetic;
mod target;
mod template;
mod user_id;
mod view;
mod window;

/// The JSON Schema of a line of a conversation file.
pub const SCHEMA: &str = include_str!("schema.json");

pub use builder::prompt::PromptOptions;
pub use builder::{Layout, Purpose, StreamBuilder, ThoughtDropout, Words};
pub use chat_format::{ChatFormat, GivenFormat, GivenHeaders, Turn, with_name};
pub use chats::{ChatForm, Converted, convert_chats};
pub use conversation::{
    Conversation, END_LABELS, Label, Message, REACTION_LABELS, REASON_LABELS, Role, Survey, Thought, ThoughtKind,
};
pub use corpus::{Corpus, CorpusSpec, Division, OnTooLong, Windows, encode};
pub use dataset::{Counts, Dataset, THOUGHTTRACE, counts};
pub use encode::{Encoded, EncodedMessage, ThoughtAt, Thoughts};
pub use generation::StopReason;
pub use guarded::{TokenizerFailed, caught, guarded};
pub use known::{Known, Shared};
pub use packed::read_text;
pub use read::{
    AssistantFirst, CleanOptions, Consecutive, EmptyMessages, MAX_LINE_BYTES, MAX_UNKNOWN_FIELDS, OnInvalid,
    ReadOptions, ReadReport, Reader, Record, SKIPPED_REASONS,
};
pub use redact::{Redacted, Redactor};
pub use row::{Document, Row, pack};
pub use seed::{derived_number, derived_seed, generator, sample_by_hash};
pub use source::{PREDICTED_TOKENS, Source};
pub use speaker::Speaker;
pub use split::{Fold, FoldOptions, Overlap, OverlapReport, Split, SplitOptions, check_disjoint};
pub use stats::{
    DataStats, LabelShare, NearDuplicates, PostHoc, Quantiles, StatsBuilder, ThoughtStats, ThoughtTiming,
    near_duplicates,
};
pub use stream::{Branch, Candidate, Hidden, Piece, Stream, Target};
pub use synthetic::{Planted, Synthetic};
pub use target::{Item, TargetKind};
pub use template::{SHORTENED, Template, UnfitToken};
pub use view::{Access, Placement, Timing, View};
pub use window::{Costs, TooLong, Window, windows};
