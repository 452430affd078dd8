//! What connections to a cluster may cost and how long they live: DestinationRule's
//! `connectionPool` and `retryBudget`, with Istio's defaults filled in.

use std::time::Duration;

/// Limits and timeouts of a cluster's connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// `tcp.connectTimeout`.
    pub connect_timeout: Duration,
}

impl Default for Pool {
    /// As Istio serves a cluster without a DestinationRule.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
        }
    }
}
