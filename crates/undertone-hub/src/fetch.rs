//! Downloads what the cache lacks of a revision, and checks it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};
use undertone_files::{InputError, Place};

use crate::listing::{Listed, Listing};
use crate::name::{Kind, Repository};

/// How often a broken download goes on.
const RETRIES: usize = 5;

/// Files of one commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder in the cache.
    pub folder: PathBuf,
    /// The commit.
    pub commit: String,
}

impl Repository {
    /// The files of the revision that `wanted` chooses from all names, in the cache.
    ///
    /// If the Hub cannot be reached, or HF_HUB_OFFLINE is set, they are taken from the cache as they are.
    ///
    /// # Errors
    /// The repository or revision does not exist or needs a token; the Hub cannot be reached and the cache has no such
    /// commit; a file cannot be downloaded, or is not the one that the Hub describes.
    pub fn fetch(&self, wanted: impl Fn(&[&str]) -> Vec<String>) -> Result<Snapshot, InputError> {
        let cache = cache();
        if is_offline() {
            return self.cached(&cache).ok_or_else(|| {
                self.error("is not in the cache, and HF_HUB_OFFLINE is set")
                    .hint("unset HF_HUB_OFFLINE, or download it on a machine with a network and copy the cache")
            });
        }
        let api = self.api(&cache)?;
        let listing = match Listing::of(&api.repo(self.repo(&self.revision))) {
            Ok(listing) => listing,
            Err(error) => return self.unlisted(&cache, &error),
        };
        let names: Vec<&str> = listing.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let wanted = wanted(&names);
        // The commit, not the name of a branch: files that the cache has of an older commit are not taken.
        let remote = api.repo(self.repo(&listing.sha));
        let kept = cache.repo(self.repo(&listing.sha));
        let folder = kept.pointer_path(&listing.sha);
        for name in &wanted {
            let file = listing.siblings.iter().find(|file| file.rfilename == *name);
            let file = file.ok_or_else(|| self.error(format!("has no file `{name}`")))?;
            if !folder.join(name).exists() {
                self.download(&remote, file)?;
            }
        }
        cache
            .repo(self.repo(&self.revision))
            .create_ref(&listing.sha)
            .map_err(|error| InputError::io(cache.path(), "write to the cache", &error))?;
        Ok(Snapshot { folder, commit: listing.sha })
    }

    /// What the cache has of the revision, without asking the Hub.
    fn cached(&self, cache: &Cache) -> Option<Snapshot> {
        let kept = cache.repo(self.repo(&self.revision));
        let refs = cache.path().join(self.repo(&self.revision).folder_name()).join("refs").join(&self.revision);
        let commit = std::fs::read_to_string(refs).unwrap_or_else(|_| self.revision.clone()).trim().to_owned();
        let folder = kept.pointer_path(&commit);
        folder.is_dir().then_some(Snapshot { folder, commit })
    }

    /// The snapshot of the cache if the Hub cannot be reached; otherwise what it answered, as an error.
    fn unlisted(&self, cache: &Cache, error: &ApiError) -> Result<Snapshot, InputError> {
        let refused = match status(error) {
            Some(401 | 403) => self.error("may not be read with this account").hint(
                "accept the terms on its page, and set the environment variable HF_TOKEN to a token of your account",
            ),
            Some(404) => self
                .error("is not on the Hub, or not for this account")
                .hint("check the name and the revision; private and gated ones need the environment variable HF_TOKEN"),
            _ => match self.cached(cache) {
                Some(snapshot) => {
                    tracing::warn!("note: the Hub cannot be reached ({error}); `{self}` is taken from the cache");
                    return Ok(snapshot);
                }
                None => self
                    .error(format!("cannot be downloaded: {error}"))
                    .hint("check the network and HF_ENDPOINT; a file that was begun is continued by the next start"),
            },
        };
        Err(refused)
    }

    fn download(&self, remote: &ApiRepo, file: &Listed) -> Result<(), InputError> {
        let name = &file.rfilename;
        tracing::info!("downloading `{name}` of `{self}`");
        let failed = |error: ApiError| {
            self.error(format!("cannot be downloaded: {error}"))
                .at(Place::Named(name.clone()))
                .hint("run the same command again: it goes on where the download stopped")
        };
        let path = remote.download(name).map_err(failed)?;
        let unread = |error: io::Error| InputError::io(&path, "read the downloaded file", &error);
        let cause = match (file.bytes(), std::fs::metadata(&path).map_err(unread)?.len()) {
            (Some(expected), bytes) if bytes != expected => format!("has {bytes} bytes, and not {expected}"),
            _ => match file.sha256() {
                Some(expected) => match sha256(&path).map_err(unread)? {
                    found if found == expected => return Ok(()),
                    found => format!("has the SHA-256 {found}, and not {expected}"),
                },
                None => return Ok(()),
            },
        };
        // The next start downloads it anew.
        for path in [std::fs::canonicalize(&path).map_err(unread)?, path.clone()] {
            let _ = std::fs::remove_file(path);
        }
        Err(self
            .error(format!("{cause}, as the Hub describes it; it was removed"))
            .at(Place::Named(name.clone()))
            .hint(
                "run the same command again; if this happens twice, something between here and the Hub changes files",
            ))
    }

    fn api(&self, cache: &Cache) -> Result<Api, InputError> {
        let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty()).or_else(|| cache.token());
        ApiBuilder::from_env()
            .with_cache_dir(cache.path().clone())
            .with_token(token)
            .with_retries(RETRIES)
            .with_progress(io::IsTerminal::is_terminal(&io::stderr()))
            .build()
            .map_err(|error| self.error(format!("cannot be asked for: {error}")))
    }

    fn repo(&self, revision: &str) -> Repo {
        let kind = match self.kind {
            Kind::Model => RepoType::Model,
            Kind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.name.clone(), kind, revision.to_owned())
    }

    fn error(&self, cause: impl Into<String>) -> InputError {
        InputError::new(self.to_string(), cause)
    }
}

/// The cache that other programs use, too.
fn cache() -> Cache {
    match std::env::var_os("HF_HUB_CACHE").filter(|path| !path.is_empty()) {
        Some(path) => Cache::new(path.into()),
        None => Cache::from_env(),
    }
}

fn is_offline() -> bool {
    let value = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
    ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
}

/// The HTTP status that an answer had.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}

/// The SHA-256 of a file, in hexadecimal digits.
fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
