//! One module a command: it calls the library and shows what came back.

pub(crate) mod ablate;
pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod predict;
pub(crate) mod train;
