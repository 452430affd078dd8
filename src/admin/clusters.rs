//! The clusters page: destinations with their endpoints as they are now.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::plan::{HealthCheck, Outlier};
use crate::upstream::view::Source;
use crate::upstream::{ClusterView, HealthView, Upstreams};

/// One cluster at this moment.
#[derive(Debug, Serialize)]
pub(super) struct ClusterShown {
    name: String,
    #[serde(flatten)]
    pub(super) members: Members,
}

/// Who takes a cluster's traffic.
#[derive(Debug, Default, Serialize)]
pub struct Members {
    /// When endpoints are ejected; absent if never.
    pub outliers: Option<String>,
    /// What its connection pool's limits do; absent if nothing is limited and nothing was.
    pub limits: Option<Limits>,
    /// How they are probed, and who asks for it.
    pub probe: Option<String>,
    pub endpoints: Vec<Member>,
    /// Names it is resolved from.
    pub names: Vec<Name>,
}

/// A connection pool's limits at work.
#[derive(Debug, Serialize)]
pub struct Limits {
    /// Requests that count against `http2MaxRequests`.
    pub requests: usize,
    /// HTTP/1.1 connections.
    pub connections: usize,
    /// Requests that wait for a connection.
    pub pending: usize,
    /// Requests refused because a limit was reached.
    pub overflows: u64,
}

/// One address.
#[derive(Debug, Serialize)]
pub struct Member {
    pub address: String,
    pub weight: u32,
    /// Requests in flight; absent when no gateway runs.
    pub active: Option<usize>,
    /// The name of DNS or the object it comes from.
    pub source: Option<String>,
    /// Absent when no gateway runs.
    pub health: Option<Health>,
}

/// Whether an address is fit for traffic.
#[derive(Debug, Serialize)]
pub struct Health {
    pub healthy: bool,
    /// Why outlier detection has it out of traffic: Envoy's name of the count.
    pub ejected_because: Option<&'static str>,
    /// When it comes back (RFC 3339).
    pub ejected_until: Option<String>,
    /// Why its last probe failed, if that keeps it from traffic.
    pub failing_because: Option<String>,
}

/// One name of DNS.
#[derive(Debug, Serialize)]
pub struct Name {
    pub name: String,
    /// How many addresses it gave; absent when no gateway runs.
    pub addresses: Option<usize>,
    /// Why the last question brought none.
    pub error: Option<String>,
}

impl Members {
    pub(super) fn of(view: &ClusterView) -> Self {
        Self {
            endpoints: view
                .endpoints
                .iter()
                .map(|endpoint| Member {
                    address: endpoint.addr.to_string(),
                    weight: endpoint.weight,
                    active: Some(endpoint.active),
                    source: match &endpoint.source {
                        Source::Static => None,
                        Source::Dns(name) => Some(name.to_string()),
                    },
                    health: Some(Health::of(&endpoint.health)),
                })
                .collect(),
            names: view
                .dns
                .iter()
                .map(|dns| Name {
                    name: dns.name.to_string(),
                    addresses: Some(dns.addresses),
                    error: dns.last_error.as_ref().map(ToString::to_string),
                })
                .collect(),
            limits: view.breaker.as_ref().map(|breaker| Limits {
                requests: breaker.requests,
                connections: breaker.connections,
                pending: breaker.pending,
                overflows: breaker.overflows,
            }),
            ..Self::rules(view.outlier.as_ref(), view.health_check.as_ref())
        }
    }

    /// Nobody yet, with what decides about their health.
    pub(super) fn rules(outlier: Option<&Outlier>, check: Option<&HealthCheck>) -> Self {
        Self {
            outliers: outlier.map(ToString::to_string),
            probe: check
                .map(|check| format!("{} from {} at {}", check.probe, check.object, check.origin)),
            ..Self::default()
        }
    }

    /// Appends one line per rule, endpoint and name.
    pub(super) fn write(&self, text: &mut String, indent: &str) {
        let rules = [("outliers", &self.outliers), ("probe", &self.probe)];
        for (what, rule) in rules {
            if let Some(rule) = rule {
                let _ = writeln!(text, "{indent}{what}: {rule}");
            }
        }
        if let Some(limits) = &self.limits {
            let _ = writeln!(
                text,
                "{indent}limits: {} requests, {} connections, {} pending, {} overflows",
                limits.requests, limits.connections, limits.pending, limits.overflows
            );
        }
        for member in &self.endpoints {
            // Writing to a string cannot fail.
            let _ = write!(text, "{indent}{}", member.address);
            if member.weight != 1 {
                let _ = write!(text, " weight {}", member.weight);
            }
            if let Some(active) = member.active {
                let _ = write!(text, " active {active}");
            }
            if let Some(source) = &member.source {
                let _ = write!(text, " from {source}");
            }
            if let Some(health) = &member.health {
                let _ = write!(text, " {health}");
            }
            text.push('\n');
        }
        for name in &self.names {
            let _ = match (&name.error, name.addresses) {
                (Some(error), _) => writeln!(text, "{indent}name {}: {error}", name.name),
                (None, Some(addresses)) => {
                    writeln!(text, "{indent}name {}: {addresses} addresses", name.name)
                }
                (None, None) => writeln!(
                    text,
                    "{indent}name {}, asked when the gateway runs",
                    name.name
                ),
            };
        }
        if self.endpoints.is_empty() && self.names.is_empty() {
            let _ = writeln!(text, "{indent}no endpoint");
        }
    }
}

impl Health {
    fn of(view: &HealthView) -> Self {
        let ejection = view.ejection.as_ref();
        Self {
            healthy: view.is_healthy(),
            ejected_because: ejection.map(|ejection| ejection.reason.code()),
            ejected_until: ejection.map(|ejection| time(ejection.until)),
            failing_because: view.failing.as_deref().cloned(),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.healthy {
            return f.write_str("healthy");
        }
        let mut separator = "";
        if let (Some(reason), Some(until)) = (self.ejected_because, &self.ejected_until) {
            write!(f, "ejected because of {reason} until {until}")?;
            separator = ", ";
        }
        match &self.failing_because {
            Some(reason) => write!(f, "{separator}failing its probe: {reason}"),
            None => Ok(()),
        }
    }
}

/// To the second.
fn time(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.to_string()
}

pub(super) fn shown(upstreams: &Upstreams) -> Vec<ClusterShown> {
    let mut shown: Vec<ClusterShown> = upstreams
        .clusters()
        .iter()
        .map(|cluster| cluster.view())
        .map(|view| ClusterShown {
            name: view.name.to_string(),
            members: Members::of(&view),
        })
        .collect();
    shown.sort_by(|a, b| a.name.cmp(&b.name));
    shown
}

pub(super) fn text(clusters: &[ClusterShown]) -> String {
    let mut text = String::new();
    for cluster in clusters {
        let _ = writeln!(text, "{}", cluster.name);
        cluster.members.write(&mut text, "  ");
    }
    if text.is_empty() {
        text.push_str("no cluster\n");
    }
    text
}
