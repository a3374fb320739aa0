//! Models and datasets of the Hugging Face Hub, through the cache that other programs share.
//!
//! [`Repository`] names a repository and a revision. [`Repository::fetch`] asks the Hub which commit and files the revision
//! has, downloads what the cache lacks, and checks the size of each new file and the SHA-256 of those for which the Hub
//! gives one. A download that broke off goes on where it stopped. The `hf-hub` crate knows the Hub's addresses and the cache.
//!
//! As in other programs, the environment variables HF_HOME and HF_HUB_CACHE choose the cache, HF_ENDPOINT the server,
//! HF_TOKEN (or the token that `hf auth login` keeps) the account, and HF_HUB_OFFLINE=1 leaves the network alone.

#![warn(clippy::unwrap_used)]

mod download;
mod fetch;
mod listing;
mod model;
mod name;

pub use fetch::Snapshot;
pub use model::{adapter_folder, model_folder};
pub use name::{Kind, Repository};
