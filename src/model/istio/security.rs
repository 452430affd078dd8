//! `AuthorizationPolicy` and `RequestAuthentication`: which traffic they select; what they
//! demand of it is kept as written.

use serde::Deserialize;

use super::{Items, MatchLabels, TargetRef};
use crate::model::decode::Opaque;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthorizationPolicy {
    pub selector: Option<MatchLabels>,
    pub target_ref: Option<TargetRef>,
    pub target_refs: Items<TargetRef>,
    pub action: Option<String>,
    pub rules: Option<Opaque>,
    pub provider: Option<Opaque>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestAuthentication {
    pub selector: Option<MatchLabels>,
    pub target_ref: Option<TargetRef>,
    pub target_refs: Items<TargetRef>,
    pub jwt_rules: Option<Opaque>,
}
