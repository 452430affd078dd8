//! What Pingora is told about an origin: protocol, timeouts, and whose connections may be shared.
//!
//! Prepared once per cluster definition; a request copies it and fills in the address. Only
//! socket addresses are handed over: `HttpPeer` resolves names blocking, and panics when it fails.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::upstreams::peer::HttpPeer;

use crate::plan::pool::Keepalive;
use crate::plan::{Cluster, Pool, Protocol, ProxyVersion};

use super::line::Terms;
use super::proxied;
use super::tls::Tls;

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
    /// For a connection that carries bytes.
    Stream,
}

/// What of a request its connection depends on.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'r> {
    pub wants: Wants,
    /// The host that the origin is asked for, without a port. Looked at only where
    /// [`ClusterState::needs_host`](super::ClusterState::needs_host).
    pub host: &'r str,
    /// Addresses of the client and of the socket it came to, for the PROXY protocol.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

impl Caller<'_> {
    /// One of whom nothing else is known.
    pub fn of(wants: Wants) -> Self {
        Self {
            wants,
            host: "",
            addresses: None,
        }
    }
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
    tls: Option<Tls>,
    proxied: Option<ProxyVersion>,
    /// For what tells callers apart.
    keys: RandomState,
    http1: HttpPeer,
    http2: HttpPeer,
}

impl PeerTemplate {
    /// With the same `keys`, templates of the same cluster know the same callers.
    pub fn new(cluster: &Cluster, keys: RandomState) -> Self {
        let tls = cluster.tls.as_ref().map(Tls::new);
        let [mut http1, mut http2] = [http1(cluster), http2(cluster)];
        if let Some(tls) = &tls {
            tls.secure(&mut http1);
            tls.secure(&mut http2);
        }
        Self {
            protocol: cluster.protocol,
            terms: terms(cluster),
            counts: cluster.pool.tracks_connections(),
            tls,
            proxied: cluster.proxy_protocol,
            keys,
            http1,
            http2,
        }
    }

    /// The peer at `addr`.
    pub fn peer(&self, addr: SocketAddr, caller: &Caller<'_>) -> HttpPeer {
        let mut peer = match self.speaks_http2(caller.wants) {
            true => self.http2.clone(),
            false => self.http1.clone(),
        };
        peer._address = PeerAddr::Inet(addr);
        peer.group_key ^= self.private(caller);
        if let Some(tls) = &self.tls {
            tls.name(&mut peer, caller.host);
        }
        peer
    }

    /// What a connection for the caller begins with, before everything else.
    pub(super) fn header(&self, caller: &Caller<'_>) -> Option<Bytes> {
        let version = self.proxied?;
        Some(proxied::header(version, caller.addresses))
    }

    pub(super) fn way(&self, caller: &Caller<'_>) -> Way {
        let terms = || Terms {
            private: self.private(caller),
            ..self.terms
        };
        match self.speaks_http2(caller.wants) {
            true => Way::Shared(terms()),
            false if self.counts => Way::Counted(terms()),
            false => Way::Pooled,
        }
    }

    /// Whether connections depend on the request's host.
    pub(super) fn needs_host(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::depends_on_host)
    }

    /// Of those with whom the caller may share connections; 0 for everybody.
    fn private(&self, caller: &Caller<'_>) -> u64 {
        let host = self.needs_host().then_some(caller.host);
        let addresses = self.proxied.map(|_| caller.addresses);
        match (host, addresses) {
            (None, None) => 0,
            both => self.keys.hash_one(both),
        }
    }

    /// Whether such a request goes out over HTTP/2.
    fn speaks_http2(&self, wants: Wants) -> bool {
        match (self.protocol, wants) {
            (_, Wants::Upgrade | Wants::Stream)
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
        private: 0,
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

fn http2(cluster: &Cluster) -> HttpPeer {
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
    cluster.tls.hash(&mut hasher);
    cluster.proxy_protocol.hash(&mut hasher);
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

    fn template(cluster: &Cluster) -> PeerTemplate {
        PeerTemplate::new(cluster, RandomState::new())
    }

    #[test]
    fn connections_are_shared_inside_a_cluster_and_address_only() {
        let one = template(&cluster("one"));
        let hash = one.peer(addr(1), &Caller::of(Wants::Http1)).reuse_hash();
        assert_eq!(
            one.peer(addr(1), &Caller::of(Wants::Http1)).reuse_hash(),
            hash
        );
        assert_ne!(
            one.peer(addr(2), &Caller::of(Wants::Http1)).reuse_hash(),
            hash
        );
        assert_ne!(
            template(&cluster("two"))
                .peer(addr(1), &Caller::of(Wants::Http1))
                .reuse_hash(),
            hash
        );
    }

    #[test]
    fn an_http2_cluster_speaks_http2_but_for_upgrades() {
        let template = template(&Cluster {
            protocol: Protocol::H2c,
            ..cluster("one")
        });
        let peer = template.peer(addr(1), &Caller::of(Wants::Http1));
        assert_eq!(peer.options.alpn, ALPN::H2);
        assert!(peer.options.max_h2_streams > 1);
        let upgrade = template.peer(addr(1), &Caller::of(Wants::Upgrade));
        assert_eq!(upgrade.options.alpn, ALPN::H1);
        assert_ne!(upgrade.reuse_hash(), peer.reuse_hash());
        assert_eq!(upgrade._address, PeerAddr::Inet(addr(1)));
    }

    #[test]
    fn the_cluster_says_how_long_a_connection_may_take() {
        let connect_timeout = Duration::from_millis(250);
        let peer = template(&Cluster {
            pool: Pool {
                connect_timeout,
                ..Pool::default()
            },
            ..cluster("one")
        })
        .peer(addr(1), &Caller::of(Wants::Http1));
        assert_eq!(peer.options.connection_timeout, Some(connect_timeout));
        assert_eq!(peer.options.total_connection_timeout, Some(connect_timeout));
    }

    #[test]
    fn useclientprotocol_asks_the_origin_as_the_client_asks() {
        let template = template(&Cluster {
            protocol: Protocol::Client,
            ..cluster("one")
        });
        for (wants, alpn) in [
            (Wants::Http1, ALPN::H1),
            (Wants::Http2, ALPN::H2),
            (Wants::Upgrade, ALPN::H1),
        ] {
            assert_eq!(
                template.peer(addr(1), &Caller::of(wants)).options.alpn,
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
        let peer = template(&asked).peer(addr(1), &Caller::of(Wants::Http1));
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
