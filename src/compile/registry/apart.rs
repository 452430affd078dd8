//! Clusters that are no service's destination: what policies themselves ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::Origin;
use crate::plan::endpoints::{DnsEndpoint, Endpoint, Place};
use crate::plan::{Cluster, ClusterEndpoints, ClusterId, Pool, Protocol, Resolution};

use super::cluster::Use;
use super::{Registry, name};

/// A cluster of addresses, over HTTP/2.
pub(crate) struct Apart<'r> {
    pub name: Arc<str>,
    /// Host or address, and port; at least one.
    pub addresses: &'r [(String, u16)],
    /// At most one address of a name is used at a time.
    pub is_logical: bool,
    pub connect_timeout: Duration,
    pub origin: &'r Origin,
}

/// One with its endpoints.
#[derive(Debug)]
pub(super) struct Kept {
    pub cluster: Arc<Cluster>,
    pub endpoints: ClusterEndpoints,
}

impl Registry<'_> {
    /// The full, lower-case name of a host written in a config of `namespace`.
    pub(crate) fn full_name(&self, host: &str, namespace: &str) -> String {
        name::expand(host, namespace, &self.options.domain).into_owned()
    }

    /// Whether a full host name is a service's.
    pub(crate) fn knows(&self, host: &str) -> bool {
        self.services.find(host).is_some()
    }

    /// Adds a cluster; if there is one of the name already, it is that.
    pub(crate) fn add(&mut self, apart: &Apart<'_>) -> ClusterId {
        let name = &apart.name;
        let planned = self.clusters.iter().map(|planned| &planned.cluster.name);
        let mut names = planned.chain(self.apart.iter().map(|kept| &kept.cluster.name));
        let is_known = names.any(|known| known == name);
        let id = self.slots.take(name);
        if !is_known {
            let endpoints = ClusterEndpoints::new(self.resolution(apart));
            let cluster = Arc::new(apart.cluster());
            self.apart.push(Kept { cluster, endpoints });
        }
        id
    }

    /// The endpoints of addresses: names of services are those services', other names are asked.
    fn resolution(&self, apart: &Apart<'_>) -> Resolution {
        if let [(host, port)] = apart.addresses
            && let Some(known) = self.endpoints_of(host, *port)
        {
            return known;
        }
        let place = Place::default;
        let origin = || Some(apart.origin.clone());
        let literal = |(host, port): &(String, u16)| {
            let address = host.parse::<IpAddr>().ok()?;
            Some(Endpoint {
                addr: SocketAddr::new(address, *port),
                weight: 1,
                place: place(),
                origin: origin(),
            })
        };
        let literals: Option<Vec<Endpoint>> = apart.addresses.iter().map(literal).collect();
        if let Some(mut endpoints) = literals {
            endpoints.sort_by_key(|endpoint| endpoint.addr);
            endpoints.dedup_by_key(|endpoint| endpoint.addr);
            return Resolution::Static(endpoints);
        }
        let names = apart.addresses.iter().map(|(host, port)| DnsEndpoint {
            name: host.as_str().into(),
            port: *port,
            weight: 1,
            place: place(),
            origin: origin(),
        });
        Resolution::Dns {
            names: names.collect(),
            single: apart.is_logical,
        }
    }

    /// Where a service's port is served, if the registry knows.
    fn endpoints_of(&self, host: &str, port: u16) -> Option<Resolution> {
        let (index, service) = self.services.find(host)?;
        let port = service.port(u32::from(port))?;
        let planned = self.plan(index, service, port, None, None, Use::Routed);
        Some(self.discover(&planned.ok()?)?.resolution)
    }
}

impl Apart<'_> {
    fn cluster(&self) -> Cluster {
        let (host, port) = match self.addresses.first() {
            Some((host, port)) => (host.as_str(), *port),
            None => ("", 0),
        };
        Cluster {
            name: self.name.clone(),
            host: host.into(),
            port,
            subset: None,
            service_name: self.name.clone(),
            service_namespace: Arc::default(),
            protocol: Protocol::H2c,
            balancing: Default::default(),
            pool: Pool {
                connect_timeout: self.connect_timeout,
                ..Pool::default()
            },
            tls: None,
            proxy_protocol: None,
            outlier: None,
            health_check: None,
            origin: Some(self.origin.clone()),
            policy_origin: None,
        }
    }
}
