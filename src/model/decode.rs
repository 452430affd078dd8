//! Typed models out of parsed documents, with everything that is wrong collected on the way.
//!
//! [`decode`] reads a plain `#[derive(Deserialize)]` struct from a [`Node`]. Unknown fields and
//! values of a wrong type become [`Issue`]s with their path and line, and decoding goes on: a
//! field that cannot be read is left out, an element that cannot be read at all is
//! [`Slot::Broken`]. So a missing field may be a broken one; who gives the model meaning asks
//! [`Object::issues_under`](super::Object::issues_under) before it trusts an absence.
//!
//! Protobuf's JSON rules hold: `null` is unset, integers may be quoted, and a field may be
//! written by its original name (`max_connections`) as well as in camel case.

mod access;
mod collector;
mod deserializer;
mod names;
mod wrappers;

use serde::de::DeserializeOwned;

use super::Node;
use super::object::{FieldPath, Issue};

pub use wrappers::{At, Opaque, Slot};

use collector::{Collector, DecodeError, Path};
use deserializer::NodeDeserializer;

/// How many times one element is tried again with its unreadable fields left out.
const MAX_ATTEMPTS: usize = 64;

/// What a field that the model does not have means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// A mistake: Istio's schema is known completely.
    Report,
    /// Nothing: only part of Kubernetes' schema is modelled.
    Ignore,
}

/// Reads a model from the node that stands at `path` in its document.
///
/// The second value is what could not be read. If the node is no map at all, the model is the
/// default one.
pub fn decode<T: DeserializeOwned + Default>(
    node: &Node,
    path: &FieldPath,
    unknown: UnknownFields,
) -> (T, Vec<Issue>) {
    let collector = Collector::new(unknown);
    let root = Path::Root(path);
    let deserializer = NodeDeserializer {
        node,
        path: &root,
        collector: &collector,
    };
    let mut value = None;
    for _ in 0..MAX_ATTEMPTS {
        match T::deserialize(deserializer) {
            Ok(decoded) => {
                value = Some(decoded);
                break;
            }
            Err(DecodeError::Recorded) => {}
            Err(wrong) => {
                deserializer.record(wrong, node.position);
                value = Some(T::default());
                break;
            }
        }
    }
    let value = value.unwrap_or_else(|| {
        deserializer.record(DecodeError::too_many(), node.position);
        T::default()
    });
    let mut issues = collector.into_issues();
    issues.sort_by_key(|issue| issue.position);
    (value, issues)
}
