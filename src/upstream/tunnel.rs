//! Connections to origins for requests that ask for an upgrade (WebSocket).
//!
//! Pingora 0.9.1 ends a tunnel that has just opened if it reads the origin's 101 before it has
//! handled the end of the request's (empty) body: both are then ready in one `select!`, which
//! picks at random (`proxy_handle_upstream`: "an upgraded request is terminated when either side
//! is done"). An origin on the same machine answers fast enough to meet that. Here the first read
//! of an answer lets whatever else is ready go first, so that the order is always the right one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::{Error, ErrorType, OrErr, Result};
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Makes the connections. They are never shared: a tunnel takes its connection with it.
#[derive(Debug)]
pub(super) struct Tunnels;

#[async_trait]
impl L4Connect for Tunnels {
    async fn connect(&self, addr: &SocketAddr) -> Result<Stream> {
        let Some(addr) = addr.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "an origin without an address");
        };
        let socket = TcpStream::connect(addr).await.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, format!("cannot connect to {addr}"), error).into_up()
        })?;
        socket
            .set_nodelay(true)
            .or_err(ErrorType::ConnectError, "cannot set TCP_NODELAY")?;
        let tunnel = Tunnel {
            socket,
            answer_begun: false,
        };
        Ok(VirtualSocketStream::new(Box::new(tunnel)).into())
    }
}

#[derive(Debug)]
struct Tunnel {
    socket: TcpStream,
    /// The first read has been put off once.
    answer_begun: bool,
}

impl VirtualSocket for Tunnel {
    /// `connect` has set what applies; keepalive is the tunnel's own business, by ping.
    fn set_socket_option(&self, _opt: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.answer_begun {
            self.answer_begun = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
