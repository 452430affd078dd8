//! Who belongs to a cluster at this moment: its table entry with the names' answers filled in.
//!
//! Held as `pingora_load_balancing` backends: a set of address and weight, in the form that
//! crate's discovery hands to its health registry. `snapshot` turns it into what picks read.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_load_balancing::{Backend, Extensions};

use crate::plan::{ClusterEndpoints, Resolution};

use super::dns::Name;

/// The backends of one cluster.
#[derive(Debug, Default)]
pub(super) struct Membership {
    pub(super) backends: BTreeSet<Backend>,
    /// The names that were looked at, answered or not.
    pub(super) names: Vec<Arc<Name>>,
}

/// Where an address comes from; travels in the backend's extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written, or found in the cluster's objects.
    Static,
    /// An answer of DNS for this name.
    Dns(Arc<str>),
}

impl Membership {
    /// `answers` finds the state of a followed name. An address named twice counts once, with
    /// the weight of its first mention, as in Envoy.
    pub(super) fn new(
        table: &ClusterEndpoints,
        answers: impl Fn(&str) -> Option<Arc<Name>>,
    ) -> Self {
        let mut membership = Self::default();
        let mut seen = HashSet::new();
        let mut add = |addr: SocketAddr, weight: u32, source: Source| {
            if seen.insert(addr) {
                let mut ext = Extensions::new();
                ext.insert(source);
                let weight = usize::try_from(weight).unwrap_or(usize::MAX);
                membership.backends.insert(Backend {
                    addr: PeerAddr::Inet(addr),
                    weight,
                    ext,
                });
            }
        };
        match &table.resolution {
            Resolution::Static(endpoints) => {
                for endpoint in endpoints {
                    add(endpoint.addr, endpoint.weight, Source::Static);
                }
            }
            Resolution::Dns { names, single } => {
                for entry in names {
                    if let Some(ip) = literal(&entry.name) {
                        add(
                            SocketAddr::new(ip, entry.port),
                            entry.weight,
                            Source::Static,
                        );
                        continue;
                    }
                    let Some(name) = answers(&entry.name) else {
                        continue;
                    };
                    for ip in name.status().addresses(*single) {
                        add(
                            SocketAddr::new(ip, entry.port),
                            entry.weight,
                            Source::Dns(entry.name.clone()),
                        );
                    }
                    if !membership
                        .names
                        .iter()
                        .any(|known| Arc::ptr_eq(known, &name))
                    {
                        membership.names.push(name);
                    }
                }
            }
        }
        membership
    }

    /// Address, weight and source of each backend, by address.
    pub(super) fn entries(&self) -> impl Iterator<Item = (SocketAddr, u32, Source)> {
        self.backends.iter().filter_map(|backend| {
            let addr = *backend.addr.as_inet()?;
            let weight = u32::try_from(backend.weight).unwrap_or(u32::MAX);
            let source = backend
                .ext
                .get::<Source>()
                .cloned()
                .unwrap_or(Source::Static);
            Some((addr, weight, source))
        })
    }
}

/// The address that a name written as one stands for; such names are never asked.
pub(super) fn literal(name: &str) -> Option<IpAddr> {
    name.parse().ok()
}
