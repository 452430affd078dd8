//! What connections to a cluster may cost and how long they live: DestinationRule's
//! `connectionPool` and `retryBudget`, with Istio's defaults filled in.
//!
//! A limit that is zero in the DestinationRule is no limit, so it is `None` here.

use std::num::NonZeroU32;
use std::time::Duration;

/// Limits and timeouts of a cluster's connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// `tcp.connectTimeout`.
    pub connect_timeout: Duration,
    /// `http.idleTimeout`, or `tcp.idleTimeout` without it; `None` never closes an idle one.
    pub idle_timeout: Option<Duration>,
    /// `tcp.idleTimeout`: silence both ways after which a connection that is not HTTP is closed;
    /// `None` never closes one.
    pub stream_idle_timeout: Option<Duration>,
    /// `tcp.maxConnectionDuration`: an older connection takes no new request, and one that is not HTTP is closed.
    pub max_duration: Option<Duration>,
    /// `tcp.tcpKeepalive`.
    pub keepalive: Option<Keepalive>,
    /// `tcp.maxConnections`: HTTP/1.1 connections, and those that are not HTTP, to all endpoints
    /// together. An endpoint without any may always have one for HTTP, as in Envoy.
    pub max_connections: Option<NonZeroU32>,
    /// `http.http1MaxPendingRequests`: requests that wait for a connection.
    pub max_pending: Option<NonZeroU32>,
    /// `http.http2MaxRequests`: requests in flight, over HTTP/1.1 as well.
    pub max_requests: Option<NonZeroU32>,
    /// `http.maxRequestsPerConnection`.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// `http.maxConcurrentStreams`: requests at a time on one HTTP/2 connection.
    pub max_streams: Option<NonZeroU32>,
    /// `http.http2KeepAlive.interval`: how often an HTTP/2 connection is pinged.
    pub ping_interval: Option<Duration>,
    /// `http.maxRetries`: retries in flight. A `retry_budget` takes its place.
    pub max_retries: Option<NonZeroU32>,
    pub retry_budget: Option<RetryBudget>,
}

/// TCP keepalive; what is unset is the operating system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Unanswered probes after which the connection is dead.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Between probes.
    pub interval: Option<Duration>,
}

/// `retryBudget`: retries in flight as a part of the requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// `percent`, in thousandths of a percent.
    pub millipercent: u32,
    /// `minRetryConcurrency`: always allowed.
    pub min_concurrency: u32,
}

impl RetryBudget {
    /// How many retries may run beside `active` requests in flight.
    pub fn allowed(&self, active: usize) -> u32 {
        let active = u64::try_from(active).unwrap_or(u64::MAX);
        let share = active.saturating_mul(u64::from(self.millipercent)) / 100_000;
        u32::try_from(share)
            .unwrap_or(u32::MAX)
            .max(self.min_concurrency)
    }
}

impl Pool {
    /// Whether anything is counted for its sake.
    pub fn is_limited(&self) -> bool {
        self.max_requests.is_some() || self.tracks_connections()
    }

    /// Whether an HTTP/1.1 request needs a connection of its own choosing, because connections
    /// are counted or end after some requests or some time.
    pub fn tracks_connections(&self) -> bool {
        self.max_connections.is_some()
            || self.max_requests_per_connection.is_some()
            || self.max_duration.is_some()
    }
}

impl Default for Pool {
    /// As Istio serves a cluster without a DestinationRule.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(3600)),
            stream_idle_timeout: Some(Duration::from_secs(3600)),
            max_duration: None,
            keepalive: None,
            max_connections: None,
            max_pending: None,
            max_requests: None,
            max_requests_per_connection: None,
            max_streams: None,
            ping_interval: None,
            max_retries: None,
            retry_budget: None,
        }
    }
}

impl Default for RetryBudget {
    /// Istio's 20 % and three.
    fn default() -> Self {
        Self {
            millipercent: 20_000,
            min_concurrency: 3,
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
        let none = RetryBudget {
            millipercent: 0,
            min_concurrency: 0,
        };
        assert_eq!(none.allowed(usize::MAX), 0);
    }
}
