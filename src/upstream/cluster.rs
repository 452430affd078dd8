//! One cluster's live state: an immutable endpoint snapshot behind an atomic pointer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use pingora_core::upstreams::peer::HttpPeer;

use crate::plan::Cluster;

use super::health::EndpointHealth;
use super::membership::Membership;
use super::peer::{PeerTemplate, Wants};
use super::pick::{Ask, Pick, Refused};
use super::retries::Retries;
use super::snapshot::Snapshot;
use super::view::ClusterView;

/// The run-time side of a [`Cluster`]; lives as long as any plan names the cluster.
#[derive(Debug)]
pub struct ClusterState {
    /// The current definition; replaced when a new plan changes it.
    pub definition: ArcSwap<Cluster>,
    endpoints: ArcSwap<Snapshot>,
    template: ArcSwap<PeerTemplate>,
    /// How many round robin picks were made. Starts anywhere, so that gateways that start
    /// together do not walk the endpoints in step.
    cursor: AtomicUsize,
    pub(super) retries: Arc<Retries>,
}

/// One address of a cluster with its counters. Lives as long as the address is published,
/// whatever its weight, and as long as a request holds it.
#[derive(Debug)]
pub struct EndpointState {
    pub addr: SocketAddr,
    /// Requests in flight; the holder of a pick counts itself.
    pub active: AtomicUsize,
    pub health: EndpointHealth,
}

impl ClusterState {
    pub(super) fn new(definition: Arc<Cluster>) -> Self {
        Self {
            endpoints: ArcSwap::from_pointee(Snapshot::empty(definition.balancing.policy)),
            template: ArcSwap::from_pointee(PeerTemplate::new(&definition)),
            definition: ArcSwap::new(definition),
            cursor: AtomicUsize::new(fastrand::usize(..=usize::MAX >> 1)),
            retries: Arc::default(),
        }
    }

    /// The endpoint for the next attempt.
    ///
    /// # Errors
    /// There is none, or a limit is reached.
    pub fn pick(&self, _ask: &Ask<'_>) -> Result<Pick, Refused> {
        let snapshot = self.endpoints.load();
        let endpoint = snapshot.next(&self.cursor, || fastrand::u64(..));
        let endpoint = endpoint.filter(|endpoint| endpoint.health.is_usable());
        let endpoint = endpoint.ok_or(Refused::NoEndpoint)?;
        Ok(Pick::new(endpoint.clone()))
    }

    /// How Pingora reaches an endpoint of this cluster.
    pub fn peer(&self, endpoint: &EndpointState, wants: Wants) -> HttpPeer {
        self.template.load().peer(endpoint.addr, wants)
    }

    /// Requests in flight to all endpoints.
    pub(super) fn active_requests(&self) -> usize {
        self.endpoints.load().active()
    }

    /// What the operator sees.
    pub fn view(&self) -> ClusterView {
        ClusterView::new(&self.definition.load(), &self.endpoints.load())
    }

    /// Takes a new plan's definition. Called by one thread at a time, as `publish`.
    pub(super) fn define(&self, definition: &Arc<Cluster>) {
        let known = self.definition.load();
        if Arc::ptr_eq(&known, definition) {
            return;
        }
        if known.balancing != definition.balancing {
            let rebalanced = self
                .endpoints
                .load()
                .rebalanced(definition.balancing.policy);
            self.endpoints.store(Arc::new(rebalanced));
        }
        self.template.store(Arc::new(PeerTemplate::new(definition)));
        self.definition.store(definition.clone());
    }

    /// Takes new members. Requests in flight are left alone.
    pub(super) fn publish(&self, membership: Membership) {
        let balance = self.definition.load().balancing.policy;
        let succeeded = self.endpoints.load().succeeded_by(membership, balance);
        self.endpoints.store(Arc::new(succeeded));
    }
}
