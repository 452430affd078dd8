//! The `connectionPool` and `retryBudget` blocks: limits and timeouts of connections.
//!
//! Values were checked by `validate`; one that cannot be read leaves its field unset, as does
//! a zero where Istio takes it for "no limit".

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::quantity::parse_duration;
use crate::model::istio::destination_rule::{self as model, ConnectionPool, HttpPool, TcpPool};
use crate::plan::pool::{Keepalive, RetryBudget};
use crate::plan::{Pool, Protocol};

/// How long Pingora waits for the answer to an HTTP/2 ping; it cannot be set.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a block asks for.
pub(super) fn read(block: &ConnectionPool) -> Pool {
    let mut pool = Pool::default();
    if let Some(tcp) = &block.tcp {
        read_tcp(tcp, &mut pool);
    }
    if let Some(http) = &block.http {
        read_http(http, &mut pool);
    }
    pool
}

fn read_tcp(tcp: &TcpPool, pool: &mut Pool) {
    pool.connect_timeout = time(tcp.connect_timeout.as_ref()).unwrap_or(pool.connect_timeout);
    if let Some(text) = &tcp.idle_timeout
        && let Ok(timeout) = parse_duration(text, true)
    {
        pool.idle_timeout = (!timeout.is_zero()).then_some(timeout);
        pool.stream_idle_timeout = pool.idle_timeout;
    }
    pool.max_duration = time(tcp.max_connection_duration.as_ref());
    pool.max_connections = limit(tcp.max_connections);
    pool.keepalive = tcp.tcp_keepalive.as_ref().map(|keepalive| Keepalive {
        probes: keepalive.probes.filter(|probes| *probes > 0),
        time: time(keepalive.time.as_ref()),
        interval: time(keepalive.interval.as_ref()),
    });
}

fn read_http(http: &HttpPool, pool: &mut Pool) {
    pool.idle_timeout = time(http.idle_timeout.as_ref()).or(pool.idle_timeout);
    pool.max_pending = limit(http.http1_max_pending_requests);
    pool.max_requests = limit(http.http2_max_requests);
    pool.max_requests_per_connection = limit(http.max_requests_per_connection);
    pool.max_streams = limit(http.max_concurrent_streams);
    pool.max_retries = limit(http.max_retries);
    let keep_alive = http.http2_keep_alive.as_ref();
    pool.ping_interval = keep_alive.and_then(|keep_alive| time(keep_alive.interval.as_ref()));
}

/// What a `retryBudget` asks for.
pub(super) fn budget(block: &model::RetryBudget) -> RetryBudget {
    let default = RetryBudget::default();
    let percent = block
        .percent
        .filter(|percent| (0.0..=100.0).contains(percent));
    RetryBudget {
        // At most 100,000, so nothing is cut off.
        millipercent: percent.map_or(default.millipercent, |percent| {
            (percent * 1000.0).round() as u32
        }),
        min_concurrency: block
            .min_retry_concurrency
            .unwrap_or(default.min_concurrency),
    }
}

/// What is spoken to endpoints whose port speaks `port`. `mesh_upgrades` is the mesh's
/// `h2UpgradePolicy`; the block's own comes before it, and the client's protocol before both.
pub(super) fn protocol(
    block: Option<&ConnectionPool>,
    port: Protocol,
    mesh_upgrades: bool,
) -> Protocol {
    let http = block.and_then(|block| block.http.as_ref());
    if http.is_some_and(|http| http.use_client_protocol == Some(true)) {
        return Protocol::Client;
    }
    // Like Istio's, DO_NOT_UPGRADE keeps the mesh's default away and no more: a port that
    // says HTTP/2 speaks HTTP/2.
    match http.and_then(|http| http.h2_upgrade_policy.as_deref()) {
        Some("UPGRADE") => Protocol::H2c,
        Some("DO_NOT_UPGRADE") => port,
        _ if mesh_upgrades => Protocol::H2c,
        _ => port,
    }
}

/// Fields of the HTTP part, and whether they ask for something that is not done.
pub(super) fn unsupported_keep_alive(http: &HttpPool) -> Option<[(&'static str, bool); 1]> {
    let timeout = time(http.http2_keep_alive.as_ref()?.timeout.as_ref())?;
    Some([("timeout", timeout != PING_TIMEOUT)])
}

fn limit(number: Option<i32>) -> Option<NonZeroU32> {
    number
        .and_then(|number| u32::try_from(number).ok())
        .and_then(NonZeroU32::new)
}

fn time(text: Option<&String>) -> Option<Duration> {
    text.and_then(|text| parse_duration(text, false).ok())
}
