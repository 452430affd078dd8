//! Users' vocabularies exactly as they are written: Istio's, Kubernetes' and our own objects.
//!
//! Types only: what a document says, where it says it, and what could not be read.
//! `source` fills them, `compile` gives them meaning.

pub mod decode;
pub mod inventory;
pub mod istio;
pub mod kube;
pub mod node;
pub mod object;
pub mod own;
pub mod tls_files;

pub use decode::{At, Slot};
pub use inventory::Inventory;
pub use node::Node;
pub use object::{FieldPath, Issue, IssueKind, Object, Spec};
