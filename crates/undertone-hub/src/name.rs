//! Names of repositories: `hf:owner/name@revision`.

use std::fmt;
use std::path::Path;

use undertone_files::InputError;

const PREFIX: &str = "hf:";

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

/// A revision of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// What it holds.
    pub kind: Kind,
    /// `owner/name`, or the name alone for some old ones.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Repository {
    /// The model that a path of the form `hf:owner/name` or `hf:owner/name@revision` names; `None` for another path.
    ///
    /// # Errors
    /// The path begins with `hf:` and does not have this form.
    pub fn of_model(path: &Path) -> Result<Option<Self>, InputError> {
        Self::of(Kind::Model, path)
    }

    /// As [`Self::of_model`], for a dataset.
    ///
    /// # Errors
    /// As [`Self::of_model`].
    pub fn of_dataset(path: &Path) -> Result<Option<Self>, InputError> {
        Self::of(Kind::Dataset, path)
    }

    fn of(kind: Kind, path: &Path) -> Result<Option<Self>, InputError> {
        let Some(name) = path.to_str().and_then(|path| path.strip_prefix(PREFIX)) else { return Ok(None) };
        let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('.')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let parts: Vec<&str> = name.split('/').collect();
        let is_revision = !revision.is_empty() && revision.split('/').all(is_word);
        if parts.len() > 2 || !parts.iter().all(|part| is_word(part)) || !is_revision {
            return Err(InputError::new(path, "is no name of a repository on the Hugging Face Hub")
                .hint("write `hf:owner/name`, or `hf:owner/name@revision` with a branch, a tag or a commit"));
        }
        Ok(Some(Self { kind, name: name.to_owned(), revision: revision.to_owned() }))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        write!(f, "{PREFIX}{kind}{}@{}", self.name, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_told_from_paths_and_from_nonsense() {
        let of = |path: &str| Repository::of_model(Path::new(path));
        let shown = |path: &str| of(path).unwrap().map(|found| found.to_string());
        assert_eq!(shown("models/smollm"), None);
        assert_eq!(shown("hf:Qwen/Qwen3-0.6B").unwrap(), "hf:Qwen/Qwen3-0.6B@main");
        assert_eq!(shown("hf:gpt2@refs/pr/1").unwrap(), "hf:gpt2@refs/pr/1");
        for wrong in ["hf:", "hf:a/b/c", "hf:a/../b", "hf:a/..", "hf:a/b@", "hf:a/b@../../x", "hf:a b/c", "hf:/etc"] {
            assert!(of(wrong).unwrap_err().cause.starts_with("is no name"), "{wrong}");
        }
    }
}
