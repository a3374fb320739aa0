//! Conversation files to views, streams and rows. Knows no tensor.
//!
//! The path of the data: JSONL lines are read into [`Conversation`]s, users are split, each
//! conversation is encoded once ([`Encoded`]), cut into [`Window`]s that all arms of a study share,
//! and laid out by a [`View`] as a [`Stream`] of tokens with branches and targets; streams are
//! packed into [`Row`]s for one forward pass.

#![warn(clippy::unwrap_used)]

mod builder;
mod clean;
mod conversation;
mod corpus;
mod distractors;
mod draw;
mod encode;
mod error;
mod read;
mod row;
mod source;
mod split;
mod stats;
mod stream;
mod synthetic;
mod target;
mod template;
mod view;
mod window;
mod write;

pub use builder::{Layout, Purpose, StreamBuilder, ThoughtDropout, Words};
pub use clean::{AssistantFirst, CleanOptions, Consecutive, EmptyMessages};
pub use conversation::{
    Conversation, END_LABELS, Label, Message, REACTION_LABELS, REASON_LABELS, Role, Survey, Thought, ThoughtKind,
};
pub use corpus::{Corpus, OnTooLong, Study, encode};
pub use encode::{Encoded, EncodedMessage, Thoughts};
pub use error::{InputError, Place};
pub use read::{
    MAX_LINE_BYTES, MAX_UNKNOWN_FIELDS, OnInvalid, ReadOptions, ReadReport, Reader, Record, SKIPPED_REASONS,
};
pub use row::{Document, Row, pack};
pub use source::{PREDICTED_TOKENS, Source};
pub use split::{Fold, FoldOptions, Overlap, OverlapReport, Split, SplitOptions, check_disjoint};
pub use stats::{
    DataStats, LabelShare, NearDuplicates, PostHoc, Quantiles, StatsBuilder, ThoughtStats, ThoughtTiming,
    near_duplicates,
};
pub use stream::{Branch, Candidate, Hidden, Piece, Stream, Target};
pub use synthetic::{Planted, Synthetic};
pub use target::{Item, TargetKind};
pub use template::{END, MissingToken, SHORTENED, START, Speaker, Template};
pub use view::{Access, Placement, Timing, View};
pub use window::{Costs, TooLong, Window, windows};
pub use write::{remove_leftovers, write_whole};
