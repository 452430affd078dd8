//! One cluster's live state: an immutable endpoint snapshot behind an atomic pointer.

use std::collections::HashSet;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::mpsc::UnboundedSender;

use crate::base::clock;
use crate::plan::Cluster;
use crate::plan::balance::WarmUp;

use super::breaker::Breaker;
use super::dial::Dialer;
use super::health::EndpointHealth;
use super::membership::Membership;
use super::outcall::CopyCounts;
use super::outlier::{Detector, EjectionCounts};
use super::peer::{Caller, PeerTemplate, Wants, Way};
use super::pick::{Ask, Lease, Pick, Refused};
use super::proxied;
use super::queue::{Counted, Full, Queue};
use super::retries::Retries;
use super::shared::Shared;
use super::snapshot::{Snapshot, Terms};
use super::sweep::Event;
use super::view::{BreakerView, ClusterView};

/// The run-time side of a [`Cluster`]; lives as long as any plan names the cluster.
#[derive(Debug)]
pub struct ClusterState {
    /// The current definition; replaced when a new plan changes it.
    pub definition: ArcSwap<Cluster>,
    endpoints: ArcSwap<Snapshot>,
    template: ArcSwap<PeerTemplate>,
    /// For what tells callers apart on connections.
    keys: RandomState,
    pub(super) dialer: Arc<Dialer>,
    breaker: Arc<Breaker>,
    queue: Arc<Queue>,
    /// Held by whoever replaces the snapshot; no pick waits for it.
    building: Mutex<()>,
    /// Whether a task builds it again and again because endpoints warm up.
    warming: AtomicBool,
    pub(super) retries: Arc<Retries>,
    pub(super) detector: Arc<Detector>,
    pub(super) copies: CopyCounts,
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
    /// Its HTTP/2 connections.
    pub(super) shared: Shared,
    pub health: EndpointHealth,
}

impl EndpointState {
    pub(super) fn new(addr: SocketAddr, detector: &Arc<Detector>, now: Instant) -> Self {
        Self {
            addr,
            created: now,
            active: AtomicUsize::new(0),
            shared: Shared::default(),
            health: EndpointHealth::new(addr, detector),
        }
    }
}

impl ClusterState {
    /// Ejections are told to `events`.
    pub(super) fn new(
        definition: Arc<Cluster>,
        events: UnboundedSender<Event>,
        dialer: Arc<Dialer>,
    ) -> Self {
        let detector = Detector::new(definition.name.clone(), definition.outlier.as_ref(), events);
        let keys = RandomState::new();
        Self {
            detector,
            endpoints: ArcSwap::from_pointee(Snapshot::empty()),
            template: ArcSwap::from_pointee(PeerTemplate::new(&definition, keys.clone())),
            keys,
            dialer,
            breaker: Breaker::new(&definition.pool),
            queue: Queue::new(&definition.pool),
            definition: ArcSwap::new(definition),
            building: Mutex::default(),
            warming: AtomicBool::new(false),
            retries: Arc::default(),
            copies: CopyCounts::default(),
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
        let permit = match self.breaker.waits_for_connection() {
            true => None,
            false => Some(self.breaker.enter().ok_or(Refused::Overflow)?),
        };
        Ok(Pick::new(endpoint.clone(), permit))
    }

    /// The endpoint for a connection that is not HTTP; limits of requests do not count for it.
    pub(super) fn pick_for_stream(&self, ask: &Ask<'_>) -> Result<Pick, Refused> {
        let snapshot = self.endpoints.load();
        let endpoint = snapshot.next(ask, || fastrand::u64(..));
        let endpoint = endpoint.ok_or(Refused::NoEndpoint)?;
        Ok(Pick::new(endpoint.clone(), None))
    }

    /// Counts a connection that is not HTTP, if the cluster counts connections.
    pub(super) fn count_stream(&self) -> Result<Option<Counted>, Refused> {
        if self.definition.load().pool.max_connections.is_none() {
            return Ok(None);
        }
        match self.queue.count() {
            Some(counted) => Ok(Some(counted)),
            None => {
                self.breaker.overflow();
                Err(Refused::Overflow)
            }
        }
    }

    /// Waits until there is a connection for the request, or room to make one, where the
    /// cluster counts its connections or shares them. Before every attempt.
    ///
    /// # Errors
    /// A limit is reached.
    pub async fn admit(&self, pick: &mut Pick, caller: &Caller<'_>) -> Result<(), Refused> {
        if !matches!(pick.lease, Lease::None) {
            return Ok(());
        }
        let way = self.template.load().way(caller);
        match way {
            Way::Pooled => {}
            Way::Shared(terms) => {
                let endpoint = pick.endpoint();
                let (addr, shared) = (endpoint.addr, &endpoint.shared);
                let seat = match pick.is_hurried() {
                    true => shared.dial(addr, terms),
                    false => shared.seat(addr, terms).await,
                };
                pick.lease = Lease::Shared(seat);
            }
            Way::Counted(terms) => {
                let fresh = caller.wants == Wants::Upgrade;
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

    /// Waits for the turn to look for a shared connection; right before Pingora does.
    pub async fn look(&self, pick: &mut Pick) {
        if let Lease::Shared(seat) = &mut pick.lease {
            seat.look().await;
        }
    }

    /// How Pingora reaches the endpoint of an admitted pick.
    pub fn peer(&self, pick: &Pick, caller: &Caller<'_>) -> HttpPeer {
        let template = self.template.load();
        let mut peer = template.peer(pick.addr(), caller);
        peer.options.bind_to = self.dialer.locals().towards(pick.addr());
        match &pick.lease {
            // An address that left and came back may be another origin.
            Lease::None => peer.group_key ^= pick.endpoint().shared.key(),
            Lease::Shared(seat) => seat.prepare(&mut peer),
            Lease::Own(hold) => hold.prepare(&mut peer),
        }
        if let Some(header) = template.header(caller) {
            proxied::dial(&mut peer, header);
        }
        peer
    }

    /// The same for requests that share no connection with clients' requests.
    pub(super) fn peer_apart(&self, pick: &Pick, caller: &Caller<'_>) -> HttpPeer {
        let template = self.template.load();
        let mut peer = template.peer(pick.addr(), caller);
        peer.options.bind_to = self.dialer.locals().towards(pick.addr());
        peer.group_key ^= pick.endpoint().shared.key();
        if let Some(header) = template.header(caller) {
            proxied::dial(&mut peer, header);
        }
        peer
    }

    /// What a connection for the caller begins with, where it is not Pingora that dials.
    pub fn preface(&self, caller: &Caller<'_>) -> Option<Bytes> {
        self.template.load().header(caller)
    }

    /// Whether a caller has to say which host it asks for.
    pub fn needs_host(&self) -> bool {
        self.template.load().needs_host()
    }

    /// Requests in flight to all endpoints.
    pub(super) fn active_requests(&self) -> usize {
        self.endpoints.load().active()
    }

    /// What the operator sees.
    pub fn view(&self) -> ClusterView {
        let limits = self.limits();
        ClusterView::new(&self.definition.load(), &self.endpoints.load(), limits)
    }

    /// What the connection pool's limits do, if it has any.
    pub fn limits(&self) -> Option<BreakerView> {
        if !self.definition.load().pool.is_limited() {
            return None;
        }
        let (connections, pending) = self.queue.load();
        Some(BreakerView {
            requests: self.breaker.requests(),
            connections,
            pending,
            overflows: self.breaker.overflows(),
        })
    }

    /// Takes a new plan's definition. Called by one thread at a time, as `publish`.
    pub(super) fn define(&self, definition: &Arc<Cluster>) {
        let known = self.definition.load();
        if Arc::ptr_eq(&known, definition) {
            return;
        }
        let rebalance = known.balancing != definition.balancing;
        let reruled = known.outlier != definition.outlier;
        let unwatched = known.outlier.is_some() && definition.outlier.is_none();
        self.detector.set_rules(definition.outlier.as_ref());
        if **known != **definition {
            let template = PeerTemplate::new(definition, self.keys.clone());
            self.template.store(Arc::new(template));
        }
        if known.pool != definition.pool {
            self.breaker.define(&definition.pool);
            self.queue.define(&definition.pool);
        }
        self.definition.store(definition.clone());
        if unwatched {
            for (endpoint, _) in self.endpoints.load().members() {
                endpoint.health.end_ejection();
            }
        }
        if rebalance || reruled {
            self.rebuild();
        }
    }

    /// Takes new members. Requests in flight are left alone.
    pub(super) fn publish(&self, membership: Membership) {
        let (known, next) = self.replace(|snapshot, terms| {
            let next = snapshot.succeeded_by(membership, &self.detector, terms);
            self.detector.set_hosts(next.members().count());
            next
        });
        let stay: HashSet<SocketAddr> = next.members().map(|(member, _)| member.addr).collect();
        self.queue.keep_only(|addr| stay.contains(addr));
        for (gone, _) in known
            .members()
            .filter(|(member, _)| !stay.contains(&member.addr))
        {
            gone.health.retire();
        }
    }

    /// Works the choice out again for the same members: after somebody's health changed, and
    /// in steps while endpoints warm up.
    pub(super) fn rebuild(&self) {
        self.replace(|snapshot, terms| snapshot.rebuilt(terms));
    }

    /// Puts another snapshot in the place of the present one; gives both.
    fn replace(
        &self,
        next: impl FnOnce(&Snapshot, &Terms<'_>) -> Snapshot,
    ) -> (Arc<Snapshot>, Arc<Snapshot>) {
        // What is built under the lock is stored as a whole or not at all.
        let _alone = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let definition = self.definition.load();
        let outlier = definition.outlier.as_ref();
        let terms = Terms {
            balancing: &definition.balancing,
            panic_threshold: outlier.map_or(0, |outlier| outlier.min_health_percent),
            now: clock::now(),
        };
        let known = self.endpoints.load_full();
        let next = Arc::new(next(&known, &terms));
        self.endpoints.store(next.clone());
        (known, next)
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

    /// All addresses, whatever their weight.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let snapshot = self.endpoints.load();
        snapshot.members().map(|(member, _)| member.addr).collect()
    }

    /// Takes up what probes found: why an address is out of traffic, if it is. Called as
    /// `publish`.
    pub(super) fn heed_probes(&self, failure: impl Fn(SocketAddr) -> Option<Arc<String>>) {
        let mut changed = false;
        for (member, _) in self.endpoints.load().members() {
            changed |= member.health.set_failure(failure(member.addr));
        }
        if changed {
            self.rebuild();
        }
    }

    /// How many endpoints are out of traffic because they fail their probe.
    pub(super) fn failing(&self) -> usize {
        let snapshot = self.endpoints.load();
        let failing = snapshot
            .members()
            .filter(|(member, _)| member.health.is_failing());
        failing.count()
    }

    /// What outlier detection has done here.
    pub fn ejections(&self) -> EjectionCounts {
        self.detector.counts()
    }
}
