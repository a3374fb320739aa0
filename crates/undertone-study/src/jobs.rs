//! The jobs of a study, one file each. A job reuses what it finished before.

pub(crate) mod first_messages;
pub(crate) mod predict_thoughts;
pub(crate) mod score;
pub(crate) mod train;
pub(crate) mod write;
