//! How a node's parts are handed to serde: list elements, map entries, struct fields, and the
//! two reserved newtypes.

use serde::de::value::{BorrowedStrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess};

use crate::base::Position;
use crate::model::Node;
use crate::model::node::{Entry, Value};
use crate::model::object::{Issue, IssueKind};

use super::collector::{DecodeError, Path};
use super::deserializer::{KeyDeserializer, NodeDeserializer};
use super::{MAX_ATTEMPTS, UnknownFields, names};

/// The elements of a list.
pub(super) struct Elements<'n, 'p> {
    list: NodeDeserializer<'n, 'p>,
    items: std::iter::Enumerate<std::slice::Iter<'n, Node>>,
}

impl<'n, 'p> Elements<'n, 'p> {
    pub(super) fn new(list: NodeDeserializer<'n, 'p>, items: &'n [Node]) -> Self {
        Self {
            list,
            items: items.iter().enumerate(),
        }
    }
}

impl<'n> SeqAccess<'n> for Elements<'n, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let collector = self.list.collector;
        let Some((index, node)) = self.items.find(|(_, item)| !collector.is_left_out(item)) else {
            return Ok(None);
        };
        let path = Path::Index(self.list.path, index);
        let element = NodeDeserializer {
            node,
            path: &path,
            collector,
        };
        seed.deserialize(element)
            .map(Some)
            .map_err(|error| leave_out(element, error, node.position))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a map whose keys are data.
pub(super) struct Entries<'n, 'p> {
    map: NodeDeserializer<'n, 'p>,
    entries: std::slice::Iter<'n, Entry>,
    value: Option<&'n Entry>,
}

impl<'n, 'p> Entries<'n, 'p> {
    pub(super) fn new(map: NodeDeserializer<'n, 'p>, entries: &'n [Entry]) -> Self {
        Self {
            map,
            entries: entries.iter(),
            value: None,
        }
    }
}

impl<'n> MapAccess<'n> for Entries<'n, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'n>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let collector = self.map.collector;
        self.value = self
            .entries
            .find(|entry| !collector.is_left_out(&entry.value));
        let Some(entry) = self.value else {
            return Ok(None);
        };
        let key = KeyDeserializer {
            key: &entry.key,
            position: entry.key_position,
        };
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        decode_entry(self.map, self.value, seed)
    }
}

/// The entries of a map whose keys are a struct's fields.
pub(super) struct Fields<'n, 'p> {
    map: NodeDeserializer<'n, 'p>,
    entries: &'n [Entry],
    remaining: std::slice::Iter<'n, Entry>,
    names: &'static [&'static str],
    value: Option<&'n Entry>,
}

impl<'n, 'p> Fields<'n, 'p> {
    pub(super) fn new(
        map: NodeDeserializer<'n, 'p>,
        entries: &'n [Entry],
        names: &'static [&'static str],
    ) -> Self {
        Self {
            map,
            entries,
            remaining: entries.iter(),
            names,
            value: None,
        }
    }

    fn report_unknown(&self, entry: &Entry) {
        if self.map.collector.unknown == UnknownFields::Ignore {
            return;
        }
        let parent = self.map.path.to_field_path();
        let message = match parent.to_string() {
            place if place.is_empty() => format!("`{}` is not a field of the object", entry.key),
            place => format!("`{}` is not a field of `{place}`", entry.key),
        };
        self.map.collector.leave_out(&entry.value);
        self.map.collector.push(Issue {
            kind: IssueKind::UnknownField,
            path: parent.field(&entry.key),
            position: entry.key_position,
            message,
            hint: names::hint(&entry.key, self.names),
        });
    }

    /// Whether the entry spells in snake case what another spells in camel case.
    fn is_repeated(&self, entry: &Entry, name: &str) -> bool {
        *entry.key != *name && self.entries.iter().any(|other| *other.key == *name)
    }
}

impl<'n> MapAccess<'n> for Fields<'n, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'n>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let collector = self.map.collector;
        while let Some(entry) = self.remaining.next() {
            if collector.is_left_out(&entry.value) {
                continue;
            }
            let Some(name) = names::resolve(&entry.key, self.names) else {
                self.report_unknown(entry);
                continue;
            };
            if self.is_repeated(entry, name) {
                let path = Path::Field(self.map.path, &entry.key);
                let field = NodeDeserializer {
                    node: &entry.value,
                    path: &path,
                    collector,
                };
                let twice = DecodeError::wrong(
                    format!("is the same field as `{name}`, which is given too"),
                    "keep one of them",
                );
                return Err(leave_out(field, twice, entry.key_position));
            }
            // Protobuf's JSON takes null for unset, whatever the field's type.
            if entry.value.is_null() {
                continue;
            }
            self.value = Some(entry);
            return seed
                .deserialize(BorrowedStrDeserializer::new(name))
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        decode_entry(self.map, self.value, seed)
    }
}

fn decode_entry<'n, V: DeserializeSeed<'n>>(
    map: NodeDeserializer<'n, '_>,
    entry: Option<&'n Entry>,
    seed: V,
) -> Result<V::Value, DecodeError> {
    let Some(entry) = entry else {
        return Err(DecodeError::wrong("has a value without a key", ""));
    };
    let path = Path::Field(map.path, &entry.key);
    let value = NodeDeserializer {
        node: &entry.value,
        path: &path,
        collector: map.collector,
    };
    // A list or map often starts on the line after its key; the key is what a reader looks for.
    let position = match entry.value.value {
        Value::Sequence(_) | Value::Map(_) | Value::Null => entry.key_position,
        _ => entry.value.position,
    };
    seed.deserialize(value)
        .map_err(|error| leave_out(value, error, position))
}

/// Collects the error of a value and marks it, so that the next attempt passes over it.
fn leave_out(
    value: NodeDeserializer<'_, '_>,
    error: DecodeError,
    position: Position,
) -> DecodeError {
    if matches!(error, DecodeError::Wrong { .. }) {
        value.record(error, position);
        value.collector.leave_out(value.node);
    }
    DecodeError::Recorded
}

/// [`At`](super::At): line, column, then the value itself.
pub(super) struct AtAccess<D> {
    position: Position,
    value: Option<D>,
    state: u8,
}

impl<D> AtAccess<D> {
    pub(super) fn new(position: Position, value: D) -> Self {
        Self {
            position,
            value: Some(value),
            state: 0,
        }
    }
}

impl<'n, D: Deserializer<'n, Error = DecodeError>> SeqAccess<'n> for AtAccess<D> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let number = |number: u32| -> U32Deserializer<DecodeError> { number.into_deserializer() };
        self.state += 1;
        match self.state {
            1 => seed.deserialize(number(self.position.line)).map(Some),
            2 => seed.deserialize(number(self.position.column)).map(Some),
            _ => self
                .value
                .take()
                .map(|value| seed.deserialize(value))
                .transpose(),
        }
    }
}

/// [`Slot`](super::Slot): the same value again and again, until it decodes or is given up.
pub(super) struct Attempts<'n, 'p> {
    value: NodeDeserializer<'n, 'p>,
    made: usize,
}

impl<'n, 'p> Attempts<'n, 'p> {
    pub(super) fn new(value: NodeDeserializer<'n, 'p>) -> Self {
        Self { value, made: 0 }
    }

    fn give_up(&self, why: DecodeError) {
        self.value.record(why, self.value.node.position);
        self.value.collector.mark_broken(self.value.node);
    }
}

impl<'n> SeqAccess<'n> for Attempts<'n, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if self.value.collector.is_broken(self.value.node) {
            return Ok(None);
        }
        self.made += 1;
        match seed.deserialize(self.value) {
            Ok(value) => Ok(Some(value)),
            Err(DecodeError::Recorded) => {
                if self.made >= MAX_ATTEMPTS {
                    self.give_up(DecodeError::too_many());
                }
                Err(DecodeError::Recorded)
            }
            Err(wrong) => {
                self.give_up(wrong);
                Err(DecodeError::Recorded)
            }
        }
    }
}
