//! `Telemetry`: what is traced, counted and logged of a workload's requests.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Items, MatchLabels, TargetRef};
use crate::model::decode::Opaque;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Telemetry {
    pub selector: Option<MatchLabels>,
    pub target_ref: Option<TargetRef>,
    pub target_refs: Items<TargetRef>,
    pub tracing: Items<Tracing>,
    pub metrics: Option<Opaque>,
    pub access_logging: Option<Opaque>,
}

/// One entry of `spec.tracing`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tracing {
    #[serde(rename = "match")]
    pub matches: Option<TracingMatch>,
    pub providers: Items<Provider>,
    /// 0 to 100.
    pub random_sampling_percentage: Option<f64>,
    pub disable_span_reporting: Option<bool>,
    pub custom_tags: BTreeMap<String, CustomTag>,
    pub use_request_id_for_trace_sampling: Option<bool>,
    pub enable_istio_tags: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TracingMatch {
    /// `CLIENT`, `SERVER` or `CLIENT_AND_SERVER`.
    pub mode: Option<String>,
}

/// One of MeshConfig's `extensionProviders`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Provider {
    pub name: String,
}

/// Exactly one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CustomTag {
    pub literal: Option<Literal>,
    pub environment: Option<Named>,
    pub header: Option<Named>,
    /// Its value is in the access log's operators.
    pub formatter: Option<Literal>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Literal {
    pub value: String,
}

/// An environment variable or a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Named {
    pub name: String,
    pub default_value: String,
}
