//! What all blocks share in one forward pass.

use undertone_data::Document;
use undertone_ops::{Operators, Rotation};

use crate::dropout::DropoutKey;

/// The operators, the documents of the row, and what depends on both.
pub(crate) struct Pass<'a> {
    pub(crate) operators: &'a dyn Operators,
    pub(crate) documents: &'a [Document],
    pub(crate) rotation: Rotation,
    pub(crate) dropout: Option<DropoutKey>,
}
