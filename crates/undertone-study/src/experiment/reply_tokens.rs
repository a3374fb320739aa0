//! How many tokens of a reply a model sees: a number, or all; one value, or several to compare.

use std::fmt;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The word for replies that are not shortened.
const UNCUT: &str = "uncut";

/// The most tokens of a reply that a model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyTokens {
    /// This many; the middle of a longer reply is cut.
    AtMost(usize),
    /// `"uncut"`: all, as far as half the context holds them.
    Uncut,
}

/// One value, or several: the study runs with the first, and repeats the primary comparison with each of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTokensList(pub Vec<ReplyTokens>);

impl ReplyTokens {
    /// As a number; [`usize::MAX`] for all.
    pub fn limit(self) -> usize {
        match self {
            Self::AtMost(tokens) => tokens,
            Self::Uncut => usize::MAX,
        }
    }
}

impl fmt::Display for ReplyTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(tokens) => f.pad(&tokens.to_string()),
            Self::Uncut => f.pad(UNCUT),
        }
    }
}

impl Serialize for ReplyTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AtMost(tokens) => serializer.serialize_u64(*tokens as u64),
            Self::Uncut => serializer.serialize_str(UNCUT),
        }
    }
}

impl Serialize for ReplyTokensList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

struct ReplyTokensVisitor;

impl Visitor<'_> for ReplyTokensVisitor {
    type Value = ReplyTokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of tokens or \"{UNCUT}\"")
    }

    fn visit_i64<E: Error>(self, tokens: i64) -> Result<ReplyTokens, E> {
        let fits = usize::try_from(tokens).map(ReplyTokens::AtMost);
        fits.map_err(|_| E::invalid_value(Unexpected::Signed(tokens), &self))
    }

    fn visit_u64<E: Error>(self, tokens: u64) -> Result<ReplyTokens, E> {
        Ok(ReplyTokens::AtMost(tokens as usize))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<ReplyTokens, E> {
        match word {
            UNCUT => Ok(ReplyTokens::Uncut),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for ReplyTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReplyTokensVisitor)
    }
}

impl<'de> Deserialize<'de> for ReplyTokensList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = ReplyTokensList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of tokens, \"{UNCUT}\", or a list of them")
            }

            fn visit_i64<E: Error>(self, tokens: i64) -> Result<ReplyTokensList, E> {
                ReplyTokensVisitor.visit_i64(tokens).map(|one| ReplyTokensList(vec![one]))
            }

            fn visit_u64<E: Error>(self, tokens: u64) -> Result<ReplyTokensList, E> {
                ReplyTokensVisitor.visit_u64(tokens).map(|one| ReplyTokensList(vec![one]))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<ReplyTokensList, E> {
                ReplyTokensVisitor.visit_str(word).map(|one| ReplyTokensList(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<ReplyTokensList, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = entries.next_element()? {
                    all.push(one);
                }
                Ok(ReplyTokensList(all))
            }
        }

        deserializer.deserialize_any(ListVisitor)
    }
}
