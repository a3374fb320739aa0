//! Scoring and text generation with a model, whose weights never change here.
//!
//! [`score()`] turns streams into item records; [`write()`] generates texts in place of users' messages.

#![warn(clippy::unwrap_used)]

mod score;
mod write;

pub use score::{KnownRows, score};
pub use write::{likeness, write};
