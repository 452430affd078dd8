//! Who belongs to a cluster at this moment: its table entry with the names' answers filled in.
//!
//! Held as `pingora_load_balancing` backends: a set of address and weight, in the form that
//! crate's discovery hands to its health registry. `snapshot` turns it into what picks read.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_load_balancing::{Backend, Extensions};

use crate::plan::endpoints::{Endpoint, Place};
use crate::plan::{ClusterEndpoints, Resolution};

use super::dns::Name;
use super::snapshot::Role;

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
        let mut add = |addr: SocketAddr, weight: u32, place: &Place, source: Source| {
            if seen.insert(addr) {
                let mut ext = Extensions::new();
                ext.insert(source);
                ext.insert(place.clone());
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
                    let Endpoint {
                        addr,
                        weight,
                        place,
                        ..
                    } = endpoint;
                    add(*addr, *weight, place, Source::Static);
                }
            }
            Resolution::Dns { names, single } => {
                for entry in names {
                    if let Some(ip) = literal(&entry.name) {
                        add(
                            SocketAddr::new(ip, entry.port),
                            entry.weight,
                            &entry.place,
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
                            &entry.place,
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

    /// Each backend with its part in the cluster, by address.
    pub(super) fn entries(&self) -> impl Iterator<Item = (SocketAddr, Role)> {
        self.backends.iter().filter_map(|backend| {
            let addr = *backend.addr.as_inet()?;
            let source = backend.ext.get::<Source>().cloned();
            let role = Role {
                weight: u32::try_from(backend.weight).unwrap_or(u32::MAX),
                place: backend.ext.get::<Place>().cloned().unwrap_or_default(),
                source: source.unwrap_or(Source::Static),
            };
            Some((addr, role))
        })
    }
}

/// The address that a name written as one stands for; such names are never asked.
pub(super) fn literal(name: &str) -> Option<IpAddr> {
    name.parse().ok()
}
