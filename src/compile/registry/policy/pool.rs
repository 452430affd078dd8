//! The `connectionPool` block: limits and timeouts of connections.

use crate::base::quantity::parse_duration;
use crate::model::istio::destination_rule::{
    ConnectionPool, HttpPool, RetryBudget as Written, TcpPool,
};
use crate::plan::{Pool, RetryBudget};

/// What a block asks for.
pub(super) fn read(block: &ConnectionPool) -> Pool {
    let mut pool = Pool::default();
    let connect = block
        .tcp
        .as_ref()
        .and_then(|tcp| tcp.connect_timeout.as_deref());
    if let Some(timeout) = connect.and_then(|text| parse_duration(text, false).ok()) {
        pool.connect_timeout = timeout;
    }
    pool
}

/// What a `retryBudget` block asks for. Validation has seen that the percentage is one.
pub(super) fn retry_budget(block: &Written) -> RetryBudget {
    let usual = RetryBudget::default();
    let share = |percent: f64| (percent.clamp(0.0, 100.0) * 100.0).round() as u32;
    RetryBudget {
        share: block.percent.map_or(usual.share, share),
        least: block.min_retry_concurrency.unwrap_or(usual.least),
    }
}

/// Fields of the TCP part, and whether they ask for something that is not done.
pub(super) fn unsupported_tcp(tcp: &TcpPool) -> [(&'static str, bool); 4] {
    [
        ("maxConnections", is_set(tcp.max_connections)),
        ("tcpKeepalive", tcp.tcp_keepalive.is_some()),
        (
            "maxConnectionDuration",
            tcp.max_connection_duration.is_some(),
        ),
        ("idleTimeout", tcp.idle_timeout.is_some()),
    ]
}

/// Fields of the HTTP part, likewise.
pub(super) fn unsupported_http(http: &HttpPool) -> [(&'static str, bool); 8] {
    [
        (
            "http1MaxPendingRequests",
            is_set(http.http1_max_pending_requests),
        ),
        ("http2MaxRequests", is_set(http.http2_max_requests)),
        (
            "maxRequestsPerConnection",
            is_set(http.max_requests_per_connection),
        ),
        ("maxRetries", is_set(http.max_retries)),
        ("idleTimeout", http.idle_timeout.is_some()),
        ("useClientProtocol", http.use_client_protocol == Some(true)),
        ("maxConcurrentStreams", is_set(http.max_concurrent_streams)),
        ("http2KeepAlive", http.http2_keep_alive.is_some()),
    ]
}

/// Zero means unset in every one of these fields.
fn is_set(number: Option<i32>) -> bool {
    number.is_some_and(|number| number != 0)
}
