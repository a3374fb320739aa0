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
    pub(crate) size: u64,
    /// The hash of Git.
    #[serde(default, rename = "blobId")]
    git: Option<String>,
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
    /// The name of its content in the cache, as the Hub's `ETag` gives it: the SHA-256 of a large file, and else Git's hash.
    pub(crate) fn hash(&self) -> Option<&str> {
        self.sha256().or(self.git.as_deref())
    }

    pub(crate) fn sha256(&self) -> Option<&str> {
        self.lfs.as_ref().map(|large| large.sha256.as_str())
    }
}
