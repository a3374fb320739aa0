//! One window of one conversation as one view shows it: a trunk of tokens with branches.
//!
//! ```text
//! trunk   system ─ user₀ ─ asst₁ ─┬─ reaction₁ ─ user₂ …
//! branch                          └ reaction₁             (as a target: no later token sees it)
//! ```
//!
//! A trunk token sees the trunk up to itself; a branch token sees the trunk before the branch point and its branch up
//! to itself. The trunk is stored first, then the branches one after another. Code that runs streams knows nothing of
//! thoughts.

use std::ops::Range;

use crate::counts::named_counts;
use crate::speaker::Speaker;
use crate::{Item, ThoughtAt};

/// A sequence of tokens that branches off the trunk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Branch {
    /// How many tokens of the trunk it sees; its first token has this position.
    pub anchor: usize,
    /// Its tokens in the stream.
    pub span: Range<usize>,
}

/// One of several spans that are scored for the same item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Candidate {
    /// One of the labels of the item's kind.
    Label {
        /// Index into the labels of the item's kind.
        label: usize,
        /// Index of the true label.
        truth: usize,
    },
    /// Another user's message: an index into the item's distractors.
    Distractor(usize),
}

impl Candidate {
    /// Whether this is the true candidate.
    pub fn is_truth(self) -> bool {
        match self {
            Self::Label { label, truth } => label == truth,
            Self::Distractor(_) => false,
        }
    }
}

/// A span with a loss: the content and its end token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The item, the same in every arm.
    pub item: Item,
    /// Which of the item's candidates this is; `None` for the item's own text.
    pub candidate: Option<Candidate>,
    /// Its tokens in the stream; the token before the span is always on the same path.
    pub span: Range<usize>,
    /// Length of the content in bytes of UTF-8, without the end token.
    pub bytes: usize,
    /// The thoughts that its path sees, in the order in which they stand.
    pub seen: Vec<ThoughtAt>,
    /// Whether the target quotes a thought that its path sees: five consecutive words, or all words of a shorter target.
    pub quoted: bool,
    /// Whether its path sees a thought that has no words because there is no donor.
    pub lacks_words: bool,
    /// How many messages of the user come before it in the conversation.
    pub earlier_user_messages: usize,
    /// How many tokens of earlier replies its path lacks: those cut from the middle, and those before the window.
    pub reply_tokens_lost: usize,
}

impl Target {
    /// Whether the span is the true content of the item, not another candidate.
    pub fn is_truth(&self) -> bool {
        self.candidate.is_none_or(Candidate::is_truth)
    }
}

/// Describes a run of tokens, for showing a stream to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its tokens.
    pub span: Range<usize>,
    /// Whose turn it belongs to.
    pub speaker: Speaker,
    /// Index of the message that it is or is attached to.
    pub message: Option<usize>,
}

/// Counts of what a stream does not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Hidden {
    /// Thoughts of kinds the view does not show.
    pub thoughts_not_in_view: usize,
    /// Thoughts hidden by dropout.
    pub thoughts_dropped: usize,
    /// Thoughts written after the last message was sent, under `strict`.
    pub thoughts_too_late: usize,
    /// Thoughts of unknown time, under `strict`.
    pub thoughts_of_unknown_time: usize,
    /// Thoughts placed after a later message because they were written later, under `strict`.
    pub thoughts_moved_later: usize,
    /// Messages before the window.
    pub messages_before_window: usize,
    /// Tokens cut from the middle of assistant messages.
    pub assistant_tokens_left_out: usize,
}

named_counts!(Hidden {
    thoughts_not_in_view,
    thoughts_dropped,
    thoughts_too_late,
    thoughts_of_unknown_time,
    thoughts_moved_later,
    messages_before_window,
    assistant_tokens_left_out,
} and {});

/// Tokens with branches, targets and the attention rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The conversation's id and the window's number: the same in every arm.
    pub id: String,
    /// The user.
    pub user: String,
    /// All token ids, trunk first.
    pub tokens: Vec<u32>,
    /// Length of the trunk.
    pub trunk: usize,
    /// The branches in storage order; together they are the tokens after the trunk.
    pub branches: Vec<Branch>,
    /// Spans with a loss, in storage order.
    pub targets: Vec<Target>,
    /// Every token belongs to exactly one piece.
    pub pieces: Vec<Piece>,
    /// Counts of what is not shown.
    pub hidden: Hidden,
}

impl Stream {
    /// The position of each token along its own path.
    pub fn positions(&self) -> Vec<u32> {
        let mut positions: Vec<u32> = (0..self.trunk as u32).collect();
        for branch in &self.branches {
            positions.extend((0..branch.span.len()).map(|offset| (branch.anchor + offset) as u32));
        }
        positions
    }

    /// The attention rule: whether token `query` sees token `key`. Asking for all pairs is quadratic: models use the
    /// spans, and tests compare them with this rule.
    pub fn sees(&self, query: usize, key: usize) -> bool {
        let branch_of = |token: usize| self.branches.iter().find(|branch| branch.span.contains(&token));
        match (branch_of(query), branch_of(key)) {
            (None, None) => key <= query,
            (Some(branch), None) => key < branch.anchor,
            (Some(own), Some(other)) => own.span == other.span && key <= query,
            (None, Some(_)) => false,
        }
    }

    /// The plain row of one target: its path from the first trunk token to its own last token, as a conventional
    /// trainer builds it. The loss is on the last `target.span.len()` tokens.
    pub fn plain_row(&self, target: &Target) -> Vec<u32> {
        match self.branches.iter().find(|branch| branch.span.contains(&target.span.start)) {
            None => self.tokens[..target.span.end].to_vec(),
            Some(branch) => [&self.tokens[..branch.anchor], &self.tokens[branch.span.start..target.span.end]].concat(),
        }
    }

    /// How many tokens have a loss.
    pub fn supervised_tokens(&self) -> usize {
        self.targets.iter().map(|target| target.span.len()).sum()
    }

    /// Length of the longest path, in tokens.
    pub fn longest_path(&self) -> usize {
        self.branches.iter().map(|branch| branch.anchor + branch.span.len()).chain([self.trunk]).max().unwrap_or(0)
    }
}
