//! A study as one HTML page that needs no network: the question, the answer and its forest plot first, then tables,
//! learning curves and breakdowns, then every conversation with each token shaded by what thoughts did to it.
//!
//! In comes a [`Report`], plain data; out go HTML and SVG as text. Nothing is computed here that a reader could
//! want as a number: those are in `results.json`. Whatever comes from data is escaped, by maud in the page and by
//! the browser's own `textContent` in the explorer.

#![warn(clippy::unwrap_used)]

mod curves;
mod explorer;
mod forest;
mod page;
mod scale;

pub use curves::{Curve, curves};
pub use explorer::{Explorer, ShownConversation, ShownItem, ShownMessage, ShownThought};
pub use forest::{ForestRow, forest};
pub use page::{Report, Section, page};
