//! `[data]`: which conversations, how they are cleaned and cut, and what is predicted.

use std::fmt;
use std::path::PathBuf;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use undertone_data::{CleanOptions, OnInvalid, OnTooLong, ReadOptions, TargetKind};

use super::problem::Found;

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// One JSONL file or several.
    pub path: Paths,
    /// Whether the conversations are synthetic; if so, the report says it.
    pub synthetic: bool,
    /// Policy for a line that cannot be read.
    pub on_invalid: OnInvalid,
    /// Policy for odd conversations.
    pub clean: CleanOptions,
    /// The system text before every conversation, the same in every arm; empty for none.
    pub system: String,
    /// The longest path through a conversation, in tokens.
    pub context_tokens: usize,
    /// Longer assistant messages are shortened to this many tokens, in the middle.
    pub assistant_tokens: usize,
    /// Policy for a conversation with a target that is longer than the context.
    pub on_too_long: OnTooLong,
    /// What is predicted.
    pub targets: Vec<TargetKind>,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            path: Paths::default(),
            synthetic: false,
            on_invalid: OnInvalid::default(),
            clean: CleanOptions::default(),
            system: String::new(),
            context_tokens: 2048,
            assistant_tokens: 1024,
            on_too_long: OnTooLong::default(),
            targets: vec![TargetKind::NextPrompt],
        }
    }
}

impl DataSection {
    /// How the files are read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions { on_invalid: self.on_invalid, clean: self.clean.clone(), ..ReadOptions::default() }
    }

    pub(super) fn rules(&self, found: &mut Found) {
        found.require(
            !self.path.as_slice().is_empty(),
            "data.path",
            "`data.path` is missing",
            "name a JSONL file here or with `--set data.path=FILE`",
        );
        found.require(
            !self.targets.is_empty(),
            "data.targets",
            "`data.targets` is empty",
            "for example `targets = [\"next_prompt\"]`",
        );
        found.require(
            self.context_tokens >= 64,
            "data.context_tokens",
            format!("`context_tokens` ({}) is below 64", self.context_tokens),
            "the model's own context is a good value, or less to save time",
        );
        found.require(
            self.assistant_tokens >= 16,
            "data.assistant_tokens",
            format!("`assistant_tokens` ({}) is below 16", self.assistant_tokens),
            "the marker that replaces the cut text already takes several tokens",
        );
    }
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Paths {
    /// `path = "a.jsonl"`
    One(PathBuf),
    /// `path = ["a.jsonl", "b.jsonl"]`
    Several(Vec<PathBuf>),
}

impl Default for Paths {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Paths {
    /// All of them, in order.
    pub fn as_slice(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathsVisitor;

        impl<'de> Visitor<'de> for PathsVisitor {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a list of paths")
            }

            fn visit_str<E>(self, path: &str) -> Result<Paths, E> {
                Ok(Paths::One(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = entries.next_element()? {
                    paths.push(path);
                }
                Ok(Paths::Several(paths))
            }
        }

        deserializer.deserialize_any(PathsVisitor)
    }
}
