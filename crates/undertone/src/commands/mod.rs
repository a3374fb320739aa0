//! One module per command: it calls the library and shows the result.

pub(crate) mod ablate;
pub(crate) mod data;
pub(crate) mod dataset;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod models;
pub(crate) mod predict;
pub(crate) mod replay;
pub(crate) mod runs;
pub(crate) mod serve;
pub(crate) mod train;
pub(crate) mod verify;
