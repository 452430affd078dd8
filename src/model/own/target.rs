//! Whose requests a policy of ours concerns.

use serde::Deserialize;

/// A Gateway, a VirtualService, or one of its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyTarget {
    /// `Gateway` or `VirtualService`.
    pub kind: Option<String>,
    pub name: String,
    /// The policy's own unless written.
    pub namespace: Option<String>,
    /// The name of an http rule of the VirtualService; all of them unless written.
    pub section_name: Option<String>,
}
