//! A serde deserializer over a TOML document. It keeps places and skips faulty entries.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use toml_edit::{Item, TableLike, Value};

use super::fault::{Cause, Fault};

/// A value of a document.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    node: Node<'a>,
    /// The bytes at which the keys of faulty entries begin; these entries are skipped.
    faulty: &'a BTreeSet<usize>,
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Item(&'a Item),
    /// An entry of an array.
    Value(&'a Value),
    /// A table of an array of tables.
    Table(&'a toml_edit::Table),
}

impl<'a> Reader<'a> {
    pub(super) fn new(item: &'a Item, faulty: &'a BTreeSet<usize>) -> Self {
        Self { node: Node::Item(item), faulty }
    }

    fn with(self, node: Node<'a>) -> Self {
        Self { node, ..self }
    }

    fn value(self) -> Option<&'a Value> {
        match self.node {
            Node::Item(item) => item.as_value(),
            Node::Value(value) => Some(value),
            Node::Table(_) => None,
        }
    }

    fn table(self) -> Option<&'a dyn TableLike> {
        match self.node {
            Node::Item(item) => item.as_table_like(),
            Node::Value(value) => value.as_inline_table().map(|table| table as &dyn TableLike),
            Node::Table(table) => Some(table),
        }
    }

    fn span(self) -> Option<Range<usize>> {
        match self.node {
            Node::Item(item) => item.span(),
            Node::Value(value) => value.span(),
            Node::Table(table) => table.span(),
        }
    }

    /// The value as a whole number that fits `T`; `expected` says which those are.
    fn whole<T: TryFrom<i64>>(self, expected: &str) -> Result<T, Fault> {
        let number = self.value().and_then(Value::as_integer).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.expected(expected))
    }

    fn expected(self, what: &str) -> Fault {
        Fault::new(Cause::Expected(what.to_owned())).of_value(self.span())
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let read = match (self.node, self.value(), self.table()) {
            (.., Some(table)) => {
                visitor.visit_map(Entries { reader: self, rest: entries(table, self.faulty), value: None })
            }
            (Node::Item(Item::ArrayOfTables(tables)), ..) => {
                visitor.visit_seq(Elements { reader: self, rest: tables.iter().map(Node::Table).collect() })
            }
            (_, Some(Value::Array(array)), _) => {
                visitor.visit_seq(Elements { reader: self, rest: array.iter().map(Node::Value).collect() })
            }
            (_, Some(Value::String(text)), _) => visitor.visit_str(text.value()),
            (_, Some(Value::Integer(number)), _) => visitor.visit_i64(*number.value()),
            (_, Some(Value::Float(number)), _) => visitor.visit_f64(*number.value()),
            (_, Some(Value::Boolean(truth)), _) => visitor.visit_bool(*truth.value()),
            _ => Err(Fault::invalid_type(Unexpected::Other("date"), &visitor)),
        };
        read.map_err(|fault| fault.of_value(self.span()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value().and_then(Value::as_bool) {
            Some(truth) => visitor.visit_bool(truth),
            None => Err(self.expected("`true` or `false`")),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u8(self.whole("a whole number from 0 to 255")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.whole("a whole number of at least 0")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value() {
            Some(Value::Float(number)) => visitor.visit_f64(*number.value()),
            Some(Value::Integer(number)) => visitor.visit_f64(*number.value() as f64),
            _ => Err(self.expected("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value().and_then(Value::as_str) {
            Some(text) => visitor.visit_str(text),
            None => Err(self.expected("text in quotes")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.table() {
            Some(_) => self.deserialize_any(visitor),
            None => Err(self.expected("a section")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match (self.node, self.value()) {
            (Node::Item(Item::ArrayOfTables(_)), _) | (_, Some(Value::Array(_))) => self.deserialize_any(visitor),
            _ => Err(self.expected("a list")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Some(word) = self.value().and_then(Value::as_str) else {
            return Err(self.expected(&format!("one of \"{}\"", variants.join("\", \""))));
        };
        let word: StrDeserializer<'_, Fault> = word.into_deserializer();
        word.deserialize_enum(name, variants, visitor).map_err(|fault| fault.of_value(self.span()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u16 u32 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier
        ignored_any
    }
}

/// An entry of a table: its key, where the key begins, and its item.
type Entry<'a> = (&'a str, usize, &'a Item);

/// The entries of a table that are not faulty.
fn entries<'a>(table: &'a dyn TableLike, faulty: &BTreeSet<usize>) -> VecDeque<Entry<'a>> {
    let begin = |key| table.key(key).and_then(toml_edit::Key::span).unwrap_or_default().start;
    let entries = table.iter().map(|(key, item)| (key, begin(key), item));
    entries.filter(|(_, begin, _)| !faulty.contains(begin)).collect()
}

struct Entries<'a> {
    reader: Reader<'a>,
    rest: VecDeque<Entry<'a>>,
    value: Option<Entry<'a>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.rest.pop_front();
        let Some((key, begin, _)) = self.value else { return Ok(None) };
        let word: StrDeserializer<'_, Fault> = key.into_deserializer();
        seed.deserialize(word).map(Some).map_err(|fault| fault.inside(begin, key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, begin, item) = self.value.take().expect("a key was read before");
        seed.deserialize(self.reader.with(Node::Item(item))).map_err(|fault| fault.inside(begin, key))
    }
}

struct Elements<'a> {
    reader: Reader<'a>,
    rest: VecDeque<Node<'a>>,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let element = self.rest.pop_front();
        element.map(|node| seed.deserialize(self.reader.with(node))).transpose()
    }
}
