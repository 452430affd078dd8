//! The second table: which endpoints each cluster has, or how to find them.
//!
//! It has its own digest and is published per cluster, so that a pod that comes or goes
//! swaps no plan.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::Origin;

use super::Digest;

/// Cluster name to endpoints.
#[derive(Clone, Debug, Default)]
pub struct EndpointTable {
    pub clusters: BTreeMap<Arc<str>, Arc<ClusterEndpoints>>,
    pub digest: Digest,
}

/// The endpoints of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEndpoints {
    pub resolution: Resolution,
    /// Same endpoints, same digest.
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    Static(Vec<Endpoint>),
    /// Names to resolve at run time.
    Dns {
        names: Vec<DnsEndpoint>,
        /// `DNS_ROUND_ROBIN`: at most one address of the answer is used.
        single: bool,
    },
}

/// Where an endpoint stands, as this gateway sees it (DestinationRule's `localityLbSetting`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// `region/zone/subzone`, as far as known.
    pub locality: Arc<str>,
    /// Those of 0 take the traffic while enough of them are fit; then those of 1, and so on.
    /// Numbers have no gaps.
    pub priority: u32,
    /// What the endpoints of this locality get together, in relation to the other localities
    /// (`distribute`). `None`: what their own weights come to.
    pub share: Option<u32>,
}

/// One address that takes traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// 1 unless written; 0 takes no traffic.
    pub weight: u32,
    pub place: Place,
    /// The object that names it.
    pub origin: Option<Origin>,
}

/// A name whose addresses take traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEndpoint {
    /// A host name; or an IP address, which is its own answer (a ServiceEntry with resolution
    /// `DNS` may have both).
    pub name: Arc<str>,
    pub port: u16,
    pub weight: u32,
    pub place: Place,
    pub origin: Option<Origin>,
}
