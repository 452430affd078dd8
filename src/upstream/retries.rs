//! How many requests to a cluster are on a retry at the same time, and how many may be.
//!
//! A cluster in trouble must not get twice the traffic: `proxy` asks for a permit before each
//! retry and holds it until that attempt has its response (as Envoy's retry circuit breaker).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::ClusterState;

/// The retries of one cluster.
#[derive(Debug, Default)]
pub(super) struct Retries {
    active: AtomicU32,
}

/// Leave for one retry; dropping it gives it back.
#[derive(Debug)]
pub struct RetryPermit {
    retries: Arc<Retries>,
}

impl ClusterState {
    /// Leave for one more retry, unless `retryBudget` or `maxRetries` is used up.
    pub fn retry(&self) -> Option<RetryPermit> {
        let definition = self.definition.load();
        let pool = &definition.pool;
        let limit = match &pool.retry_budget {
            Some(budget) => Some(budget.allowed(self.active_requests())),
            None => pool.max_retries.map(NonZeroU32::get),
        };
        Retries::enter(&self.retries, limit)
    }
}

impl Retries {
    fn enter(this: &Arc<Self>, limit: Option<u32>) -> Option<RetryPermit> {
        let limit = limit.unwrap_or(u32::MAX);
        let enter = |active: u32| (active < limit).then(|| active.saturating_add(1));
        this.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter)
            .ok()?;
        Some(RetryPermit {
            retries: this.clone(),
        })
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.retries.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::plan::pool::RetryBudget;
    use crate::plan::{Cluster, Pool};
    use crate::upstream::fixture::cluster;

    fn state(definition: Cluster) -> ClusterState {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        ClusterState::new(Arc::new(definition), events, Arc::default())
    }

    #[test]
    fn permits_never_exceed_the_limit_and_all_come_back() {
        let retries = Arc::new(Retries::default());
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..2_000 {
                        let permit = Retries::enter(&retries, Some(3));
                        let active = retries.active.load(Ordering::Relaxed);
                        assert!(active <= 3, "{active}");
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(retries.active.load(Ordering::Relaxed), 0);
        let held: Vec<_> = (0..5).map(|_| Retries::enter(&retries, Some(3))).collect();
        assert_eq!(held.iter().flatten().count(), 3);
    }

    #[test]
    fn a_cluster_without_a_bound_refuses_nothing() {
        let state = state(cluster("one"));
        let held: Vec<_> = (0..1_000).map(|_| state.retry()).collect();
        assert!(held.iter().all(Option::is_some));
    }

    #[test]
    fn a_budget_allows_its_least_number_to_a_cluster_without_other_requests() {
        let pool = Pool {
            retry_budget: Some(RetryBudget::default()),
            ..Pool::default()
        };
        let state = state(Cluster {
            pool,
            ..cluster("one")
        });
        let held: Vec<_> = (0..5).map(|_| state.retry()).collect();
        assert_eq!(held.iter().flatten().count(), 3);
    }
}
