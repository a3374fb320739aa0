//! What all blocks share in one forward pass.

use undertone_data::Document;
use undertone_ops::{Operators, Rotation};

use crate::dropout::DropoutKey;

/// The operators, the documents of the row, the rotations of their positions, and the dropout key.
pub(crate) struct Pass<'a> {
    pub(crate) operators: &'a dyn Operators,
    pub(crate) documents: &'a [Document],
    /// In the order of the configuration's rotary positions.
    pub(crate) rotations: Vec<Rotation>,
    pub(crate) dropout: Option<DropoutKey>,
}
