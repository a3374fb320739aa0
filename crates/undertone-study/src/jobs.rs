//! The jobs of a study, one file each. A job reuses its earlier results.

pub(crate) mod attribute;
pub(crate) mod first_messages;
pub(crate) mod predict_thoughts;
pub(crate) mod score;
pub(crate) mod train;
pub(crate) mod write;
