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

use crate::plan::pool::Keepalive;
use crate::plan::{Cluster, Pool, Protocol};

use super::line::Terms;

/// Finds origins that vanished without a word, within two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Linux's own, for what `tcpKeepalive` leaves unset.
const SYSTEM_KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(7200),
    interval: Duration::from_secs(75),
    count: 9,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// Requests on one HTTP/2 connection; what RFC 9113 recommends a server to allow at least.
const STREAMS: u32 = 100;

/// Pingora's default of 8 MiB per stream would let 100 slow clients hold 800 MiB of an
/// origin's answers. These are the edge values, with a stream that fills a fast local link.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How a client asks, as far as it decides what its request's origin is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Over HTTP/1.1.
    Http1,
    /// Over HTTP/2.
    Http2,
    /// For a WebSocket, which only HTTP/1.1 can give.
    Upgrade,
    /// For a connection that is not HTTP.
    Bytes,
}

/// How a request comes to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Any from Pingora's pool, or a new one.
    Pooled,
    /// On one with others.
    Shared(Terms),
    /// One that is counted.
    Counted(Terms),
}

/// The peers of a cluster, but for the address.
#[derive(Debug)]
pub struct PeerTemplate {
    protocol: Protocol,
    terms: Terms,
    /// HTTP/1.1 connections are counted.
    counts: bool,
    http1: HttpPeer,
    h2c: HttpPeer,
}

impl PeerTemplate {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            protocol: cluster.protocol,
            terms: terms(cluster),
            counts: cluster.pool.tracks_connections(),
            http1: http1(cluster),
            h2c: h2c(cluster),
        }
    }

    /// The peer at `addr`.
    pub fn peer(&self, addr: SocketAddr, wants: Wants) -> HttpPeer {
        let mut peer = match self.speaks_http2(wants) {
            true => self.h2c.clone(),
            false => self.http1.clone(),
        };
        peer._address = PeerAddr::Inet(addr);
        peer
    }

    pub(super) fn way(&self, wants: Wants) -> Way {
        match self.speaks_http2(wants) {
            true => Way::Shared(self.terms),
            false if self.counts => Way::Counted(self.terms),
            false => Way::Pooled,
        }
    }

    /// Whether such a request goes out over HTTP/2.
    fn speaks_http2(&self, wants: Wants) -> bool {
        match (self.protocol, wants) {
            (_, Wants::Upgrade | Wants::Bytes)
            | (Protocol::Http1, _)
            | (Protocol::Client, Wants::Http1) => false,
            (Protocol::H2c, _) | (Protocol::Client, Wants::Http2) => true,
        }
    }
}

fn terms(cluster: &Cluster) -> Terms {
    let pool = &cluster.pool;
    Terms {
        generation: group_key(cluster, 2),
        streams: streams(pool),
        requests: pool.max_requests_per_connection.map_or(u32::MAX, u32::from),
        duration: pool.max_duration,
    }
}

fn streams(pool: &Pool) -> usize {
    let streams = pool.max_streams.map_or(STREAMS, u32::from);
    usize::try_from(streams).unwrap_or(usize::MAX)
}

fn http1(cluster: &Cluster) -> HttpPeer {
    let pool = &cluster.pool;
    // Replaced by `peer`; an address is never resolved.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let mut peer = HttpPeer::new(nowhere, false, String::new());
    peer.group_key = group_key(cluster, 1);
    peer.options.connection_timeout = Some(pool.connect_timeout);
    peer.options.total_connection_timeout = Some(pool.connect_timeout);
    // Pingora watches idle connections, so that one the origin closes earlier is not used again.
    peer.options.idle_timeout = pool.idle_timeout;
    peer.options.tcp_keepalive = Some(pool.keepalive.as_ref().map_or(KEEPALIVE, keepalive));
    peer.options.set_http_version(1, 1);
    peer
}

fn h2c(cluster: &Cluster) -> HttpPeer {
    let mut peer = http1(cluster);
    peer.group_key = group_key(cluster, 2);
    peer.options.set_http_version(2, 2);
    peer.options.max_h2_streams = streams(&cluster.pool);
    peer.options.h2_ping_interval = cluster.pool.ping_interval;
    peer.options.h2_stream_window_size = Some(STREAM_WINDOW);
    peer.options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    peer
}

fn keepalive(asked: &Keepalive) -> TcpKeepalive {
    let count = asked.probes.and_then(|probes| usize::try_from(probes).ok());
    TcpKeepalive {
        idle: asked.time.unwrap_or(SYSTEM_KEEPALIVE.idle),
        interval: asked.interval.unwrap_or(SYSTEM_KEEPALIVE.interval),
        count: count.unwrap_or(SYSTEM_KEEPALIVE.count),
        ..SYSTEM_KEEPALIVE
    }
}

/// Connections are shared inside a cluster only, as in Envoy: two subsets of one host may come
/// to differ in anything a connection depends on. One that was made under other settings is
/// not used again.
fn group_key(cluster: &Cluster, version: u8) -> u64 {
    let mut hasher = DefaultHasher::new();
    cluster.name.hash(&mut hasher);
    cluster.pool.hash(&mut hasher);
    version.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use pingora_core::upstreams::peer::{ALPN, Peer};

    use crate::upstream::fixture::cluster;

    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn connections_are_shared_inside_a_cluster_and_address_only() {
        let one = PeerTemplate::new(&cluster("one"));
        let hash = one.peer(addr(1), Wants::Http1).reuse_hash();
        assert_eq!(one.peer(addr(1), Wants::Http1).reuse_hash(), hash);
        assert_ne!(one.peer(addr(2), Wants::Http1).reuse_hash(), hash);
        assert_ne!(
            PeerTemplate::new(&cluster("two"))
                .peer(addr(1), Wants::Http1)
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
        let peer = template.peer(addr(1), Wants::Http1);
        assert_eq!(peer.options.alpn, ALPN::H2);
        assert!(peer.options.max_h2_streams > 1);
        let upgrade = template.peer(addr(1), Wants::Upgrade);
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
        .peer(addr(1), Wants::Http1);
        assert_eq!(peer.options.connection_timeout, Some(connect_timeout));
        assert_eq!(peer.options.total_connection_timeout, Some(connect_timeout));
    }

    #[test]
    fn useclientprotocol_asks_the_origin_as_the_client_asks() {
        let template = PeerTemplate::new(&Cluster {
            protocol: Protocol::Client,
            ..cluster("one")
        });
        for (wants, alpn) in [
            (Wants::Http1, ALPN::H1),
            (Wants::Http2, ALPN::H2),
            (Wants::Upgrade, ALPN::H1),
        ] {
            assert_eq!(
                template.peer(addr(1), wants).options.alpn,
                alpn,
                "{wants:?}"
            );
        }
    }

    #[test]
    fn what_a_connection_lives_by_is_the_clusters() {
        let secs = Duration::from_secs;
        let mut asked = cluster("one");
        asked.protocol = Protocol::H2c;
        asked.pool.idle_timeout = Some(secs(7));
        asked.pool.ping_interval = Some(secs(8));
        asked.pool.max_streams = std::num::NonZeroU32::new(9);
        asked.pool.keepalive = Some(Keepalive {
            probes: Some(2),
            time: Some(secs(3)),
            interval: None,
        });
        let peer = PeerTemplate::new(&asked).peer(addr(1), Wants::Http1);
        let options = &peer.options;
        assert_eq!(options.idle_timeout, Some(secs(7)));
        assert_eq!(options.h2_ping_interval, Some(secs(8)));
        assert_eq!(options.max_h2_streams, 9);
        let keepalive = options.tcp_keepalive.as_ref().unwrap();
        assert_eq!(
            (keepalive.count, keepalive.idle, keepalive.interval),
            (2, secs(3), secs(75))
        );
    }
}
