//! What the operator sees of a cluster: endpoints with their load, names with their answers.
//!
//! Built on demand for `admin` and `explain`; no request reads it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::plan::endpoints::Place;
use crate::plan::{Cluster, HealthCheck, Outlier};

use super::health::HealthView;
pub use super::membership::Source;
use super::snapshot::Snapshot;

/// A cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    pub name: Arc<str>,
    pub outlier: Option<Outlier>,
    pub health_check: Option<HealthCheck>,
    /// Those that take traffic first, by address; then the unhealthy and those of weight 0.
    pub endpoints: Vec<EndpointView>,
    /// Unless the cluster has no limits.
    pub breaker: Option<BreakerView>,
    /// The names it is resolved from.
    pub dns: Vec<DnsView>,
}

/// A cluster's limits at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerView {
    /// Requests that count against `http2MaxRequests`; 0 without that limit.
    pub requests: usize,
    /// HTTP/1.1 connections, where they are counted.
    pub connections: usize,
    /// Requests that wait for a connection.
    pub pending: usize,
    /// Requests refused because a limit was reached.
    pub overflows: u64,
}

/// An endpoint at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    pub addr: SocketAddr,
    pub weight: u32,
    pub place: Place,
    /// Requests in flight.
    pub active: usize,
    pub source: Source,
    pub health: HealthView,
}

/// A followed name at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsView {
    pub name: Arc<str>,
    /// How many addresses are in use.
    pub addresses: usize,
    /// When DNS last gave addresses, since the Unix epoch.
    pub answered: Option<Duration>,
    /// Why the last question brought none; `None` after a good answer.
    pub last_error: Option<Arc<str>>,
}

impl ClusterView {
    pub(super) fn new(
        definition: &Cluster,
        snapshot: &Snapshot,
        breaker: Option<BreakerView>,
    ) -> Self {
        let endpoints = snapshot
            .members()
            .map(|(endpoint, role)| EndpointView {
                addr: endpoint.addr,
                weight: role.weight,
                place: role.place.clone(),
                active: endpoint.active.load(Ordering::Relaxed),
                source: role.source.clone(),
                health: endpoint.health.view(),
            })
            .collect();
        let dns = snapshot
            .names
            .iter()
            .map(|name| {
                let status = name.status();
                DnsView {
                    name: name.name.clone(),
                    addresses: status.addresses.len(),
                    answered: status.answered,
                    last_error: status.last_error.clone(),
                }
            })
            .collect();
        Self {
            name: definition.name.clone(),
            outlier: definition.outlier.clone(),
            health_check: definition.health_check.clone(),
            endpoints,
            breaker,
            dns,
        }
    }
}
