//! `[data]`: which conversations, how they are cleaned and cut, and what is predicted.

use std::fmt;
use std::path::PathBuf;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use undertone_data::{CleanOptions, OnInvalid, OnTooLong, ReadOptions, TargetKind};

use super::problem::Found;
use super::reply_tokens::{ReplyTokens, ReplyTokensList};

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// One JSONL file or several.
    pub path: Paths,
    /// Conversations that share their user or a long user message with these files are left out.
    #[serde(skip_serializing_if = "Paths::is_empty")]
    pub except: Paths,
    /// The most conversations that are used, chosen by hash; 0 for all.
    #[serde(skip_serializing_if = "is_zero")]
    pub conversations: usize,
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
    /// Longer assistant messages are shortened to this many tokens, in the middle. With several values, the study runs
    /// with the first, and repeats the primary comparison with each of the others.
    pub assistant_tokens: ReplyTokensList,
    /// Policy for a conversation with a target that is longer than the context.
    pub on_too_long: OnTooLong,
    /// What is predicted.
    pub targets: Vec<TargetKind>,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            path: Paths::default(),
            except: Paths::default(),
            conversations: 0,
            synthetic: false,
            on_invalid: OnInvalid::default(),
            clean: CleanOptions::default(),
            system: String::new(),
            context_tokens: 2048,
            assistant_tokens: ReplyTokensList(vec![ReplyTokens::AtMost(1024)]),
            on_too_long: OnTooLong::default(),
            targets: vec![TargetKind::NextPrompt],
        }
    }
}

impl DataSection {
    /// The most tokens of a reply with which the study runs.
    pub fn reply_tokens(&self) -> ReplyTokens {
        self.assistant_tokens.0.first().copied().unwrap_or(ReplyTokens::Uncut)
    }

    /// The keys that decide how conversations are laid out: without the lengths of replies to compare with.
    pub(crate) fn laid_out(&self) -> Self {
        Self { assistant_tokens: ReplyTokensList(vec![self.reply_tokens()]), ..self.clone() }
    }

    /// How the files are read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions { on_invalid: self.on_invalid, clean: self.clean.clone(), ..ReadOptions::default() }
    }

    pub(super) fn rules(&self, found: &mut Found) {
        found.require(
            !self.path.is_empty(),
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
        let lengths = &self.assistant_tokens.0;
        found.require(
            !lengths.is_empty(),
            "data.assistant_tokens",
            "`assistant_tokens` is empty",
            "for example `assistant_tokens = [160, \"uncut\"]`",
        );
        for (index, length) in lengths.iter().enumerate() {
            found.require(
                length.limit() >= 16,
                "data.assistant_tokens",
                format!("`assistant_tokens` ({length}) is below 16"),
                "the marker that replaces the cut text already takes several tokens",
            );
            found.require(
                !lengths[..index].contains(length),
                "data.assistant_tokens",
                format!("`assistant_tokens` holds {length} twice"),
                "remove one",
            );
        }
    }
}

fn is_zero(number: &usize) -> bool {
    *number == 0
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
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

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
