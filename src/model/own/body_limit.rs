//! `BodyLimit`: how large a request's body may be.

use serde::Deserialize;

use super::PolicyTarget;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BodyLimit {
    pub target_ref: PolicyTarget,
    /// Bytes, as they come over the wire; 0 lets no body through.
    pub max_bytes: Option<u64>,
}
