//! What the Hub says about a revision: its commit, and the files in it.

use hf_hub::api::sync::{ApiError, ApiRepo};
use serde::Deserialize;

/// A commit and its files.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    pub(crate) sha: String,
    #[serde(default)]
    pub(crate) siblings: Vec<Listed>,
}

/// A file. The Hub gives the SHA-256 of large files only.
#[derive(Debug, Deserialize)]
pub(crate) struct Listed {
    pub(crate) rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Large>,
}

#[derive(Debug, Deserialize)]
struct Large {
    sha256: String,
}

impl Listing {
    /// Asks the Hub, with the sizes and hashes of files.
    pub(crate) fn of(repo: &ApiRepo) -> Result<Self, ApiError> {
        let mut answer = repo.info_request().query("blobs", "true").call().map_err(Box::new)?;
        Ok(answer.body_mut().read_json().map_err(Box::new)?)
    }
}

impl Listed {
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.size
    }

    pub(crate) fn sha256(&self) -> Option<&str> {
        self.lfs.as_ref().map(|large| large.sha256.as_str())
    }
}
