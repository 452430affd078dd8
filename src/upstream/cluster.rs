//! One cluster's live state: an immutable endpoint snapshot behind an atomic pointer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use pingora_core::upstreams::peer::HttpPeer;

use crate::base::clock;
use crate::plan::Cluster;
use crate::plan::balance::WarmUp;

use super::health::EndpointHealth;
use super::membership::Membership;
use super::peer::{PeerTemplate, Wants};
use super::pick::{Ask, Pick, Refused};
use super::snapshot::{Snapshot, Terms};
use super::view::ClusterView;

/// Istio's default: endpoints that are not fit get nothing, even if no others are left.
const NEVER_PANIC: u32 = 0;

/// The run-time side of a [`Cluster`]; lives as long as any plan names the cluster.
#[derive(Debug)]
pub struct ClusterState {
    /// The current definition; replaced when a new plan changes it.
    pub definition: ArcSwap<Cluster>,
    endpoints: ArcSwap<Snapshot>,
    template: ArcSwap<PeerTemplate>,
    /// Held by whoever replaces the snapshot; no pick waits for it.
    building: Mutex<()>,
    /// Whether a task builds it again and again because endpoints warm up.
    warming: AtomicBool,
}

/// One address of a cluster with its counters. Lives as long as the address is published,
/// whatever its weight, and as long as a request holds it.
#[derive(Debug)]
pub struct EndpointState {
    pub addr: SocketAddr,
    /// When the address came into the cluster.
    pub created: Instant,
    /// Requests in flight; the holder of a pick counts itself.
    pub active: AtomicUsize,
    pub health: EndpointHealth,
}

impl EndpointState {
    pub(super) fn new(addr: SocketAddr, now: Instant) -> Self {
        Self {
            addr,
            created: now,
            active: AtomicUsize::new(0),
            health: EndpointHealth::default(),
        }
    }
}

impl ClusterState {
    pub(super) fn new(definition: Arc<Cluster>) -> Self {
        Self {
            endpoints: ArcSwap::from_pointee(Snapshot::empty()),
            template: ArcSwap::from_pointee(PeerTemplate::new(&definition)),
            definition: ArcSwap::new(definition),
            building: Mutex::default(),
            warming: AtomicBool::new(false),
        }
    }

    /// The endpoint for the next attempt.
    ///
    /// # Errors
    /// There is none, or a limit is reached.
    pub fn pick(&self, ask: &Ask<'_>) -> Result<Pick, Refused> {
        let snapshot = self.endpoints.load();
        let endpoint = snapshot.next(ask, || fastrand::u64(..));
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
        let rebalanced = known.balancing != definition.balancing;
        self.template.store(Arc::new(PeerTemplate::new(definition)));
        self.definition.store(definition.clone());
        if rebalanced {
            self.rebuild();
        }
    }

    /// Takes new members. Requests in flight are left alone.
    pub(super) fn publish(&self, membership: Membership) {
        self.replace(|snapshot, terms| snapshot.succeeded_by(membership, terms));
    }

    /// Works the choice out again for the same members: after somebody's health changed, and
    /// in steps while endpoints warm up.
    pub(super) fn rebuild(&self) {
        self.replace(|snapshot, terms| snapshot.rebuilt(terms));
    }

    fn replace(&self, next: impl FnOnce(&Snapshot, &Terms<'_>) -> Snapshot) {
        // What is built under the lock is stored as a whole or not at all.
        let _alone = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let definition = self.definition.load();
        let terms = Terms {
            balancing: &definition.balancing,
            panic_threshold: NEVER_PANIC,
            now: clock::now(),
        };
        let next = next(&self.endpoints.load(), &terms);
        self.endpoints.store(Arc::new(next));
    }

    /// The warm-up that is going on, if any.
    pub(super) fn warming(&self) -> Option<WarmUp> {
        let warm_up = self.definition.load().balancing.warm_up;
        warm_up.filter(|_| self.endpoints.load().warming)
    }

    /// Says that somebody builds the snapshot in steps from now on, unless somebody does or
    /// nothing warms up.
    pub(super) fn begin_warming(&self) -> Option<WarmUp> {
        let warm_up = self.warming()?;
        (!self.warming.swap(true, Ordering::AcqRel)).then_some(warm_up)
    }

    pub(super) fn end_warming(&self) {
        self.warming.store(false, Ordering::Release);
    }
}
