//! What connections to a cluster may cost and how long they live: DestinationRule's
//! `connectionPool` and `retryBudget`, with Istio's defaults filled in.

use std::time::Duration;

/// Limits and timeouts of a cluster's connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// `tcp.connectTimeout`.
    pub connect_timeout: Duration,
    /// `retryBudget`: bounds the retries that run at the same time.
    pub retry_budget: Option<RetryBudget>,
}

/// How many requests may be on a retry, by how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// `percent` of the requests in flight, in hundredths of a percent.
    pub share: u32,
    /// `minRetryConcurrency`: always allowed.
    pub least: u32,
}

impl Default for RetryBudget {
    /// Istio's, for an empty block.
    fn default() -> Self {
        Self {
            share: 2_000,
            least: 3,
        }
    }
}

impl RetryBudget {
    /// How many retries may run beside `active` requests in flight.
    pub fn allowed(&self, active: usize) -> u32 {
        let active = u64::try_from(active).unwrap_or(u64::MAX);
        let share = active.saturating_mul(u64::from(self.share)) / 10_000;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.least)
    }
}

impl Default for Pool {
    /// As Istio serves a cluster without a DestinationRule.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            retry_budget: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_share_of_the_requests_but_never_less_than_its_least() {
        let budget = RetryBudget::default();
        let allowed = [0, 15, 16, 20, 1_000].map(|active| budget.allowed(active));
        assert_eq!(allowed, [3, 3, 3, 4, 200]);
        let none = RetryBudget { share: 0, least: 0 };
        assert_eq!(none.allowed(usize::MAX), 0);
    }
}
