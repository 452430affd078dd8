//! Connections that are not for Pingora's proxy: streams of bytes, and probes. They are made as
//! requests' are, TLS included, and pooled nowhere.

use std::fmt;
use std::net::{IpAddr, SocketAddr as StdAddr};
use std::sync::{Arc, OnceLock};

use pingora_core::connectors::l4::BindTo;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::tls::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, Peer, PeerOptions, Tracer};
use pingora_core::utils::tls::CertKey;
use pingora_core::{Error, ErrorType, OrErr, Result};
use tokio::net::TcpSocket;

use super::tls;

/// What happens to a socket before it connects.
pub(super) type SocketHook = Arc<dyn Fn(&TcpSocket) -> Result<()> + Send + Sync>;

/// Makes connections. What BoringSSL needs for that is made with the first.
#[derive(Default)]
pub(super) struct Dialer {
    connector: OnceLock<TransportConnector>,
    locals: Locals,
}

/// Local addresses to connect from: one of those of the endpoint's family, if there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locals(pub Vec<IpAddr>);

impl Locals {
    /// Where a connection to `addr` is to come from.
    pub(super) fn towards(&self, addr: StdAddr) -> Option<BindTo> {
        if self.0.is_empty() {
            return None;
        }
        let fits = |local: &&IpAddr| local.is_ipv4() == addr.is_ipv4();
        let count = self.0.iter().filter(fits).count();
        let local = self
            .0
            .iter()
            .filter(fits)
            .nth(fastrand::usize(..count.max(1)))?;
        let mut bind = BindTo::default();
        bind.addr = Some(StdAddr::new(*local, 0));
        Some(bind)
    }

    /// What binds a socket, where the one it is for is not known before; `None` if nothing is to.
    pub(super) fn binding(&self) -> Option<SocketHook> {
        if self.0.is_empty() {
            return None;
        }
        let locals = self.clone();
        Some(Arc::new(move |socket: &TcpSocket| {
            // Of no address yet, but of its family.
            let family = socket
                .local_addr()
                .or_err(ErrorType::SocketError, "no socket")?;
            match locals.towards(family).and_then(|bind| bind.addr) {
                Some(local) => socket.bind(local).or_err_with(ErrorType::BindError, || {
                    format!("cannot connect from {local}")
                }),
                None => Ok(()),
            }
        }))
    }

    /// For a connector that keeps so many idle connections.
    pub(super) fn options(&self, idle: usize) -> ConnectorOptions {
        let (v4, v6) = self.0.iter().partition(|address| address.is_ipv4());
        let with_port = |all: Vec<&IpAddr>| {
            let all = all.into_iter();
            all.map(|address| StdAddr::new(*address, 0)).collect()
        };
        let mut options = ConnectorOptions::new(idle);
        options.bind_to_v4 = with_port(v4);
        options.bind_to_v6 = with_port(v6);
        options
    }
}

/// A peer that is asked for a protocol only if one is named: none is known of a stream.
#[derive(Clone, Debug)]
struct Plain {
    peer: HttpPeer,
    protocol: Option<ALPN>,
}

impl Dialer {
    pub(super) fn new(locals: Locals) -> Self {
        Self {
            locals,
            ..Self::default()
        }
    }

    /// Local addresses to connect from.
    pub(super) fn locals(&self) -> &Locals {
        &self.locals
    }

    /// Connects to a peer, whose certificate must be for `host` where its TLS asks for that.
    ///
    /// # Errors
    /// It could not be reached in time, or is not the one that is meant.
    pub(super) async fn dial(
        &self,
        peer: HttpPeer,
        protocol: Option<ALPN>,
        host: Option<&str>,
    ) -> Result<Stream> {
        let connector = self.connector.get_or_init(|| {
            let options = self.locals.options(0);
            TransportConnector::new(Some(options))
        });
        let peer = Plain { peer, protocol };
        let stream = connector.new_stream(&peer).await?;
        if peer.peer.is_tls() {
            let digest = stream.get_ssl_digest();
            tls::verdict(digest.as_deref(), host)
                .map_err(|refusal| Error::explain(ErrorType::InvalidCert, refusal))?;
        }
        Ok(stream)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

impl Peer for Plain {
    fn address(&self) -> &SocketAddr {
        self.peer.address()
    }

    fn tls(&self) -> bool {
        self.peer.tls()
    }

    fn sni(&self) -> &str {
        self.peer.sni()
    }

    fn reuse_hash(&self) -> u64 {
        self.peer.reuse_hash()
    }

    fn get_peer_options(&self) -> Option<&PeerOptions> {
        self.peer.get_peer_options()
    }

    fn get_mut_peer_options(&mut self) -> Option<&mut PeerOptions> {
        self.peer.get_mut_peer_options()
    }

    fn get_alpn(&self) -> Option<&ALPN> {
        self.protocol.as_ref()
    }

    fn get_client_cert_key(&self) -> Option<&Arc<CertKey>> {
        self.peer.get_client_cert_key()
    }

    fn get_tracer(&self) -> Option<Tracer> {
        self.peer.get_tracer()
    }
}

#[cfg(test)]
mod tests;
