//! Outlier detection of one cluster: how many endpoints are out, and how many may be.
//!
//! Shared by the [`EndpointHealth`](super::EndpointHealth) of all its endpoints. Everything is
//! counted without a lock; the count of ejected endpoints is exact, because a place is reserved
//! before an endpoint is ejected and given back after it has returned. Follows Envoy's
//! `DetectorImpl` without its success-rate parts, which Istio turns off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::mpsc::UnboundedSender;

use crate::base::clock;
use crate::plan::Outlier;

use super::sweep::Event;

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `consecutive5xxErrors`
    ServerErrors,
    /// `consecutiveGatewayErrors`
    GatewayErrors,
    /// `consecutiveLocalOriginFailures`
    LocalOrigin,
}

/// An endpoint was ejected: for the sweep, which logs it and publishes who is left.
#[derive(Debug)]
pub(super) struct Ejected {
    pub cluster: Arc<str>,
    pub addr: SocketAddr,
    pub reason: Reason,
    pub lasts: Duration,
}

/// What outlier detection has done in a cluster since its state was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EjectionCounts {
    /// Whether the cluster has outlier detection.
    pub on: bool,
    /// Out at this moment.
    pub ejected: usize,
    pub total: Vec<(Reason, u64)>,
    /// Limits reached while no more endpoints could be ejected (`maxEjectionPercent`).
    pub overflows: u64,
}

/// The cluster's side of outlier detection.
#[derive(Debug)]
pub(super) struct Detector {
    pub(super) cluster: Arc<str>,
    rules: ArcSwapOption<Outlier>,
    /// How many endpoints the cluster has.
    hosts: AtomicUsize,
    /// How many are ejected, or just being so.
    ejected: AtomicUsize,
    totals: [AtomicU64; Reason::ALL.len()],
    overflows: AtomicU64,
    /// What the interval is counted from.
    born: Instant,
    /// Has at most one entry for each ejected endpoint.
    events: UnboundedSender<Event>,
}

impl Reason {
    const ALL: [Self; 3] = [Self::ServerErrors, Self::GatewayErrors, Self::LocalOrigin];

    pub(super) fn of(number: u8) -> Self {
        let known = Self::ALL.get(usize::from(number)).copied();
        known.unwrap_or(Self::ServerErrors)
    }

    /// Envoy's name in its statistics.
    pub fn code(self) -> &'static str {
        match self {
            Self::ServerErrors => "consecutive_5xx",
            Self::GatewayErrors => "consecutive_gateway_failure",
            Self::LocalOrigin => "consecutive_local_origin_failure",
        }
    }
}

impl Detector {
    pub(super) fn new(
        cluster: Arc<str>,
        rules: Option<&Outlier>,
        events: UnboundedSender<Event>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            rules: ArcSwapOption::new(rules.cloned().map(Arc::new)),
            hosts: AtomicUsize::new(0),
            ejected: AtomicUsize::new(0),
            totals: Default::default(),
            overflows: AtomicU64::new(0),
            born: clock::now(),
            events,
        })
    }

    pub(super) fn rules(&self) -> Guard<Option<Arc<Outlier>>> {
        self.rules.load()
    }

    pub(super) fn set_rules(&self, rules: Option<&Outlier>) {
        self.rules.store(rules.cloned().map(Arc::new));
    }

    pub(super) fn set_hosts(&self, hosts: usize) {
        self.hosts.store(hosts, Ordering::Relaxed);
    }

    /// Takes one of the places for ejected endpoints, if there is one.
    pub(super) fn reserve(&self, rules: &Outlier) -> bool {
        let hosts = self.hosts.load(Ordering::Relaxed);
        let one_more = |ejected| rules.allows(ejected, hosts).then_some(ejected + 1);
        let reserved = self
            .ejected
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_ok();
        if !reserved {
            self.overflows.fetch_add(1, Ordering::Relaxed);
        }
        reserved
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        self.ejected.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts an ejection and tells it to the sweep.
    pub(super) fn ejected(&self, event: Ejected) {
        if let Some(total) = self.totals.get(event.reason as usize) {
            total.fetch_add(1, Ordering::Relaxed);
        }
        // An error means that the process ends.
        let _ = self.events.send(Event::Ejected(event));
    }

    pub(super) fn counts(&self) -> EjectionCounts {
        let total = Reason::ALL.iter().zip(&self.totals);
        EjectionCounts {
            on: self.rules.load().is_some(),
            ejected: self.ejected.load(Ordering::Relaxed),
            total: total
                .map(|(reason, total)| (*reason, total.load(Ordering::Relaxed)))
                .collect(),
            overflows: self.overflows.load(Ordering::Relaxed),
        }
    }

    /// The first turn of the sweep after `time`.
    pub(super) fn turn_after(&self, time: Instant, rules: &Outlier) -> Instant {
        let interval = rules.interval.max(Duration::from_millis(1)).as_nanos();
        let age = time.saturating_duration_since(self.born).as_nanos();
        let turns = u64::try_from((age / interval + 1).saturating_mul(interval));
        self.born + Duration::from_nanos(turns.unwrap_or(u64::MAX))
    }

    /// When an endpoint returns: at the first turn of the sweep that finds its time over.
    pub(super) fn return_of(&self, ejected_at: Instant, streak: u32, rules: &Outlier) -> Instant {
        let due = ejected_at + rules.ejection(streak);
        let just_before = due.checked_sub(Duration::from_nanos(1)).unwrap_or(due);
        self.turn_after(just_before, rules)
    }

    /// Milliseconds from its making to `now`.
    pub(super) fn age(&self, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.born).as_millis();
        u64::try_from(age).unwrap_or(u64::MAX)
    }

    pub(super) fn at_age(&self, millis: u64) -> Instant {
        self.born + Duration::from_millis(millis)
    }
}
