//! Brings what the cache lacks of a revision into it.

use std::io;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use undertone_files::{InputError, Place, write_whole};

use crate::download::{Download, Failed};
use crate::listing::{Listed, Listing};
use crate::name::{Kind, Repository};

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
            return self.cached(&cache, &wanted).ok_or_else(|| {
                self.error("is not in the cache, and HF_HUB_OFFLINE is set")
                    .hint("unset HF_HUB_OFFLINE, or download it on a machine with a network and copy the cache")
            });
        }
        let token = token(&cache);
        let api = self.api(&cache, token.clone())?;
        let listing = match Listing::of(&api.repo(self.repo(&self.revision))) {
            Ok(listing) => listing,
            Err(error) => return self.unlisted(&cache, &error, &wanted),
        };
        if !is_hexadecimal(&listing.sha) {
            return Err(self.error(format!("has the commit {:?}, which is none", listing.sha)));
        }
        let names: Vec<&str> = listing.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        // The commit, not the name of a branch: files that the cache has of an older commit are not taken.
        let remote = api.repo(self.repo(&listing.sha));
        let kept = cache.repo(self.repo(&listing.sha));
        let folder = kept.pointer_path(&listing.sha);
        for name in &wanted(&names) {
            let file = listing.siblings.iter().find(|file| file.rfilename == *name);
            let file = file.ok_or_else(|| self.error(format!("has no file `{name}`")))?;
            let hash = self.checked(file)?;
            if !folder.join(name).exists() {
                let blob = kept.blob_path(hash);
                let download = Download { url: remote.url(name), token: token.as_deref(), file, blob: &blob };
                let failed = |failed: Failed| self.error(failed.cause).at(Place::Named(name.clone())).hint(failed.hint);
                download.run().map_err(failed)?;
                link(&blob, &folder.join(name), name)
                    .map_err(|error| InputError::io(&folder, "write to the cache", &error))?;
            }
        }
        write_whole(&self.names_path(&cache, &listing.sha), names.join("\n").as_bytes())?;
        cache
            .repo(self.repo(&self.revision))
            .create_ref(&listing.sha)
            .map_err(|error| InputError::io(cache.path(), "write to the cache", &error))?;
        Ok(Snapshot { folder, commit: listing.sha })
    }

    /// The files of the revision from the cache, without asking the Hub; `None` if one of them is not there.
    fn cached(&self, cache: &Cache, wanted: impl Fn(&[&str]) -> Vec<String>) -> Option<Snapshot> {
        let kept = cache.repo(self.repo(&self.revision));
        let refs = cache.path().join(self.repo(&self.revision).folder_name()).join("refs").join(&self.revision);
        let commit = std::fs::read_to_string(refs).unwrap_or_else(|_| self.revision.clone()).trim().to_owned();
        let folder = kept.pointer_path(&commit);
        let known = std::fs::read_to_string(self.names_path(cache, &commit)).ok().filter(|_| is_hexadecimal(&commit));
        let names: Vec<String> = match known {
            Some(names) => names.lines().map(str::to_owned).collect(),
            None => {
                let entries = std::fs::read_dir(&folder).ok()?.flatten();
                tracing::warn!(
                    "note: another program has put `{self}` into the cache; whether it lacks files, such as a chat template, is not known"
                );
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        wanted(&names).iter().all(|name| folder.join(name).is_file()).then_some(Snapshot { folder, commit })
    }

    /// Where the names of all files of a commit are kept, so that a snapshot without a network is known to be whole.
    fn names_path(&self, cache: &Cache, commit: &str) -> PathBuf {
        cache.path().join(self.repo(&self.revision).folder_name()).join(format!(".undertone-{commit}.txt"))
    }

    /// The snapshot of the cache if the Hub cannot be reached; otherwise what it answered, as an error.
    fn unlisted(
        &self,
        cache: &Cache,
        error: &ApiError,
        wanted: impl Fn(&[&str]) -> Vec<String>,
    ) -> Result<Snapshot, InputError> {
        let refused = match status(error) {
            Some(401 | 403) => self.error("may not be read with this account").hint(
                "accept the terms on its page, and set the environment variable HF_TOKEN to a token of your account",
            ),
            Some(404) => self
                .error("is not on the Hub, or not for this account")
                .hint("check the name and the revision; private and gated ones need the environment variable HF_TOKEN"),
            _ => match self.cached(cache, wanted) {
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

    /// The file as it is, if its name and hash can be names of files in the cache.
    fn checked<'a>(&self, file: &'a Listed) -> Result<&'a str, InputError> {
        let is_inside = Path::new(&file.rfilename).components().all(|part| matches!(part, Component::Normal(_)));
        match file.hash().filter(|hash| is_inside && is_hexadecimal(hash)) {
            Some(hash) => Ok(hash),
            None => Err(self
                .error("is described by the Hub without a name or a hash that can be used")
                .at(Place::Named(file.rfilename.clone()))),
        }
    }

    fn api(&self, cache: &Cache, token: Option<String>) -> Result<Api, InputError> {
        ApiBuilder::from_env()
            .with_cache_dir(cache.path().clone())
            .with_token(token)
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

fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The account's token.
fn token(cache: &Cache) -> Option<String> {
    let given = std::env::var("HF_TOKEN").ok().map(|token| token.trim().to_owned());
    given.filter(|token| !token.is_empty()).or_else(|| cache.token())
}

/// Makes the file of a snapshot: a link to its blob, as other programs do.
fn link(blob: &Path, pointer: &Path, name: &str) -> io::Result<()> {
    std::fs::create_dir_all(pointer.parent().expect("it lies in a folder"))?;
    let up = "../".repeat(Path::new(name).components().count() + 1);
    let target = Path::new(&up).join("blobs").join(blob.file_name().expect("a hash"));
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(target, pointer);
    #[cfg(not(unix))]
    let linked = std::fs::copy(blob, pointer).map(drop);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}
