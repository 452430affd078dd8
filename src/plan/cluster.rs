//! A cluster's definition: one per destination host, port and subset, as in Istio.

use std::sync::Arc;

use crate::base::Origin;

use super::{Balancing, HealthCheck, OriginTls, Outlier, Pool};

/// A cluster of a plan. As long as `compile` remembers, a name keeps its id from plan to plan, so
/// that routes can be shared between plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u32);

/// The clusters of a plan, by id. Some ids may be unused: what had them is gone.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    by_id: Vec<Option<Arc<Cluster>>>,
    len: usize,
}

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
    /// TLS to the endpoints; `None` is plain text.
    pub tls: Option<Arc<OriginTls>>,
    /// `proxyProtocol`: each connection begins with the client's address.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Passive ejection; `None` is off.
    pub outlier: Option<Outlier>,
    /// Active probing; `None` is off. The same for all subsets of a host.
    pub health_check: Option<HealthCheck>,
    /// The Service or ServiceEntry.
    pub origin: Option<Origin>,
    /// The DestinationRule whose traffic policy holds.
    pub policy_origin: Option<Origin>,
}

impl Clusters {
    #[inline]
    pub fn get(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.by_id.get(id.0 as usize)?.as_ref()
    }

    /// Puts a cluster under an id, in place of what is there.
    pub fn insert(&mut self, id: ClusterId, cluster: Arc<Cluster>) {
        let index = id.0 as usize;
        if self.by_id.len() <= index {
            self.by_id.resize(index + 1, None);
        }
        if let Some(slot) = self.by_id.get_mut(index) {
            self.len += usize::from(slot.replace(cluster).is_none());
        }
    }

    /// One item for every id there is, used or not, in the order of the ids.
    pub fn slots(&self) -> &[Option<Arc<Cluster>>] {
        &self.by_id
    }

    /// In the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_id.iter().flatten()
    }

    /// In the order of the names, which does not depend on what was compiled before.
    pub fn by_name(&self) -> Vec<&Arc<Cluster>> {
        let mut clusters: Vec<&Arc<Cluster>> = self.iter().collect();
        clusters.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        clusters
    }

    /// How many clusters there are.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The first has id 0.
impl FromIterator<Arc<Cluster>> for Clusters {
    fn from_iter<I: IntoIterator<Item = Arc<Cluster>>>(clusters: I) -> Self {
        let by_id: Vec<_> = clusters.into_iter().map(Some).collect();
        Self {
            len: by_id.len(),
            by_id,
        }
    }
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    #[default]
    Http1,
    /// HTTP/2: with prior knowledge without TLS, by ALPN with it.
    H2c,
    /// HTTP/2 for requests that came over HTTP/2, HTTP/1.1 for others (`useClientProtocol`).
    Client,
}

/// Of the PROXY protocol that HAProxy defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
