//! The clusters page: destinations with their endpoints as they are now.

use std::fmt::Write;

use serde::Serialize;

use crate::upstream::view::Source;
use crate::upstream::{ClusterView, Upstreams};

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
    pub endpoints: Vec<Member>,
    /// Names it is resolved from.
    pub names: Vec<Name>,
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
        }
    }

    /// Appends one line per endpoint and name.
    pub(super) fn write(&self, text: &mut String, indent: &str) {
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
