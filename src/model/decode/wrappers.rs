//! Wrappers that a model puts around its elements: a line, room for failure, or no schema at all.
//!
//! They ask the deserializer for a newtype of a reserved name, which [`super::deserializer`]
//! answers with more than the value. With any other deserializer they are transparent.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::base::Position;
use crate::model::node::{Entry, Node, Value};

use super::MAX_ATTEMPTS;

pub(super) const AT: &str = "$pingress::At";
pub(super) const SLOT: &str = "$pingress::Slot";

/// A value with the place where it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At<T> {
    pub position: Position,
    pub value: T,
}

/// An element that was decoded, or one that is there but cannot be read. The issue that says
/// why stands under the element's path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slot<T> {
    Good(T),
    #[default]
    Broken,
}

/// A part of a document that is kept as written, whatever it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque(pub Node);

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Slot<T> {
    pub fn good(&self) -> Option<&T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Broken => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its position")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let missing = || de::Error::custom("a position is missing");
                let line = parts.next_element()?.ok_or_else(missing)?;
                let column = parts.next_element()?.ok_or_else(missing)?;
                let value = parts.next_element()?.ok_or_else(missing)?;
                Ok(At {
                    position: Position { line, column },
                    value,
                })
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<At<T>, D::Error> {
                T::deserialize(d).map(|value| At {
                    position: Position::default(),
                    value,
                })
            }
        }

        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Slot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SlotVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for SlotVisitor<T> {
            type Value = Slot<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an element")
            }

            // Every element of this list is the same value, to be tried again with what was
            // found unreadable left out; its end means that it is beyond reading.
            fn visit_seq<A: SeqAccess<'de>>(self, mut attempts: A) -> Result<Slot<T>, A::Error> {
                for _ in 0..=MAX_ATTEMPTS {
                    match attempts.next_element() {
                        Ok(Some(value)) => return Ok(Slot::Good(value)),
                        Ok(None) => break,
                        Err(_) => {}
                    }
                }
                Ok(Slot::Broken)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Slot<T>, D::Error> {
                T::deserialize(d).map(Slot::Good)
            }
        }

        deserializer.deserialize_newtype_struct(SLOT, SlotVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At {
            position,
            value: AnyValue(value),
        } = At::deserialize(deserializer)?;
        Ok(Self(Node { position, value }))
    }
}

struct AnyValue(Value);

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyVisitor;

        impl<'de> Visitor<'de> for AnyVisitor {
            type Value = AnyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_unit<E>(self) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::Int(value.to_string().into())))
            }

            fn visit_u64<E>(self, value: u64) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::Int(value.to_string().into())))
            }

            fn visit_f64<E>(self, value: f64) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::Float(value.to_string().into())))
            }

            fn visit_str<E>(self, value: &str) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::String(value.into())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AnyValue, A::Error> {
                let mut items = Vec::new();
                while let Some(Opaque(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(AnyValue(Value::Sequence(items.into())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, Opaque(value))) = map.next_entry::<At<String>, _>()? {
                    let key_position = key.position;
                    entries.push(Entry {
                        key: Arc::from(key.value),
                        key_position,
                        value,
                    });
                }
                Ok(AnyValue(Value::Map(entries.into())))
            }
        }

        deserializer.deserialize_any(AnyVisitor)
    }
}
