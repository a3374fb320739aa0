//! A line in either published form: types are checked here, meaning in `convert`.
//!
//! The two forms differ in names only (`content` or `text`; the earlier one adds a `conversation_id`, which names a
//! session of several conversations), so one set of structs reads both. Deserialisation is written by hand to count
//! unknown fields: `#[serde(flatten)]` would lose the JSON paths of errors.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// One line of a file.
#[derive(Default)]
pub(super) struct PublishedConversation {
    pub(super) id: Option<TextOrInteger>,
    pub(super) conversation_id: Option<TextOrInteger>,
    pub(super) model_name: Option<String>,
    pub(super) task_summary: Option<String>,
    pub(super) messages: Option<Vec<PublishedMessage>>,
    pub(super) survey_answers: Option<Vec<PublishedSurvey>>,
    pub(super) unknown_fields: Vec<String>,
}

/// One element of `survey_answers`: what a user answered at one time.
#[derive(Default)]
pub(super) struct PublishedSurvey {
    pub(super) age: Option<TextOrInteger>,
    pub(super) gender: Option<String>,
    pub(super) education: Option<String>,
    pub(super) frequency: Option<TextOrInteger>,
    pub(super) unknown_fields: Vec<String>,
}

/// One element of `messages`.
#[derive(Default)]
pub(super) struct PublishedMessage {
    pub(super) id: Option<TextOrInteger>,
    pub(super) timestamp: Option<TextOrInteger>,
    pub(super) role: Option<String>,
    pub(super) content: Option<String>,
    pub(super) text: Option<String>,
    pub(super) reasons: Option<Vec<PublishedThought>>,
    pub(super) reactions: Option<Vec<PublishedThought>>,
    pub(super) unknown_fields: Vec<String>,
}

/// One element of `reasons` or `reactions`.
#[derive(Default)]
pub(super) struct PublishedThought {
    pub(super) content: Option<String>,
    pub(super) text: Option<String>,
    pub(super) timestamp: Option<TextOrInteger>,
    pub(super) label: Option<String>,
    pub(super) unknown_fields: Vec<String>,
}

/// An id or a time: both occur as strings and as integers.
pub(super) enum TextOrInteger {
    Text(String),
    Integer(i64),
}

/// Implements `Deserialize` for an object whose keys are taken, passed over, or noted as unknown.
macro_rules! deserialize_object {
    ($object:ident, $expecting:literal,
     take { $($key:literal => $field:ident),+ $(,)? },
     pass_over [$($ignored:literal),* $(,)?]) => {
        #[cfg(test)]
        impl $object {
            /// Every key that is known.
            const KEYS: &[&str] = &[$($key,)+ $($ignored),*];
        }

        impl<'de> Deserialize<'de> for $object {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;

                impl<'de> Visitor<'de> for ObjectVisitor {
                    type Value = $object;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$object, A::Error> {
                        let mut object = $object::default();
                        let mut seen: Vec<&'static str> = Vec::new();
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $($key => {
                                    if seen.contains(&$key) {
                                        return Err(A::Error::duplicate_field($key));
                                    }
                                    seen.push($key);
                                    object.$field = map.next_value()?;
                                })+
                                $($ignored => {
                                    map.next_value::<IgnoredAny>()?;
                                })*
                                _ => {
                                    map.next_value::<IgnoredAny>()?;
                                    object.unknown_fields.push(key);
                                }
                            }
                        }
                        Ok(object)
                    }
                }

                deserializer.deserialize_map(ObjectVisitor)
            }
        }
    };
}

deserialize_object!(
    PublishedConversation, "a conversation (a JSON object)",
    take {
        "id" => id,
        "conversation_id" => conversation_id,
        "model_name" => model_name,
        "task_summary" => task_summary,
        "messages" => messages,
        "survey_answers" => survey_answers,
    },
    pass_over ["model_provider", "created_at", "updated_at", "task_expectation"]
);

deserialize_object!(
    PublishedSurvey, "survey answers (a JSON object)",
    take {
        "age" => age,
        "gender" => gender,
        "education" => education,
        "frequency" => frequency,
    },
    pass_over ["occupation", "purposes", "feedback"]
);

deserialize_object!(
    PublishedMessage, "a message (a JSON object)",
    take {
        "id" => id,
        "timestamp" => timestamp,
        "type" => role,
        "content" => content,
        "text" => text,
        "reasons" => reasons,
        "reactions" => reactions,
    },
    pass_over []
);

deserialize_object!(
    PublishedThought, "a thought (a JSON object)",
    take {
        "content" => content,
        "text" => text,
        "timestamp" => timestamp,
        "label" => label,
    },
    pass_over []
);

impl<'de> Deserialize<'de> for TextOrInteger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrIntegerVisitor;

        impl Visitor<'_> for TextOrIntegerVisitor {
            type Value = TextOrInteger;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TextOrInteger, E> {
                Ok(TextOrInteger::Text(text.into()))
            }

            fn visit_i64<E: Error>(self, integer: i64) -> Result<TextOrInteger, E> {
                Ok(TextOrInteger::Integer(integer))
            }

            fn visit_u64<E: Error>(self, integer: u64) -> Result<TextOrInteger, E> {
                // An integer beyond i64 cannot be a time, but can be an id.
                Ok(i64::try_from(integer)
                    .map_or_else(|_| TextOrInteger::Text(integer.to_string()), TextOrInteger::Integer))
            }
        }

        deserializer.deserialize_any(TextOrIntegerVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_schema_names_the_keys_that_are_read() {
        let schema: Value = serde_json::from_str(crate::SCHEMA).unwrap();
        let check = |object: &Value, keys: &[&str]| {
            let named: BTreeSet<&str> = object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(named, keys.iter().copied().collect());
        };
        check(&schema, PublishedConversation::KEYS);
        check(&schema["$defs"]["message"], PublishedMessage::KEYS);
        check(&schema["$defs"]["thought"], PublishedThought::KEYS);
        check(&schema["$defs"]["survey"], PublishedSurvey::KEYS);
    }
}
