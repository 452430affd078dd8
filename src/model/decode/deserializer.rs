//! `serde::Deserializer` over a [`Node`].

use serde::de::{self, Visitor, value::BorrowedStrDeserializer};
use serde::forward_to_deserialize_any;

use crate::base::Position;
use crate::model::node::{Node, Value};

use super::access::{AtAccess, Attempts, Elements, Entries, Fields};
use super::collector::{Collector, DecodeError, Path};
use super::wrappers::{AT, SLOT};

/// A node to be decoded, with the way to it and where its issues go.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'n, 'p> {
    pub(super) node: &'n Node,
    pub(super) path: &'p Path<'p>,
    pub(super) collector: &'p Collector,
}

impl NodeDeserializer<'_, '_> {
    /// Collects an error at this node, unless it was collected further in.
    pub(super) fn record(&self, error: DecodeError, position: Position) {
        if let Some(issue) = error.into_issue(self.path.to_field_path(), position) {
            self.collector.push(issue);
        }
    }

    fn wrong(&self, expected: &str) -> DecodeError {
        let message = format!("is {}, but {expected} is expected", self.node.kind());
        let hint = match &self.node.value {
            Value::Null => format!("write {expected}, or remove the field"),
            _ => format!("write {expected}"),
        };
        DecodeError::wrong(message, hint)
    }

    fn wrong_string(&self) -> DecodeError {
        let message = format!("is {}, but a string is expected", self.node.kind());
        let hint = match &self.node.value {
            Value::Int(text) | Value::Float(text) => format!("put it in quotes: \"{text}\""),
            Value::Bool(_) => "put it in quotes if text is meant".to_owned(),
            _ => "write a string".to_owned(),
        };
        DecodeError::wrong(message, hint)
    }

    /// An integer as protobuf's JSON takes it: plain, quoted, or a float without a fraction.
    fn integer(&self) -> Result<i128, DecodeError> {
        let (Value::Int(text) | Value::Float(text) | Value::String(text)) = &self.node.value else {
            return Err(self.wrong("an integer"));
        };
        if let Ok(integer) = text.parse() {
            return Ok(integer);
        }
        match text.parse::<f64>() {
            // Up to 2^53 every float without a fraction is exactly the integer written.
            Ok(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
                Ok(float as i128)
            }
            _ => Err(DecodeError::wrong(
                format!("`{text}` is not an integer"),
                "write an integer",
            )),
        }
    }

    fn float(&self) -> Result<f64, DecodeError> {
        let (Value::Int(text) | Value::Float(text) | Value::String(text)) = &self.node.value else {
            return Err(self.wrong("a number"));
        };
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(float),
            _ => Err(DecodeError::wrong(
                format!("`{text}` is not a number"),
                "write a number",
            )),
        }
    }
}

fn visit_integer<'de, V: Visitor<'de>>(integer: i128, visitor: V) -> Result<V::Value, DecodeError> {
    if let Ok(value) = u64::try_from(integer) {
        visitor.visit_u64(value)
    } else if let Ok(value) = i64::try_from(integer) {
        visitor.visit_i64(value)
    } else {
        Err(DecodeError::wrong(
            format!("{integer} is too large"),
            "write a smaller number",
        ))
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visit_integer(self.integer()?, visitor)
        }
    )*};
}

impl<'n> de::Deserializer<'n> for NodeDeserializer<'n, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(_) => visit_integer(self.integer()?, visitor),
            Value::Float(_) => visitor.visit_f64(self.float()?),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn deserialize_f32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_f64(self.float()?)
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::String(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.wrong_string()),
        }
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            AT => visitor.visit_seq(AtAccess::new(self.node.position, self)),
            SLOT => visitor.visit_seq(Attempts::new(self)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Sequence(items) => visitor.visit_seq(Elements::new(self, items)),
            _ => Err(self.wrong("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(Entries::new(self, entries)),
            _ => Err(self.wrong("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(Fields::new(self, entries, fields)),
            Value::Null => Err(DecodeError::wrong(
                "is empty, but a map is expected",
                "write its fields, or `{}` for none",
            )),
            _ => Err(self.wrong("a map of fields")),
        }
    }

    forward_to_deserialize_any! {
        <W: Visitor<'n>>
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

/// A map's key with its place.
#[derive(Clone, Copy)]
pub(super) struct KeyDeserializer<'n> {
    pub(super) key: &'n str,
    pub(super) position: Position,
}

impl<'n> de::Deserializer<'n> for KeyDeserializer<'n> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(self.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match name {
            AT => visitor.visit_seq(AtAccess::new(
                self.position,
                BorrowedStrDeserializer::new(self.key),
            )),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        <W: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
