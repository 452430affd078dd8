//! Istio's objects, field by field as their schema has them (networking and security `v1`).
//!
//! Field names and nesting are Istio's; nothing is merged, defaulted or checked here. Enum-like
//! values stay text, so that `compile` can name the wrong one. List elements are [`Items`]: each
//! knows its line, and one that could not be read does not spoil its neighbours.

pub mod destination_rule;
pub mod envoy_filter;
pub mod gateway;
pub mod security;
pub mod service_entry;
pub mod telemetry;
pub mod virtual_service;

pub use destination_rule::DestinationRule;
pub use envoy_filter::EnvoyFilter;
pub use gateway::Gateway;
pub use security::{AuthorizationPolicy, RequestAuthentication};
pub use service_entry::{ServiceEntry, WorkloadEntry};
pub use telemetry::Telemetry;
pub use virtual_service::VirtualService;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{At, Slot};

/// A list whose elements know their line and fail one by one.
pub type Items<T> = Vec<At<Slot<T>>>;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// `workloadSelector` of ServiceEntry and EnvoyFilter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadLabels {
    pub labels: Labels,
}

/// `selector` of the security kinds and `workloadSelector` of DestinationRule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MatchLabels {
    pub match_labels: Labels,
}

/// `targetRef` of the security kinds and EnvoyFilter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

/// `port: {number: 80}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortSelector {
    pub number: Option<u32>,
}

/// `percentage: {value: 0.1}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Percent {
    pub value: Option<f64>,
}
