//! Connections to origins for WebSocket handshakes.
//!
//! Pingora tells its upstream half "the request has no body" through a queue, after the head is
//! sent. An origin that answers 101 before that message is taken out of the queue (one on the
//! same machine, or any while this one is busy) makes it look like the end of the tunnel, and
//! the tunnel is torn down at once. So the answer is held back here until the message was taken,
//! which Pingora marks by flushing a second time. Of TLS, which Pingora puts above this socket, the
//! handshake comes first and is let through.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_core::connectors::l4::{BindTo, Connect};
use pingora_core::protocols::l4::ext::{connect, set_tcp_keepalive};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// Makes `peer` be dialled by this module. `unique` keeps its connection from being shared,
/// should the origin refuse the upgrade: Pingora pools connections by descriptor, and behind a
/// wrapper there is none to see. The connection begins with `preface`.
pub(super) fn dial(peer: &mut HttpPeer, unique: u64, preface: Bytes) {
    peer.group_key = unique;
    peer.options.idle_timeout = Some(std::time::Duration::ZERO);
    let gate = Arc::new(AtomicBool::new(!peer.is_tls()));
    peer.options.custom_l4 = Some(Arc::new(Dial {
        bind: peer.options.bind_to.take(),
        preface,
        gate: gate.clone(),
    }));
    if let Some(hook) = peer.options.upstream_tls_handshake_complete_hook.take() {
        peer.options.upstream_tls_handshake_complete_hook = Some(Arc::new(move |ssl| {
            gate.store(true, Ordering::Release);
            hook(ssl)
        }));
    }
}

#[derive(Debug)]
struct Dial {
    bind: Option<BindTo>,
    preface: Bytes,
    gate: Arc<AtomicBool>,
}

#[async_trait]
impl Connect for Dial {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "the endpoint has no IP address");
        };
        let mut inner = connect(address, self.bind.as_ref()).await?;
        inner
            .write_all(&self.preface)
            .await
            .or_err(ErrorType::ConnectError, "the PROXY header was not taken")?;
        let socket = Handshake {
            inner,
            gate: self.gate.clone(),
            flushes: 0,
            reader: None,
        };
        Ok(Stream::from(VirtualSocketStream::new(Box::new(socket))))
    }
}

/// A socket that gives nothing to read until its second flush.
#[derive(Debug)]
struct Handshake {
    inner: TcpStream,
    /// Whether the request is what comes next; before that, everything passes.
    gate: Arc<AtomicBool>,
    flushes: u8,
    /// Waits for the second flush.
    reader: Option<Waker>,
}

impl VirtualSocket for Handshake {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.inner.set_nodelay(true),
            VirtualSockOpt::KeepAlive(keepalive) => {
                set_tcp_keepalive(&self.inner, &keepalive).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Handshake {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.flushes < 2 && this.gate.load(Ordering::Acquire) {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut this.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Handshake {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let counts = this.gate.load(Ordering::Acquire);
        this.flushes = this.flushes.saturating_add(u8::from(counts));
        if this.flushes >= 2
            && let Some(reader) = this.reader.take()
        {
            reader.wake();
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
