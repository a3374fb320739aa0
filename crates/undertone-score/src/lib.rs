//! Scoring and writing with a model, whose weights never change here.
//!
//! [`score()`] turns streams into item records; [`write()`] lets a model write in the place of users' messages.

#![warn(clippy::unwrap_used)]

mod score;
mod write;

pub use score::{KnownRows, score};
pub use write::{likeness, write};
