//! How much time and how many connections clients get. `server` fills it from the settings.

use std::num::NonZeroU32;
use std::time::Duration;

use super::http2::PingRule;
use super::proxy_protocol::ProxyProtocol;

/// Never more connections than this by default, whatever the process may open (edge-hardening
/// section 5, Envoy's edge advice).
const MOST_CONNECTIONS: usize = 50_000;

/// Below what the load balancers of the large clouds allow (240 and 350 seconds).
const TCP_KEEPALIVE: Duration = Duration::from_secs(180);

/// Limits of every listener. The defaults are on in every profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Time for a whole request head, from its first byte.
    pub header_deadline: Duration,
    /// Time for a TLS handshake, from the connection's first moment or the end of its PROXY header,
    /// which gets as much.
    pub handshake: Duration,
    /// How long a connection may wait for its first or next request, HTTP/2 with none at work.
    pub keepalive_idle: Duration,
    /// Silence after which the kernel asks whether a client's host is still there; `None` is never.
    pub tcp_keepalive: Option<Duration>,
    /// How long an idle connection is still served once its listener closes: a client may be about
    /// to send. Its answer says `Connection: close`.
    pub drain_idle: Duration,
    /// Connections open at once, over all listeners. More are accepted and closed at once.
    pub max_connections: usize,
    /// Bytes of read buffer of one connection.
    pub read_buffer: usize,
    /// Tasks that accept on each port.
    pub accept_tasks: usize,
    /// TLS handshakes that one source (an IPv4 address, an IPv6 /64) may begin in a second.
    pub handshakes_per_source: Option<NonZeroU32>,
    /// When clients of HTTP/2 are asked whether they are still there; `None` is never.
    pub http2_pings: Option<PingRule>,
    /// Which connections begin with a PROXY header.
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            header_deadline: Duration::from_secs(60),
            // Envoy's (`transport_socket_connect_timeout` as Istio sets it).
            handshake: Duration::from_secs(15),
            keepalive_idle: Duration::from_secs(3600),
            tcp_keepalive: Some(TCP_KEEPALIVE),
            drain_idle: Duration::from_secs(5),
            max_connections: connections_for(open_files_limit()),
            // An idle connection keeps it; bodies are read past it.
            read_buffer: 4096,
            accept_tasks: 1,
            handshakes_per_source: None,
            http2_pings: None,
            proxy_protocol: None,
        }
    }
}

/// 45 % of the files the process may open: each connection may need one more to its origin.
fn connections_for(open_files: Option<usize>) -> usize {
    open_files.map_or(MOST_CONNECTIONS, |files| {
        (files / 100 * 45).clamp(1, MOST_CONNECTIONS)
    })
}

/// The soft limit of open files as Linux tells it; `None` where there is none or no such file.
fn open_files_limit() -> Option<usize> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft_limit(limits: &str) -> Option<usize> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|soft| soft.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_cap_is_45_percent_of_the_open_files_and_never_above_50000() {
        assert_eq!(connections_for(Some(20_000)), 9_000);
        assert_eq!(connections_for(Some(1_000_000)), 50_000);
        assert_eq!(connections_for(None), 50_000);
    }

    #[test]
    fn the_soft_limit_is_read_from_the_kernels_table() {
        let table = "Limit   Soft Limit  Hard Limit  Units\n\
                     Max processes   95  95  processes\n\
                     Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(table), Some(1024));
        assert_eq!(soft_limit("Max open files unlimited unlimited files"), None);
    }
}
