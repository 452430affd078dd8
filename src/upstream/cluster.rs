//! One cluster's live state: an immutable endpoint snapshot behind an atomic pointer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;

use crate::plan::Cluster;

/// The run-time side of a [`Cluster`]; lives as long as any plan names the cluster.
#[derive(Debug)]
pub struct ClusterState {
    /// The current definition; replaced when a new plan changes it.
    pub definition: ArcSwap<Cluster>,
    pub(super) endpoints: ArcSwap<Vec<Arc<EndpointState>>>,
}

/// One address of a cluster with its counters.
#[derive(Debug)]
pub struct EndpointState {
    pub addr: SocketAddr,
    pub weight: u32,
    /// Requests in flight; the holder of a pick counts itself.
    pub active: AtomicUsize,
}
