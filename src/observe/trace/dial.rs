//! Secure connections to the collector: what OTLP's two clients take their sockets from.
//!
//! The handshake itself is `server`'s ([`Dial`]), with the gateway's own TLS library. Here it gets
//! a time limit, and its failure is kept for the log: OTLP's clients tell only that there is no
//! connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tower_service::Service;

/// A connection to the collector.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that is being made.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Duplex>>> + Send>>;

/// Makes connections to the one collector there is.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Connects, and makes sure that it is the collector.
    fn dial(&self) -> Dialing;
}

/// [`Dial`] as hyper and tonic ask for it.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    dial: Arc<dyn Dial>,
    limit: Duration,
    failure: Arc<Mutex<Option<String>>>,
}

impl Connector {
    /// Each connection must be there within `limit`: a client goes on waiting for one that it has
    /// begun, whoever gives up its request.
    pub(super) fn new(dial: Arc<dyn Dial>, limit: Duration) -> Self {
        Self {
            dial,
            limit,
            failure: Arc::default(),
        }
    }

    /// Why the last connection could not be made; `None` if it could.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Service<Uri> for Connector {
    type Response = Socket;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Socket>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialing = self.dial.dial();
        let (limit, failure) = (self.limit, self.failure.clone());
        Box::pin(async move {
            let result = match timeout(limit, dialing).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {limit:?}"),
                )),
            };
            *failure.lock().unwrap_or_else(PoisonError::into_inner) =
                result.as_ref().err().map(ToString::to_string);
            result.map(|stream| Socket(TokioIo::new(stream)))
        })
    }
}

/// A connection as hyper takes it.
pub(super) struct Socket(TokioIo<Box<dyn Duplex>>);

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
