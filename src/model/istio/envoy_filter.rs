//! `EnvoyFilter`: which proxies and which of their parts it patches; the patch is kept as written.

use serde::Deserialize;

use super::{Items, TargetRef, WorkloadLabels};
use crate::model::decode::Opaque;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvoyFilter {
    pub workload_selector: Option<WorkloadLabels>,
    pub target_refs: Items<TargetRef>,
    pub config_patches: Items<ConfigPatch>,
    pub priority: Option<i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigPatch {
    pub apply_to: Option<String>,
    #[serde(rename = "match")]
    pub matches: Option<PatchMatch>,
    pub patch: Option<Opaque>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PatchMatch {
    /// `GATEWAY`, `ANY`, or a context that is not a gateway's.
    pub context: Option<String>,
    pub proxy: Option<Opaque>,
    pub listener: Option<Opaque>,
    pub route_configuration: Option<Opaque>,
    pub cluster: Option<Opaque>,
    pub waypoint: Option<Opaque>,
}
