//! A cluster's definition: one per destination host, port and subset, as in Istio.

use std::sync::Arc;

use crate::base::Origin;

use super::{Balancing, HealthCheck, Outlier, Pool};

/// Index of a cluster in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u32);

/// How to reach one destination; its endpoints live beside the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `outbound|port|subset|host`: unique, and the key of all run-time state.
    pub name: Arc<str>,
    pub host: Arc<str>,
    pub port: u16,
    pub subset: Option<Arc<str>>,
    /// Namespace and name of the service, for metric labels (`destination_service_*`).
    pub service_name: Arc<str>,
    pub service_namespace: Arc<str>,
    pub protocol: Protocol,
    pub balancing: Balancing,
    pub pool: Pool,
    /// Passive ejection; `None` is off.
    pub outlier: Option<Outlier>,
    /// Active probing; `None` is off. The same for all subsets of a host.
    pub health_check: Option<HealthCheck>,
    /// The Service or ServiceEntry.
    pub origin: Option<Origin>,
    /// The DestinationRule whose traffic policy holds.
    pub policy_origin: Option<Origin>,
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    #[default]
    Http1,
    /// Prior-knowledge HTTP/2 without TLS.
    H2c,
    /// HTTP/2 for requests that came over HTTP/2, HTTP/1.1 for others (`useClientProtocol`).
    Client,
}
