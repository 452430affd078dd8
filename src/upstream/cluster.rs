//! One cluster's live state: an immutable endpoint snapshot behind an atomic pointer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use arc_swap::ArcSwap;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::mpsc::UnboundedSender;

use crate::plan::Cluster;

use super::health::EndpointHealth;
use super::membership::Membership;
use super::outlier::{Detector, Ejected, EjectionCounts};
use super::peer::{PeerTemplate, Wants};
use super::pick::{Ask, Pick, Refused};
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
    pub(super) detector: Arc<Detector>,
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
    /// Ejections are told to `events`.
    pub(super) fn new(definition: Arc<Cluster>, events: UnboundedSender<Ejected>) -> Self {
        let detector = Detector::new(definition.name.clone(), definition.outlier.as_ref(), events);
        Self {
            detector,
            endpoints: ArcSwap::from_pointee(Snapshot::empty(definition.balancing.policy)),
            template: ArcSwap::from_pointee(PeerTemplate::new(&definition)),
            definition: ArcSwap::new(definition),
            cursor: AtomicUsize::new(fastrand::usize(..=usize::MAX >> 1)),
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
        let rebalance = known.balancing != definition.balancing;
        let unwatched = known.outlier.is_some() && definition.outlier.is_none();
        self.detector.set_rules(definition.outlier.as_ref());
        self.template.store(Arc::new(PeerTemplate::new(definition)));
        self.definition.store(definition.clone());
        if unwatched {
            for (endpoint, _) in self.endpoints.load().members() {
                endpoint.health.end_ejection();
            }
        }
        if rebalance || unwatched {
            self.rebuild();
        }
    }

    /// Takes new members. Requests in flight are left alone.
    pub(super) fn publish(&self, membership: Membership) {
        let balance = self.definition.load().balancing.policy;
        let known = self.endpoints.load();
        let succeeded = known.succeeded_by(membership, balance, &self.detector);
        let stay: HashSet<SocketAddr> =
            succeeded.members().map(|(member, _)| member.addr).collect();
        self.detector.set_hosts(stay.len());
        self.endpoints.store(Arc::new(succeeded));
        for (gone, _) in known
            .members()
            .filter(|(member, _)| !stay.contains(&member.addr))
        {
            gone.health.retire();
        }
    }

    /// Takes up what changed about the health of its members. Called as `publish`.
    pub(super) fn rebuild(&self) {
        let balance = self.definition.load().balancing.policy;
        let rebuilt = self.endpoints.load().rebuilt(balance);
        self.endpoints.store(Arc::new(rebuilt));
    }

    /// One turn of the sweep: the endpoints that return to traffic, and when to come again.
    pub(super) fn sweep(&self, now: Instant) -> (Vec<SocketAddr>, Option<Instant>) {
        let snapshot = self.endpoints.load();
        let rules = self.detector.rules();
        let mut returned = Vec::new();
        let mut recovering = false;
        for (endpoint, _) in snapshot.members() {
            let returns = match rules.as_deref() {
                Some(rules) => endpoint.health.sweep(rules, now),
                // Ejected by a request that still knew rules.
                None => endpoint.health.end_ejection(),
            };
            returned.extend(returns.then_some(endpoint.addr));
            recovering |= endpoint.health.is_recovering();
        }
        let rules = rules.as_deref().filter(|_| recovering);
        let next = rules.map(|rules| self.detector.turn_after(now, rules));
        (returned, next)
    }

    /// What outlier detection has done here.
    pub fn ejections(&self) -> EjectionCounts {
        self.detector.counts()
    }
}
