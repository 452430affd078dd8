//! Circuit breaking: how many requests a cluster may have in flight (`http2MaxRequests`).
//!
//! The counter belongs to the cluster's state and survives plans. A cluster without a limit
//! counts nothing, so requests that began before a limit was set are not part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::plan::Pool;

/// The requests of one cluster.
#[derive(Debug)]
pub(super) struct Breaker {
    /// `usize::MAX` for no limit.
    limit: AtomicUsize,
    requests: AtomicUsize,
    overflows: AtomicU64,
    /// As in Envoy, requests that wait for a connection do not count yet.
    after_connection: AtomicBool,
}

/// A request in flight; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Permit(Option<Arc<Breaker>>);

impl Breaker {
    pub(super) fn new(pool: &Pool) -> Arc<Self> {
        let breaker = Self {
            limit: AtomicUsize::new(usize::MAX),
            requests: AtomicUsize::new(0),
            overflows: AtomicU64::new(0),
            after_connection: AtomicBool::new(false),
        };
        breaker.define(pool);
        Arc::new(breaker)
    }

    /// Takes a new limit. Requests in flight stay, even if they are more.
    pub(super) fn define(&self, pool: &Pool) {
        let limit = pool.max_requests.map_or(usize::MAX, |limit| {
            usize::try_from(limit.get()).unwrap_or(usize::MAX)
        });
        self.limit.store(limit, Ordering::Relaxed);
        let limits = pool.max_connections.is_some();
        self.after_connection.store(limits, Ordering::Relaxed);
    }

    /// Whether a request enters once it has a connection, and not before.
    pub(super) fn waits_for_connection(&self) -> bool {
        self.after_connection.load(Ordering::Relaxed)
    }

    /// Room for one more request; `None` if there is none, which is counted as an overflow.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == usize::MAX {
            return Some(Permit(None));
        }
        // Not an addition that is taken back: it would refuse others in the meantime.
        let entered = self
            .requests
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now < limit).then_some(now + 1)
            });
        if entered.is_err() {
            self.overflow();
            return None;
        }
        Some(Permit(Some(self.clone())))
    }

    pub(super) fn overflow(&self) {
        self.overflows.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were refused so far.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Requests that count against the limit now.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.requests.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn under_threads_the_limit_is_reached_and_never_passed_and_everything_is_given_back() {
        let breaker = Breaker::new(&Pool {
            max_requests: NonZeroU32::new(3),
            ..Pool::default()
        });
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let refused = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(permit) = breaker.enter() else {
                            refused.fetch_add(1, Ordering::SeqCst);
                            continue;
                        };
                        let active = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(active, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 3);
        assert_eq!(breaker.requests(), 0);
        assert_eq!(breaker.overflows(), refused.into_inner());
    }
}
