//! Published datasets: where they are, and how a copy is told to be whole.

use std::path::Path;

use serde::Serialize;
use undertone_files::{InputError, Sha256Writer, open_regular};

use crate::{ReadOptions, Reader, StatsBuilder};

/// A dataset on the Hugging Face Hub.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Dataset {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its repository.
    pub repository: &'static str,
    /// The commit.
    pub revision: &'static str,
    /// The file in it.
    pub file: &'static str,
    /// The licence, and what it asks for.
    pub licence: &'static str,
    /// The size of the file.
    pub bytes: u64,
    /// The SHA-256 of the file.
    pub sha256: &'static str,
    /// What its publishers count in it.
    pub counts: Counts,
}

/// What is in a file of conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Users.
    pub users: usize,
    /// Conversations.
    pub conversations: usize,
    /// Messages of users: a turn is such a message and the reply to it.
    pub turns: usize,
    /// Reasons and reactions.
    pub thoughts: usize,
}

/// ThoughtTrace (arXiv 2605.20087).
pub const THOUGHTTRACE: Dataset = Dataset {
    name: "thoughttrace",
    repository: "SCAI-JHU/ThoughtTrace",
    revision: "0420f3d8499e477098aac7771fe9c066f2340fb3",
    file: "ThoughtTrace.jsonl",
    licence: "CC-BY-4.0: whoever passes it on names its authors (arXiv 2605.20087) and says what was changed",
    bytes: 29_915_720,
    sha256: "43ed4584661dc78ccd43dceeb84f88ac9780744997e32c5d329bf05292e95d25",
    counts: Counts { users: 1_058, conversations: 2_155, turns: 17_058, thoughts: 10_174 },
};

impl Dataset {
    /// Checks size and SHA-256 of a copy, and counts what is in it.
    ///
    /// # Errors
    /// The file cannot be read, or is not the published one.
    pub fn check(&self, path: &Path) -> Result<Counts, InputError> {
        let (bytes, sha256) = size_and_sha256(path)?;
        if (bytes, sha256.as_str()) != (self.bytes, self.sha256) {
            let cause = format!(
                "is not the published {}: it has {bytes} bytes and the SHA-256 {sha256}, and not {} bytes and {}",
                self.file, self.bytes, self.sha256
            );
            return Err(InputError::new(path, cause).hint(format!(
                "`undertone data fetch {}` downloads the published file; `undertone data check` reads any other",
                self.name
            )));
        }
        counts(path)
    }
}

/// Counts what is in a file of conversations.
///
/// # Errors
/// The file cannot be read, or has an invalid line.
pub fn counts(path: &Path) -> Result<Counts, InputError> {
    let mut stats = StatsBuilder::new();
    for record in Reader::open(&[path], ReadOptions::default())? {
        let record = record?;
        stats.add(&record.conversation, &record.task_text);
    }
    let stats = stats.finish();
    Ok(Counts {
        users: stats.users,
        conversations: stats.conversations,
        turns: stats.user_messages,
        thoughts: stats.reasons.count + stats.reactions.count,
    })
}

fn size_and_sha256(path: &Path) -> Result<(u64, String), InputError> {
    let mut hash = Sha256Writer::default();
    std::io::copy(&mut open_regular(path)?, &mut hash).map_err(|error| InputError::io(path, "read", &error))?;
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn a_copy_is_whole_or_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |id: usize| {
            format!(
                r#"{{"id":"user{id}_task1_conversation1","messages":[{{"type":"user","content":"hi","reasons":[{{"content":"why"}}]}},{{"type":"assistant","content":"ho"}}]}}"#
            ) + "\n"
        };
        let text = line(1) + &line(2);
        std::fs::write(file.path(), &text).unwrap();
        let sha256: &'static str = hex::encode(Sha256::digest(&text)).leak();
        let dataset = Dataset { bytes: text.len() as u64, sha256, ..THOUGHTTRACE };
        let counts = Counts { users: 2, conversations: 2, turns: 2, thoughts: 2 };
        assert_eq!(dataset.check(file.path()), Ok(counts));
        let error = THOUGHTTRACE.check(file.path()).unwrap_err();
        assert!(
            error.cause.starts_with(&format!("is not the published ThoughtTrace.jsonl: it has {} bytes", text.len())),
            "{error}"
        );
        std::fs::write(file.path(), text.replace("why", "hmm")).unwrap();
        assert!(dataset.check(file.path()).unwrap_err().cause.contains("SHA-256"));
    }
}
