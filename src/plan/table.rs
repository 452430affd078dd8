//! The shape of a plan: listeners hold virtual hosts, virtual hosts hold routes in order.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::base::{HostPattern, Origin};
pub use crate::policy::path::PathNormalization;

use super::hosts::HostIndex;
use super::paths::PathIndex;
use super::route::{Fence, Route};
use super::stream::TcpSocket;
use super::tls::TlsSocket;
use super::tracing::Tracing;
use super::{Checks, Cluster, ClusterId, Clusters, Digest, Guarding, PlacedLimit};

/// Everything needed to serve a request, compiled from one inventory.
#[derive(Debug, Default)]
pub struct Plan {
    /// Sorted by address; one per plaintext socket, and one per server of a TLS socket.
    pub listeners: Vec<Listener>,
    /// Sorted by address.
    pub tls: Vec<TlsSocket>,
    /// Sorted by address.
    pub tcp: Vec<TcpSocket>,
    /// Names are unique.
    pub clusters: Clusters,
    /// By [`LimitId`](super::LimitId); their ids are unique.
    pub limits: Vec<PlacedLimit>,
    pub checks: Checks,
    pub http: HttpOptions,
    /// `None` where nothing is traced.
    pub tracing: Option<Tracing>,
    /// Same meaning, same digest.
    pub digest: Digest,
}

impl Plan {
    /// The listener of a plaintext socket.
    pub fn listener(&self, addr: SocketAddr) -> Option<&Listener> {
        self.listeners
            .binary_search_by_key(&addr, |listener| listener.addr)
            .ok()
            .and_then(|index| self.listeners.get(index))
            .filter(|listener| !listener.is_tls)
    }

    /// The TLS servers of a socket.
    pub fn tls_socket(&self, addr: SocketAddr) -> Option<&TlsSocket> {
        self.tls
            .binary_search_by_key(&addr, |socket| socket.addr)
            .ok()
            .and_then(|index| self.tls.get(index))
    }

    /// All sockets to listen on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let plain = self.listeners.iter().map(|listener| listener.addr);
        let tcp = self.tcp.iter().map(|socket| socket.addr);
        plain
            .chain(self.tls.iter().map(|socket| socket.addr))
            .chain(tcp)
    }

    pub fn cluster(&self, id: ClusterId) -> Option<&Arc<Cluster>> {
        self.clusters.get(id)
    }
}

/// One listening socket with the merged HTTP route table of all its servers.
#[derive(Debug)]
pub struct Listener {
    /// The bound address (after `gateway.ports` and bind settings).
    pub addr: SocketAddr,
    /// The port the Gateways declare; `match.port`, virtual host names and redirects use it.
    pub declared_port: u16,
    /// Whether its requests come in over TLS; if so, `Plan::tls` says for which names.
    pub is_tls: bool,
    /// Requests in gRPC-Web become gRPC ones.
    pub grpc_web: bool,
    /// The servers merged here.
    pub origins: Vec<Origin>,
    pub hosts: Arc<HostIndex>,
    /// Indexed by the host index. Shared with earlier plans where nothing changed.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Set when something protects the whole listener and cannot be enforced.
    pub fence: Option<Arc<Fence>>,
    /// What requests must pass; `None` lets all through.
    pub guarding: Option<Box<Guarding>>,
}

/// The routes of one host on one listener.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    /// `host:declaredPort`, as Istio names it.
    pub name: Arc<str>,
    pub host: HostPattern,
    /// First match wins. Shared between hosts, and with earlier plans.
    pub routes: Box<[Arc<Route>]>,
    pub paths: PathIndex,
    /// The server whose `tls.httpsRedirect` turns this host.
    pub https_redirect: Option<Origin>,
    /// Set when something protects this host and cannot be enforced.
    pub fence: Option<Arc<Fence>>,
}

/// What applies to every HTTP request of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpOptions {
    pub path_normalization: PathNormalization,
    /// `gatewayTopology.numTrustedProxies`.
    pub trusted_proxies: u32,
    pub client_cert: ForwardClientCert,
    /// Serve HTTP/1.0 instead of answering 426.
    pub http10: bool,
    /// Value of the `server` response header; `None` passes the origin's through.
    pub server_header: Option<HeaderValue>,
    /// Generate `x-request-id`.
    pub request_id: bool,
    /// Send `x-envoy-attempt-count` to origins.
    pub attempt_count: bool,
    /// Send `x-envoy-*` debug headers.
    pub envoy_debug_headers: bool,
    pub forwarded_host: bool,
    pub forwarded_port: bool,
    /// Mirrors see Host with the suffix `-shadow` (Istio before 1.28).
    pub shadow_host: bool,
    /// `gateway.profile: edge`: every stricter choice of edge hardening.
    pub edge: bool,
}

/// What becomes of `x-forwarded-client-cert` (`gatewayTopology.forwardClientCertDetails`).
/// "Mutual" is a connection whose client certificate was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ForwardClientCert {
    /// Removed.
    Sanitize,
    /// The client's is kept on a mutual connection, else removed.
    ForwardOnly,
    /// The client's certificate is appended on a mutual connection, else it is removed.
    AppendForward,
    /// Replaced by the client's certificate on a mutual connection, else removed.
    #[default]
    SanitizeSet,
    /// Kept, whoever sent it.
    AlwaysForwardOnly,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            path_normalization: PathNormalization::Base,
            trusted_proxies: 0,
            client_cert: ForwardClientCert::SanitizeSet,
            http10: false,
            server_header: Some(HeaderValue::from_static("istio-envoy")),
            request_id: true,
            attempt_count: true,
            envoy_debug_headers: true,
            forwarded_host: false,
            forwarded_port: false,
            shadow_host: false,
            edge: false,
        }
    }
}
