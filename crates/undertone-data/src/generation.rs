//! Why a generated text ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why generation stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model chose the end token, which is not part of the text.
    EndToken,
    /// The text reached its limit of new tokens.
    MaxNewTokens,
    /// The model's context was full.
    Context,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndToken => "the end token",
            Self::MaxNewTokens => "the limit of new tokens",
            Self::Context => "the end of the context",
        })
    }
}
