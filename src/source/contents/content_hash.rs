//! One number for what an object says, whatever file it stands in and however it is laid out.
//!
//! Two objects with the same number are the same to `compile`: order of keys, comments, style
//! and what the API server notes down for itself do not count.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::FixedState;

use crate::base::Kind;
use crate::model::Node;
use crate::model::node::{Entry, Value};
use crate::model::object::Object;

/// Hashes identity, the metadata that counts, and everything beside the metadata.
pub(super) fn of(object: &Object) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    (
        &object.key,
        &object.labels,
        &object.annotations,
        object.created,
    )
        .hash(&mut hasher);
    let deleting = object
        .node
        .get("metadata")
        .and_then(|node| node.get("deletionTimestamp"));
    deleting.is_some().hash(&mut hasher);
    // A pod's status holds its address; every other status is a report about the object.
    let has_status = object.key.kind == Kind::Pod;
    let counts = |entry: &&Entry| match &*entry.key {
        "apiVersion" | "kind" | "metadata" => false,
        "status" => has_status,
        _ => true,
    };
    entries(object.node.entries().iter().filter(counts), &mut hasher);
    hasher.finish()
}

fn entries<'n>(entries: impl Iterator<Item = &'n Entry>, hasher: &mut impl Hasher) {
    let mut sorted: Vec<&Entry> = entries.collect();
    sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    sorted.len().hash(hasher);
    for entry in sorted {
        entry.key.hash(hasher);
        node(&entry.value, hasher);
    }
}

fn node(at: &Node, hasher: &mut impl Hasher) {
    std::mem::discriminant(&at.value).hash(hasher);
    match &at.value {
        Value::Null => {}
        Value::Bool(value) => value.hash(hasher),
        Value::Int(text) | Value::Float(text) | Value::String(text) => text.hash(hasher),
        Value::Sequence(items) => {
            items.len().hash(hasher);
            for item in items {
                node(item, hasher);
            }
        }
        Value::Map(map) => entries(map.iter(), hasher),
    }
}
