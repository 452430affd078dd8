//! One cluster's live state: an immutable endpoint snapshot behind an atomic pointer.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use pingora_core::upstreams::peer::HttpPeer;

use crate::plan::Cluster;

use super::breaker::Breaker;
use super::health::EndpointHealth;
use super::membership::Membership;
use super::peer::{PeerTemplate, Wants, Way};
use super::pick::{Ask, Lease, Pick, Refused};
use super::queue::{Full, Queue};
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::view::{BreakerView, ClusterView};

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
    breaker: Arc<Breaker>,
    queue: Arc<Queue>,
}

/// One address of a cluster with its counters. Lives as long as the address is published,
/// whatever its weight, and as long as a request holds it.
#[derive(Debug)]
pub struct EndpointState {
    pub addr: SocketAddr,
    /// Requests in flight; the holder of a pick counts itself.
    pub active: AtomicUsize,
    /// Its HTTP/2 connections.
    pub(super) shared: Shared,
    pub health: EndpointHealth,
}

impl ClusterState {
    pub(super) fn new(definition: Arc<Cluster>) -> Self {
        Self {
            endpoints: ArcSwap::from_pointee(Snapshot::empty(definition.balancing.policy)),
            template: ArcSwap::from_pointee(PeerTemplate::new(&definition)),
            breaker: Breaker::new(&definition.pool),
            queue: Queue::new(&definition.pool),
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
        let permit = match self.breaker.waits_for_connection() {
            true => None,
            false => Some(self.breaker.enter().ok_or(Refused::Overflow)?),
        };
        Ok(Pick::new(endpoint.clone(), permit))
    }

    /// Waits until there is a connection for the request, or room to make one, where the
    /// cluster counts its connections or shares them. Before every attempt.
    ///
    /// # Errors
    /// A limit is reached.
    pub async fn admit(&self, pick: &mut Pick, wants: Wants) -> Result<(), Refused> {
        if !matches!(pick.lease, Lease::None) {
            return Ok(());
        }
        let way = self.template.load().way(wants);
        match way {
            Way::Pooled => {}
            Way::Shared(terms) => {
                let endpoint = pick.endpoint();
                let seat = endpoint.shared.seat(endpoint.addr, terms).await;
                pick.lease = Lease::Shared(seat);
            }
            Way::Counted(terms) => {
                let fresh = wants == Wants::Upgrade;
                let hold = self.queue.hold(pick.addr(), terms, fresh).await;
                let hold = hold.map_err(|Full| {
                    self.breaker.overflow();
                    Refused::Overflow
                })?;
                pick.lease = Lease::Own(hold);
            }
        }
        if pick.permit.is_none() {
            let permit = self.breaker.enter().ok_or(Refused::Overflow)?;
            pick.permit = Some(permit);
        }
        Ok(())
    }

    /// How Pingora reaches the endpoint of an admitted pick.
    pub fn peer(&self, pick: &Pick, wants: Wants) -> HttpPeer {
        let mut peer = self.template.load().peer(pick.addr(), wants);
        match &pick.lease {
            // An address that left and came back may be another origin.
            Lease::None => peer.group_key ^= pick.endpoint().shared.key(),
            Lease::Shared(seat) => seat.prepare(&mut peer),
            Lease::Own(hold) => hold.prepare(&mut peer),
        }
        peer
    }

    /// What the operator sees.
    pub fn view(&self) -> ClusterView {
        let (connections, pending) = self.queue.load();
        let breaker = BreakerView {
            requests: self.breaker.requests(),
            connections,
            pending,
            overflows: self.breaker.overflows(),
        };
        ClusterView::new(&self.definition.load(), &self.endpoints.load(), breaker)
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
        if known.pool != definition.pool {
            self.breaker.define(&definition.pool);
            self.queue.define(&definition.pool);
        }
        self.definition.store(definition.clone());
    }

    /// Takes new members. Requests in flight are left alone.
    pub(super) fn publish(&self, membership: Membership) {
        let balance = self.definition.load().balancing.policy;
        let succeeded = self.endpoints.load().succeeded_by(membership, balance);
        let belongs: HashSet<SocketAddr> =
            succeeded.members().map(|(member, _)| member.addr).collect();
        self.endpoints.store(Arc::new(succeeded));
        self.queue.keep_only(|addr| belongs.contains(addr));
    }
}
