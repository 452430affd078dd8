//! What Pingora is told about an origin: protocol, timeouts, and whose connections may be shared.
//!
//! Prepared once per cluster definition; a request copies it and fills in the address. Only
//! socket addresses are handed over: `HttpPeer` resolves names blocking, and panics when it fails.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::upstreams::peer::HttpPeer;

use crate::plan::{Cluster, Protocol};

/// Istio's default (`connectionPool.http.idleTimeout`). Pingora watches idle connections, so
/// that one the origin closes earlier is not used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Finds origins that vanished without a word, within two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Requests on one HTTP/2 connection; what RFC 9113 recommends a server to allow at least.
const STREAMS: usize = 100;

/// Pingora's default of 8 MiB per stream would let 100 slow clients hold 800 MiB of an
/// origin's answers. These are the edge values, with a stream that fills a fast local link.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The peers of a cluster, but for the address.
#[derive(Debug)]
pub struct PeerTemplate {
    /// As the cluster's protocol says.
    usual: HttpPeer,
    /// HTTP/1.1, for upgrades; set where `usual` speaks something else.
    upgrade: Option<HttpPeer>,
}

impl PeerTemplate {
    pub fn new(cluster: &Cluster) -> Self {
        match cluster.protocol {
            Protocol::Http1 => Self {
                usual: http1(cluster),
                upgrade: None,
            },
            Protocol::H2c => Self {
                usual: h2c(cluster),
                upgrade: Some(http1(cluster)),
            },
        }
    }

    /// The peer at `addr`; for an `upgrade` one that speaks HTTP/1.1.
    pub fn peer(&self, addr: SocketAddr, upgrade: bool) -> HttpPeer {
        let template = self
            .upgrade
            .as_ref()
            .filter(|_| upgrade)
            .unwrap_or(&self.usual);
        let mut peer = template.clone();
        peer._address = PeerAddr::Inet(addr);
        peer
    }
}

fn http1(cluster: &Cluster) -> HttpPeer {
    // Replaced by `peer`; an address is never resolved.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut peer = HttpPeer::new(nowhere, false, String::new());
    peer.group_key = group_key(cluster);
    peer.options.connection_timeout = Some(cluster.pool.connect_timeout);
    peer.options.total_connection_timeout = Some(cluster.pool.connect_timeout);
    peer.options.idle_timeout = Some(IDLE_TIMEOUT);
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer.options.set_http_version(1, 1);
    peer
}

fn h2c(cluster: &Cluster) -> HttpPeer {
    let mut peer = http1(cluster);
    peer.options.set_http_version(2, 2);
    peer.options.max_h2_streams = STREAMS;
    peer.options.h2_stream_window_size = Some(STREAM_WINDOW);
    peer.options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    peer
}

/// Connections are shared inside a cluster only, as in Envoy: two subsets of one host may come
/// to differ in anything a connection depends on.
fn group_key(cluster: &Cluster) -> u64 {
    let mut hasher = DefaultHasher::new();
    cluster.name.hash(&mut hasher);
    cluster.protocol.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use pingora_core::upstreams::peer::{ALPN, Peer};

    use crate::plan::Pool;
    use crate::upstream::fixture::cluster;

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn connections_are_shared_inside_a_cluster_and_address_only() {
        let one = PeerTemplate::new(&cluster("one"));
        let hash = one.peer(addr(1), false).reuse_hash();
        assert_eq!(one.peer(addr(1), false).reuse_hash(), hash);
        assert_ne!(one.peer(addr(2), false).reuse_hash(), hash);
        assert_ne!(
            PeerTemplate::new(&cluster("two"))
                .peer(addr(1), false)
                .reuse_hash(),
            hash
        );
    }

    #[test]
    fn an_http2_cluster_speaks_http2_but_for_upgrades() {
        let template = PeerTemplate::new(&Cluster {
            protocol: Protocol::H2c,
            ..cluster("one")
        });
        let peer = template.peer(addr(1), false);
        assert_eq!(peer.options.alpn, ALPN::H2);
        assert!(peer.options.max_h2_streams > 1);
        let upgrade = template.peer(addr(1), true);
        assert_eq!(upgrade.options.alpn, ALPN::H1);
        assert_ne!(upgrade.reuse_hash(), peer.reuse_hash());
        assert_eq!(upgrade._address, PeerAddr::Inet(addr(1)));
    }

    #[test]
    fn the_cluster_says_how_long_a_connection_may_take() {
        let connect_timeout = Duration::from_millis(250);
        let peer = PeerTemplate::new(&Cluster {
            pool: Pool {
                connect_timeout,
                ..Pool::default()
            },
            ..cluster("one")
        })
        .peer(addr(1), false);
        assert_eq!(peer.options.connection_timeout, Some(connect_timeout));
        assert_eq!(peer.options.total_connection_timeout, Some(connect_timeout));
    }
}
