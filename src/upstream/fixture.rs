//! Clusters, tables and plans for the tests of this room.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use crate::plan::endpoints::{DnsEndpoint, Endpoint};
use crate::plan::{
    Balance, Cluster, ClusterEndpoints, ClusterId, Digest, EndpointTable, Outlier, Plan, Pool,
    Protocol, Resolution,
};

use super::outlier::Detector;
use super::{ClusterState, Serving};

pub fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.into(),
        host: name.into(),
        port: 80,
        subset: None,
        service_name: name.into(),
        service_namespace: "default".into(),
        protocol: Protocol::Http1,
        balancing: Balance::RoundRobin.into(),
        pool: Pool::default(),
        tls: None,
        proxy_protocol: None,
        outlier: None,
        health_check: None,
        origin: None,
        policy_origin: None,
    }
}

pub fn plan(clusters: impl IntoIterator<Item = Cluster>) -> Arc<Plan> {
    Arc::new(Plan {
        clusters: clusters.into_iter().map(Arc::new).collect(),
        ..Plan::default()
    })
}

pub fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// Addresses by their last number, each with a weight.
pub fn fixed(endpoints: &[(u8, u32)]) -> Resolution {
    let endpoint = |&(last, weight): &(u8, u32)| Endpoint {
        addr: addr(last),
        weight,
        place: Default::default(),
        origin: None,
    };
    Resolution::Static(endpoints.iter().map(endpoint).collect())
}

/// Names on port 80, each of weight 1.
pub fn resolved(names: &[&str], single: bool) -> Resolution {
    let entry = |name: &&str| DnsEndpoint {
        name: (*name).into(),
        port: 80,
        weight: 1,
        place: Default::default(),
        origin: None,
    };
    Resolution::Dns {
        names: names.iter().map(entry).collect(),
        single,
    }
}

/// A table in which an entry has a digest of its own exactly if it has endpoints of its own.
pub fn table(entries: &[(&str, Resolution)]) -> EndpointTable {
    let digest = |resolution: &Resolution| {
        let text = format!("{resolution:?}");
        Digest(
            text.bytes()
                .fold(0, |sum, byte| sum * 31 % (1 << 100) + u128::from(byte)),
        )
    };
    let entry = |(name, resolution): &(&str, Resolution)| {
        let endpoints = ClusterEndpoints {
            digest: digest(resolution),
            resolution: resolution.clone(),
        };
        ((*name).into(), Arc::new(endpoints))
    };
    EndpointTable {
        clusters: entries.iter().map(entry).collect(),
        digest: Digest::default(),
    }
}

/// The state of a plan's first cluster.
pub fn first(serving: &Serving) -> Arc<ClusterState> {
    serving
        .cluster(ClusterId(0))
        .expect("the plan has a cluster")
        .clone()
}

/// All addresses of a cluster with their weight.
pub fn members(state: &ClusterState) -> Vec<(SocketAddr, u32)> {
    state
        .view()
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.addr, endpoint.weight))
        .collect()
}

/// Ejects an endpoint at its first 500, and all of them if need be.
pub fn detector() -> Arc<Detector> {
    let rules = Outlier {
        consecutive_5xx: NonZeroU32::new(1),
        max_ejection_percent: 100,
        ..Outlier::default()
    };
    let detector = Detector::new("a".into(), Some(&rules), unbounded_channel().0);
    detector.set_hosts(1000);
    detector
}
