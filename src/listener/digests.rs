//! The small traits that make [`Socket`] one of Pingora's streams: everything is the wrapped
//! stream's own, but for the protocol, which is what was found by looking.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};

use super::connection::Connection;
use super::socket::Socket;

/// Puts `connection` where every request finds it: the digest of a forward proxy, of which a
/// client connection has none.
pub(super) fn attach(stream: &mut Stream, connection: Arc<Connection>) {
    if let Ok(response) = ResponseHeader::build(200, Some(0)) {
        stream.set_proxy_digest(ProxyDigest::new(
            Box::new(response),
            Some(Box::new(connection)),
        ));
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
        self.report_refused();
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Socket {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        if self.is_http2() {
            Some(ALPN::H2)
        } else {
            self.inner.selected_alpn_proto()
        }
    }
}

/// Not supported: [`Socket::poll_read_ahead`] has looked already.
impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
