//! `AccessList`: which clients are let in, by their address.

use serde::Deserialize;

use super::PolicyTarget;

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessList {
    pub target_ref: PolicyTarget,
    /// Addresses and ranges (`10.0.0.0/8`); if there are any, all others are refused.
    pub allow: Vec<String>,
    /// Refused, whatever `allow` says.
    pub deny: Vec<String>,
}
