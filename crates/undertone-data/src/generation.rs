//! Why a generated text ended.

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
