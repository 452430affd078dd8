//! Values as serde-saphyr delivers them, with their places, and how they become nodes.
//!
//! A large file's values are all held at once, so places are kept small.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::base::Position;
use crate::model::Node;
use crate::model::node::{Entry, Value};

use super::KeyNames;

/// A value and its places.
pub(super) struct Placed {
    value: Raw,
    /// Where it stands; for what an alias brings in, where the alias stands.
    referenced: Position,
    /// Where it was written.
    defined: Position,
    /// Its first byte and length in the text.
    bytes: Option<(u32, u32)>,
}

/// A value before numbers get their text back.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    String(Box<str>),
    Sequence(Vec<Placed>),
    Map(Vec<(Box<str>, Position, Placed)>),
}

pub(super) fn position_of(location: Location) -> Position {
    let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        line: bounded(location.line()),
        column: bounded(location.column()),
    }
}

impl<'de> Deserialize<'de> for Placed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned {
            value,
            referenced,
            defined,
        } = Spanned::<Raw>::deserialize(deserializer)?;
        let span = defined.span();
        let bytes = span.byte_offset().zip(span.byte_len());
        let small = |number: u64| u32::try_from(number).ok();
        Ok(Self {
            value,
            referenced: position_of(referenced),
            defined: position_of(defined),
            bytes: bytes.and_then(|(start, length)| small(start).zip(small(length))),
        })
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Unsigned(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        if value.is_finite() {
            Ok(Raw::Float(value))
        } else {
            Err(E::custom("a number must be finite"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let position = position_of(key.defined);
            entries.push((key.value.into(), position, map.next_value()?));
        }
        Ok(Raw::Map(entries))
    }
}

/// Turns raw values into nodes.
pub(super) struct Build<'t, 'k> {
    pub(super) text: &'t str,
    pub(super) keys: &'k mut KeyNames,
}

impl Build<'_, '_> {
    /// `outer` is where the value around this one is referenced. What an alias brings in has the
    /// alias's place for itself, and the place of its definition for everything below.
    pub(super) fn node(&mut self, placed: Placed, outer: Position) -> Node {
        let Placed {
            value,
            referenced,
            defined,
            bytes,
        } = placed;
        let is_inside_alias = referenced == outer && defined != outer;
        let position = if is_inside_alias { defined } else { referenced };
        let value = match value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Int(value) => Value::Int(self.number(bytes, value)),
            Raw::Unsigned(value) => Value::Int(self.number(bytes, value)),
            Raw::Float(value) => Value::Float(self.number(bytes, value)),
            Raw::String(text) => Value::String(text),
            Raw::Sequence(items) => Value::Sequence(
                items
                    .into_iter()
                    .map(|item| self.node(item, referenced))
                    .collect(),
            ),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, key_position, value)| Entry {
                        key: self.keys.shared(&key),
                        key_position,
                        value: self.node(value, referenced),
                    })
                    .collect(),
            ),
        };
        Node { position, value }
    }

    /// The number as written if Rust reads the same number from it, otherwise in plain decimal.
    fn number<N>(&self, bytes: Option<(u32, u32)>, value: N) -> Box<str>
    where
        N: std::str::FromStr + PartialEq + ToString,
    {
        let written = || {
            let (start, length) = bytes?;
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(usize::try_from(length).ok()?)?;
            let text = self.text.get(start..end)?.trim();
            (text.parse::<N>().ok()? == value).then_some(text)
        };
        match written() {
            Some(text) => text.into(),
            None => value.to_string().into(),
        }
    }
}
