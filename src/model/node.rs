//! A document as parsed: scalars, lists and ordered maps, each with its line and column.
//!
//! `source` builds it, `decode` reads the typed models out of it, and an object keeps it so that
//! the line of any field path can be named later.

use std::sync::Arc;

use crate::base::Position;

use super::object::{FieldPath, Step};

/// A value and where it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub position: Position,
    pub value: Value,
}

/// What kind of value. Numbers keep their text, so that `1.10` stays what was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// A decimal integer that fits an `i128`.
    Int(Box<str>),
    /// A finite number as `f64` reads it.
    Float(Box<str>),
    String(Box<str>),
    Sequence(Box<[Node]>),
    Map(Box<[Entry]>),
}

/// A key of a map with its value, in the order written; keys are unique.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Arc<str>,
    pub key_position: Position,
    pub value: Node,
}

impl Node {
    pub fn new(position: Position, value: Value) -> Self {
        Self { position, value }
    }

    /// The value of a key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| &*entry.key == key)
            .map(|entry| &entry.value)
    }

    /// The text, if this is a string. Numbers are not strings.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The entries, if this is a map; none otherwise.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements, if this is a list; none otherwise.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// Where the field at a path is written, or the last part of the way that exists. `None` if
    /// not even the first step does.
    pub fn find(&self, path: &FieldPath) -> Option<Position> {
        let mut node = self;
        let mut found = None;
        for step in &path.0 {
            let next = match step {
                Step::Field(name) => node
                    .entries()
                    .iter()
                    .find(|entry| entry.key == *name)
                    .map(|entry| (&entry.value, entry.key_position)),
                Step::Index(index) => usize::try_from(*index)
                    .ok()
                    .and_then(|index| node.items().get(index))
                    .map(|item| (item, item.position)),
            };
            let Some((value, position)) = next else { break };
            found = Some(position);
            node = value;
        }
        found
    }

    /// Lets go of all that is not needed to find the place of a field: the text of scalars.
    pub fn keep_places(&mut self) {
        match &mut self.value {
            Value::Null | Value::Bool(_) => {}
            Value::Int(text) | Value::Float(text) | Value::String(text) => *text = Box::default(),
            Value::Sequence(items) => items.iter_mut().for_each(Node::keep_places),
            Value::Map(entries) => {
                entries
                    .iter_mut()
                    .for_each(|entry| entry.value.keep_places());
            }
        }
    }

    /// The kind in words, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(line: u32, value: Value) -> Node {
        Node::new(Position { line, column: 1 }, value)
    }

    #[test]
    fn a_path_is_found_as_far_as_it_exists() {
        let list = node(3, Value::Sequence(Box::new([node(3, Value::Null)])));
        let entry = Entry {
            key: "spec".into(),
            key_position: Position { line: 2, column: 1 },
            value: list,
        };
        let root = node(1, Value::Map(Box::new([entry])));
        let path = FieldPath::spec().index(0).field("absent");
        assert_eq!(root.find(&path).map(|position| position.line), Some(3));
        assert_eq!(
            root.find(&FieldPath::spec()).map(|position| position.line),
            Some(2)
        );
        assert_eq!(root.find(&FieldPath::default().field("status")), None);
    }
}
