//! One client connection, as its socket and every request on it see it.
//!
//! The socket puts it into the session's digest, where requests of any protocol find it; the
//! first hook of a request calls [`Connection::head_received`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora_core::apps::ReusedHttpStream;
use pingora_core::protocols::Digest;

use super::tls::{HandshakeError, PassedHello, TlsDetails};
use super::tunnels::{Streaming, Tunnel, Tunnels};
use crate::base::{CauseKind, clock};

/// State of one client connection, shared by the socket wrapper and every request on it.
#[derive(Debug)]
pub struct Connection {
    /// Key of the listener: the configured bind address.
    pub listener: SocketAddr,
    /// What the client connected to: this socket's address, or what a PROXY header tells.
    pub local: Option<SocketAddr>,
    /// The client: whoever connected, or whom a PROXY header tells.
    pub peer: Option<SocketAddr>,
    /// Who connected, if a PROXY header tells of somebody else.
    pub proxy: Option<SocketAddr>,
    /// Unique within the process.
    pub id: u64,
    tls: OnceLock<Box<TlsDetails>>,
    passed: OnceLock<Box<PassedHello>>,
    tunnels: Arc<Tunnels>,
    tunnel: OnceLock<Arc<Tunnel>>,
    received: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
    http2: AtomicBool,
    phase: AtomicU8,
    made: Instant,
    /// Microseconds after `made`; 0 is no deadline.
    answer_by: AtomicU64,
    /// The connection itself, after a request that failed, on its way back to its server.
    kept: Mutex<Option<Box<ReusedHttpStream>>>,
}

/// A head that was answered (or cut) without any proxy hook having run, or a connection that was
/// closed before one could be read.
#[derive(Clone, Debug)]
pub struct EarlyRefusal {
    pub connection: Arc<Connection>,
    /// `EarlyRefusal`, `MalformedStream`, `MethodNotAllowed` for CONNECT, `HeaderTimeout`,
    /// `ConnectionLimit` or `ProxyHeader`.
    pub kind: CauseKind,
    /// As written to the client; `None` if the connection was only closed, and for malformed
    /// streams, of which Pingora answers some and resets some.
    pub status: Option<u16>,
    /// First line of the head with control bytes escaped, at most 256 bytes of it; empty if unknown.
    pub request_line: String,
    /// Bytes of the head that arrived.
    pub bytes_received: u64,
    /// Bytes of the answer.
    pub bytes_sent: u64,
    /// Since the first byte of the head.
    pub elapsed: Duration,
}

/// Hears what happens to connections. `server` hands in what counts and logs them.
pub trait ConnectionObserver: Send + Sync + 'static {
    /// A connection was accepted within the limits.
    fn opened(&self, _connection: &Connection) {}
    /// An opened connection is gone.
    fn closed(&self, _connection: &Connection) {}
    /// A TLS handshake is over; after an error the connection is closed.
    fn handshake(&self, _connection: &Connection, _outcome: Result<&TlsDetails, &HandshakeError>) {}
    /// A ClientHello was read whose connection is passed through.
    fn passed(&self, _connection: &Connection) {}
    /// No hook saw this head, or this connection was over a limit and never opened.
    fn refused(&self, _refusal: EarlyRefusal) {}
}

/// How far the current request head is. HTTP/2 connections stay `Received`: their heads are told
/// apart by frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No byte of the next head has arrived.
    Awaiting,
    /// Some of it has; the deadline runs.
    Reading,
    /// A hook has seen it.
    Received,
    /// The connection is given up; whoever serves it drops it.
    Cut,
}

impl Connection {
    pub(super) fn new(
        id: u64,
        listener: SocketAddr,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    ) -> Self {
        Self {
            listener,
            local,
            peer,
            proxy: None,
            id,
            tls: OnceLock::new(),
            passed: OnceLock::new(),
            tunnels: Arc::default(),
            tunnel: OnceLock::new(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Awaiting as u8),
            made: clock::now(),
            answer_by: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    /// One that no listener accepted.
    #[cfg(test)]
    pub fn unattached() -> Self {
        let listener = SocketAddr::from(([127, 0, 0, 1], 1));
        Self::new(0, listener, None, None)
    }

    /// Has its tunnel end, as at the end of the process.
    #[cfg(test)]
    pub fn release(&self) {
        self.tunnels.release(1);
    }

    /// Counts its tunnel among these.
    pub(super) fn within(self, tunnels: Arc<Tunnels>) -> Self {
        Self { tunnels, ..self }
    }

    /// From now on it carries a stream of bytes (a WebSocket, for instance) and no more requests.
    pub fn begin_tunnel(&self) {
        self.tunnels.begin(self.id, self.tunnel().clone());
    }

    /// The answer to a request of this connection says no length and may have no end.
    pub fn begin_answer(&self) -> Streaming {
        // What ends an HTTP/1 answer ends its connection; an HTTP/2 connection has others.
        let tunnel = match self.is_http2() {
            true => Arc::default(),
            false => self.tunnel().clone(),
        };
        self.tunnels.begin_answer(tunnel)
    }

    fn tunnel(&self) -> &Arc<Tunnel> {
        self.tunnel.get_or_init(Arc::default)
    }

    pub(super) fn end_tunnel(&self) {
        if self.tunnel.get().is_some() {
            self.tunnels.end(self.id);
        }
    }

    /// Ready once its tunnel shall end because the process does.
    pub fn poll_released(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.tunnel.get() {
            Some(tunnel) => tunnel.poll_released(cx),
            None => Poll::Pending,
        }
    }

    /// The connection of a request, from `session.digest()`.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Connection>> {
        digest?
            .proxy_digest
            .as_ref()?
            .user_data
            .as_ref()?
            .downcast_ref()
    }

    /// Who connected, whomever a PROXY header says they speak for.
    pub fn direct_peer(&self) -> Option<SocketAddr> {
        self.proxy.or(self.peer)
    }

    /// What the TLS handshake agreed on; `None` for a plaintext connection.
    pub fn tls(&self) -> Option<&TlsDetails> {
        self.tls.get().map(|details| &**details)
    }

    pub(super) fn set_tls(&self, details: TlsDetails) -> &TlsDetails {
        self.tls.get_or_init(|| Box::new(details))
    }

    /// What a client said whose TLS goes on to the origin; `None` for all others.
    pub fn passed(&self) -> Option<&PassedHello> {
        self.passed.get().map(|hello| &**hello)
    }

    pub(super) fn set_passed(&self, hello: PassedHello) {
        self.passed.get_or_init(|| Box::new(hello));
    }

    /// SNI of a TLS connection, ended here or not.
    pub fn server_name(&self) -> Option<&str> {
        let ended = self.tls().map(|details| details.server_name.as_deref());
        let passed = || self.passed().map(|hello| hello.server_name.as_deref());
        ended.or_else(passed).flatten()
    }

    /// The first hook of a request calls this: the head is whole, its deadline is over.
    pub fn head_received(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.set_phase(Phase::Received);
    }

    /// Ends the wait for an answer to the HTTP/1 request at hand: from then on reading from the
    /// client fails, which whoever serves it sees even while an origin says nothing.
    pub fn answer_by(&self, deadline: Option<Instant>) {
        let after = deadline.map_or(0, |deadline| {
            let after = deadline.saturating_duration_since(self.made).as_micros();
            u64::try_from(after).unwrap_or(u64::MAX).max(1)
        });
        self.answer_by.store(after, Ordering::Release);
    }

    /// Hands back the HTTP/1 connection of a request that failed, for the next one. Called at the
    /// very end of a request, or the connection would hold itself.
    pub fn keep(&self, stream: ReusedHttpStream) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(stream));
    }

    pub(super) fn take_kept(&self) -> Option<ReusedHttpStream> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take().map(|stream| *stream)
    }

    /// Bytes read from the client so far.
    pub fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes written to the client so far.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests whose head reached a hook.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether the client speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
        self.set_phase(Phase::Received);
    }

    pub(super) fn answer_deadline(&self) -> Option<Instant> {
        match self.answer_by.load(Ordering::Acquire) {
            0 => None,
            after => self.made.checked_add(Duration::from_micros(after)),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Awaiting,
            1 => Phase::Reading,
            2 => Phase::Received,
            _ => Phase::Cut,
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}
