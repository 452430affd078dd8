//! Whether an endpoint is fit for traffic: what probes and outlier detection found.
//!
//! Every endpoint has one; a pick reads it, [`super::Pick::report`] counts into it, and the slow
//! flow ends ejections and notes what probes found. The counters follow Envoy's
//! `DetectorHostMonitorImpl`: the request that reaches a limit ejects at once.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::base::clock;
use crate::plan::Outlier;

use super::outlier::{Detector, Ejected, Reason};
use super::pick::Outcome;

/// The health of one endpoint of one cluster. Lives as long as the address is published.
#[derive(Debug)]
pub struct EndpointHealth {
    addr: SocketAddr,
    detector: Arc<Detector>,
    /// The bits below.
    state: AtomicU8,
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    local_origin: AtomicU32,
    /// Ejections that followed each other closely; the next one lasts that much longer.
    streak: AtomicU32,
    /// Milliseconds since the detector was made.
    ejected_at: AtomicU64,
    reason: AtomicU8,
    /// Why the last probe failed, while `FAILING`.
    failure: ArcSwapOption<String>,
}

/// A thread is about to eject; nobody else may.
const CLAIMED: u8 = 1;
const EJECTED: u8 = 2;
/// The active check says no.
const FAILING: u8 = 4;
/// Not published any more: its state counts no longer.
const GONE: u8 = 8;

const UNFIT: u8 = EJECTED | FAILING;

/// What the operator sees of an endpoint's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    pub ejection: Option<EjectionView>,
    /// Why its last probe failed, if the endpoint is out of traffic for that.
    pub failing: Option<Arc<String>>,
}

/// An ejection as the operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionView {
    pub reason: Reason,
    /// When it ends, since the Unix epoch.
    pub until: Duration,
}

impl HealthView {
    /// Whether nothing keeps the endpoint from traffic.
    pub fn is_healthy(&self) -> bool {
        self.ejection.is_none() && self.failing.is_none()
    }
}

impl EndpointHealth {
    pub(super) fn new(addr: SocketAddr, detector: &Arc<Detector>) -> Self {
        Self {
            addr,
            detector: detector.clone(),
            state: AtomicU8::new(0),
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway: AtomicU32::new(0),
            local_origin: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            ejected_at: AtomicU64::new(0),
            reason: AtomicU8::new(0),
            failure: ArcSwapOption::empty(),
        }
    }

    /// Whether nothing keeps the endpoint from traffic; in a panic that does not count.
    pub(super) fn is_usable(&self) -> bool {
        self.state.load(Ordering::Acquire) & UNFIT == 0
    }

    /// Counts what became of an attempt.
    pub(super) fn note(&self, outcome: Outcome) {
        let rules = self.detector.rules();
        let Some(rules) = rules.as_deref() else {
            return;
        };
        match outcome {
            Outcome::Answered(status) => {
                reset(&self.local_origin);
                self.answered(status, rules);
            }
            _ if rules.local_origin.is_some() => {
                self.count(
                    &self.local_origin,
                    rules.local_origin,
                    Reason::LocalOrigin,
                    rules,
                );
            }
            // What Envoy takes them for where they are not counted apart.
            Outcome::TimedOut => self.answered(504, rules),
            Outcome::ConnectFailed | Outcome::Reset => self.answered(503, rules),
        }
    }

    fn answered(&self, status: u16, rules: &Outlier) {
        if !(500..600).contains(&status) {
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway);
            return;
        }
        if matches!(status, 502..=504) {
            self.count(
                &self.consecutive_gateway,
                rules.consecutive_gateway,
                Reason::GatewayErrors,
                rules,
            );
        } else {
            reset(&self.consecutive_gateway);
        }
        self.count(
            &self.consecutive_5xx,
            rules.consecutive_5xx,
            Reason::ServerErrors,
            rules,
        );
    }

    fn count(
        &self,
        counter: &AtomicU32,
        limit: Option<NonZeroU32>,
        reason: Reason,
        rules: &Outlier,
    ) {
        let Some(limit) = limit.map(NonZeroU32::get) else {
            return;
        };
        if counter.fetch_add(1, Ordering::Relaxed).saturating_add(1) < limit {
            return;
        }
        // Of several that pass the limit together the one that empties the counter goes on. It
        // begins anew also if nobody may be ejected, so that the next bout asks again.
        if counter.swap(0, Ordering::Relaxed) >= limit {
            self.eject(reason, rules, clock::now());
        }
    }

    fn eject(&self, reason: Reason, rules: &Outlier, now: Instant) {
        let free = |state: u8| (state & (CLAIMED | EJECTED | GONE) == 0).then_some(state | CLAIMED);
        if self.change(free).is_none() {
            return;
        }
        if !self.detector.reserve(rules) {
            self.change(|state| Some(state & !CLAIMED));
            return;
        }
        let streak = self.streak.load(Ordering::Relaxed);
        let longest = rules.longest_ejection().saturating_add(rules.base_ejection);
        let streak = if rules.base_ejection.saturating_mul(streak) < longest {
            streak.saturating_add(1)
        } else {
            streak
        };
        self.streak.store(streak, Ordering::Relaxed);
        self.ejected_at
            .store(self.detector.age(now), Ordering::Relaxed);
        self.reason.store(reason as u8, Ordering::Relaxed);
        let eject = |state: u8| (state & GONE == 0).then_some((state & !CLAIMED) | EJECTED);
        match self.change(eject) {
            Some(_) => {
                self.detector.ejected(Ejected {
                    cluster: self.detector.cluster.clone(),
                    addr: self.addr,
                    reason,
                    lasts: self.detector.return_of(self.ejected_at(), streak, rules) - now,
                });
            }
            // It left meanwhile; the place it would have taken is free.
            None => self.detector.release(),
        }
    }

    /// One turn of the sweep: ends the ejection if its time is over, and lets the streak fade
    /// while the endpoint is healthy. `true` if the ejection has ended.
    pub(super) fn sweep(&self, rules: &Outlier, now: Instant) -> bool {
        let streak = self.streak.load(Ordering::Relaxed);
        if self.state.load(Ordering::Acquire) & EJECTED == 0 {
            self.streak
                .store(streak.saturating_sub(1), Ordering::Relaxed);
            return false;
        }
        let over = now.saturating_duration_since(self.ejected_at()) >= rules.ejection(streak);
        over && self.end_ejection()
    }

    /// Gives the endpoint back to traffic. `false` if it was not ejected.
    pub(super) fn end_ejection(&self) -> bool {
        let ejected =
            |state: u8| (state & EJECTED != 0 && state & GONE == 0).then_some(state & !EJECTED);
        // Before the state changes: what fails from now on is a new bout.
        for counter in [
            &self.consecutive_5xx,
            &self.consecutive_gateway,
            &self.local_origin,
        ] {
            reset(counter);
        }
        if self.change(ejected).is_none() {
            return false;
        }
        // After the state: never are more ejected than are counted.
        self.detector.release();
        true
    }

    /// Notes that probes fail, and why, or that they pass. `true` if that is news.
    pub(super) fn set_failure(&self, failure: Option<Arc<String>>) -> bool {
        let failing = failure.is_some();
        self.failure.store(failure);
        let turn = |state: u8| {
            let turns = (state & FAILING != 0) != failing && state & GONE == 0;
            turns.then_some(state ^ FAILING)
        };
        self.change(turn).is_some()
    }

    /// Whether probes keep the endpoint from traffic.
    pub(super) fn is_failing(&self) -> bool {
        self.state.load(Ordering::Acquire) & FAILING != 0
    }

    /// Whether the sweep has something to do here at its next turn.
    pub(super) fn is_recovering(&self) -> bool {
        self.state.load(Ordering::Acquire) & EJECTED != 0 || self.streak.load(Ordering::Relaxed) > 0
    }

    /// The endpoint is not published any more.
    pub(super) fn retire(&self) {
        let before = self.state.fetch_or(GONE, Ordering::AcqRel);
        if before & GONE == 0 && before & EJECTED != 0 {
            self.detector.release();
        }
    }

    pub(super) fn view(&self) -> HealthView {
        let state = self.state.load(Ordering::Acquire);
        let rules = self.detector.rules();
        let ejection = rules
            .as_deref()
            .filter(|_| state & EJECTED != 0)
            .map(|rules| {
                let streak = self.streak.load(Ordering::Relaxed);
                let end = self.detector.return_of(self.ejected_at(), streak, rules);
                EjectionView {
                    reason: Reason::of(self.reason.load(Ordering::Relaxed)),
                    until: clock::since_epoch() + end.saturating_duration_since(clock::now()),
                }
            });
        HealthView {
            ejection,
            failing: self.failure.load_full().filter(|_| state & FAILING != 0),
        }
    }

    fn ejected_at(&self) -> Instant {
        self.detector
            .at_age(self.ejected_at.load(Ordering::Relaxed))
    }

    /// Changes the state in one step; gives the one before, or `None` if it stays.
    fn change(&self, to: impl Fn(u8) -> Option<u8>) -> Option<u8> {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, to)
            .ok()
    }
}

/// Read first: every answered request comes here, and a write would take the cache line from
/// the other threads.
fn reset(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
