//! Reads Envoy's configuration out of a patch, which is kept as it was written.
//!
//! Nothing is passed over: a field that nobody asked for is an error, so that no patch is honoured
//! in part. Fields may be written as protobuf or as JSON names them.

use std::time::Duration;

use crate::base::quantity::parse_duration;
use crate::model::node::{Node, Value};

/// How many characters of a patch a finding quotes.
const QUOTED: usize = 200;

/// What is wrong, in one clause.
pub(super) type Wrong = String;

/// A map whose fields are asked for by the names that protobuf gives them.
#[derive(Clone, Debug)]
pub(super) struct Fields<'n> {
    node: &'n Node,
    /// As messages name it.
    place: String,
}

impl<'n> Fields<'n> {
    /// A map that has no fields but these.
    pub(super) fn read(node: &'n Node, place: &str, known: &[&str]) -> Result<Self, Wrong> {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            return Err(format!("`{place}` is {}, not a map", node.kind()));
        }
        let mut entries = node.entries().iter().filter(|entry| !entry.value.is_null());
        let strange = entries.find(|entry| !known.contains(&&*snake(&entry.key)));
        match strange {
            Some(entry) => Err(format!("`{}` is not supported", join(place, &entry.key))),
            None => Ok(Self {
                node,
                place: place.to_owned(),
            }),
        }
    }

    /// The value of a field, if it is set.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        get(self.node, name)
    }

    /// A map below this one, if it is set.
    pub(super) fn map(&self, name: &str, known: &[&str]) -> Result<Option<Fields<'n>>, Wrong> {
        let node = self.get(name);
        node.map(|node| Fields::read(node, &self.place(name), known))
            .transpose()
    }

    /// The items of a list, each with how messages name it; none if it is not set.
    pub(super) fn list(&self, name: &str) -> Result<Vec<(&'n Node, String)>, Wrong> {
        let Some(node) = self.get(name) else {
            return Ok(Vec::new());
        };
        if !matches!(node.value, Value::Sequence(_)) {
            return Err(format!(
                "`{}` is {}, not a list",
                self.place(name),
                node.kind()
            ));
        }
        let items = node.items().iter().enumerate();
        let named = |(index, item)| (item, format!("{}[{index}]", self.place(name)));
        Ok(items.map(named).collect())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'n str>, Wrong> {
        let read = |node: &'n Node| match &node.value {
            Value::String(text) => Ok(&**text),
            // A value that YAML reads as a number is as good.
            Value::Int(text) | Value::Float(text) => Ok(&**text),
            _ => Err(format!(
                "`{}` is {}, not a string",
                self.place(name),
                node.kind()
            )),
        };
        self.get(name).map(read).transpose()
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, Wrong> {
        let read = |text: &str| {
            text.parse()
                .map_err(|_| format!("`{}` is `{text}`, not a number", self.place(name)))
        };
        self.text(name)?.map(read).transpose()
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Wrong> {
        let read = |node: &Node| match &node.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(format!(
                "`{}` is {}, not a boolean",
                self.place(name),
                node.kind()
            )),
        };
        self.get(name).map(read).transpose()
    }

    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Wrong> {
        let read = |text: &str| {
            parse_duration(text, false).map_err(|wrong| format!("`{}`: {wrong}", self.place(name)))
        };
        self.text(name)?.map(read).transpose()
    }

    /// How messages name a field.
    pub(super) fn place(&self, name: &str) -> String {
        join(&self.place, name)
    }
}

/// The value of a field by the name that protobuf gives it, if it is set.
pub(super) fn get<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let mut entries = node.entries().iter();
    let found = entries.find(|entry| *snake(&entry.key) == *name)?;
    Some(&found.value).filter(|value| !value.is_null())
}

fn join(place: &str, name: &str) -> String {
    match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    }
}

/// A name as protobuf writes it.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The beginning of a value, in one line.
pub(super) fn quote(node: &Node) -> String {
    let mut text = String::new();
    write(node, &mut text);
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => {
            text.truncate(end);
            text + "…"
        }
        None => text,
    }
}

fn write(node: &Node, out: &mut String) {
    if out.len() > 4 * QUOTED {
        return;
    }
    match &node.value {
        Value::Null => out.push('~'),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(text) | Value::Float(text) | Value::String(text) => out.push_str(text),
        Value::Sequence(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, entry) in entries.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&entry.key);
                out.push_str(": ");
                write(&entry.value, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_protobufs_however_they_are_written() {
        for name in ["token_bucket", "tokenBucket"] {
            assert_eq!(snake(name), "token_bucket");
        }
        assert_eq!(snake("@type"), "@type");
    }
}
