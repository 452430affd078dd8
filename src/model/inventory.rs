//! The immutable set of all objects of one load, with what could not be read.

use std::sync::Arc;

use crate::base::Finding;

use super::Object;

/// Everything a source delivered at one moment. Cheap to clone and to compare by revision.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Objects in the stable order (creationTimestamp with absent last, then name, then
    /// namespace, then kind); identities are unique.
    pub objects: Vec<Arc<Object>>,
    /// Findings that concern files rather than objects: unreadable, unparseable, repeated
    /// identities, kinds foreign to a gateway.
    pub findings: Vec<Finding>,
    /// Whether a file could not be parsed and has no earlier version to stand in for it.
    pub incomplete: bool,
    /// Grows by one with every change of the set.
    pub revision: u64,
}
