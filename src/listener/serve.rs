//! The life of one client connection: admitted or not, its protocol found by looking, served.
//!
//! Pingora's own loop over HTTP/1 requests is replaced by one that waits *between* requests, where
//! only the socket exists: Pingora's session and the future of a whole request are ten times
//! larger, and its wait has no end.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Ssl, Stream};
use pingora_core::server::ShutdownWatch;

use super::connection::{Connection, EarlyRefusal, Phase};
use super::digests;
use super::head::Opening;
use super::http2;
use super::patience::Patience;
use super::proxy_protocol::{self, HeaderError, ProxyProtocol, Told};
use super::shared::{Place, Shared};
use super::socket::Socket;
use super::tls::{Accepted, HandshakeError};
use crate::base::{CauseKind, clock};

/// Pingora's application of one port: it stands in front of the shared one.
///
/// It keeps the trait's empty `cleanup`. Passing it on would cut idle connections of every port.
pub(super) struct Front<A> {
    application: Arc<A>,
    shared: Arc<Shared>,
    listener: SocketAddr,
}

impl<A: HttpServerApp + Send + Sync + 'static> Front<A> {
    pub fn new(application: Arc<A>, shared: Arc<Shared>, listener: SocketAddr) -> Self {
        Self {
            application,
            shared,
            listener,
        }
    }

    /// The stream without its PROXY header, if it is to have one. Without a usable one it is
    /// dropped.
    async fn spoken_for(&self, stream: Stream, place: &mut Place) -> Option<Stream> {
        let rules = self.shared.limits.proxy_protocol.as_ref();
        let is_due = |rules: &ProxyProtocol| {
            let peer = place.connection.peer;
            let port = place.connection.local.unwrap_or(self.listener).port();
            peer.is_some_and(|peer| rules.is_due(port, peer.ip()))
        };
        if !rules.is_some_and(is_due) {
            return Some(stream);
        }
        let started = clock::now();
        let stripping = Box::pin(proxy_protocol::strip(stream));
        let stripped = tokio::time::timeout(self.shared.limits.handshake, stripping).await;
        match stripped.unwrap_or(Err(HeaderError::TimedOut)) {
            Ok((stream, told)) => {
                if let Some(Told { client, local }) = told {
                    place.speak_for(client, local);
                }
                Some(stream)
            }
            Err(error) => {
                self.shared.observer.refused(EarlyRefusal {
                    connection: place.connection.clone(),
                    kind: CauseKind::ProxyHeader,
                    status: None,
                    request_line: String::new(),
                    bytes_received: 0,
                    bytes_sent: 0,
                    elapsed: clock::now().duration_since(started),
                });
                log::debug!("{}: {error}", self.listener);
                None
            }
        }
    }

    /// The stream that carries HTTP: itself, or what is inside its TLS if this is a port of TLS. A
    /// connection whose handshake fails is dropped, and one that is not HTTP is served here.
    async fn secured(&self, stream: Stream, connection: &Arc<Connection>) -> Option<Stream> {
        let (terminator, is_plain) = {
            let doors = self.shared.tls.load();
            let terminator = doors.of(self.listener).cloned();
            (terminator, doors.is_plain(self.listener))
        };
        let Some(terminator) = terminator else {
            if is_plain {
                let streams = &self.shared.streams;
                streams.serve(stream, connection.clone()).await;
                return None;
            }
            return Some(stream);
        };
        if !self.shared.may_shake_hands(connection.peer) {
            let outcome = Err(&HandshakeError::TooMany);
            self.shared.observer.handshake(connection, outcome);
            return None;
        }
        // Not within the future of the connection's whole life: a handshake's state is large.
        let accepting = Box::pin(terminator.accept(stream));
        let accepted = tokio::time::timeout(self.shared.limits.handshake, accepting).await;
        let observer = &self.shared.observer;
        match accepted.unwrap_or(Err(HandshakeError::TimedOut)) {
            Ok(Accepted::Http(stream, details)) => {
                observer.handshake(connection, Ok(connection.set_tls(details)));
                Some(stream)
            }
            Ok(Accepted::Tcp(stream, details)) => {
                observer.handshake(connection, Ok(connection.set_tls(details)));
                let streams = &self.shared.streams;
                streams.serve(stream, connection.clone()).await;
                None
            }
            Ok(Accepted::Through(stream, hello)) => {
                connection.set_passed(hello);
                observer.passed(connection);
                let streams = &self.shared.streams;
                streams.serve(stream, connection.clone()).await;
                None
            }
            Err(error) => {
                observer.handshake(connection, Err(&error));
                None
            }
        }
    }

    /// Not within the future of the connection's whole life, which would be larger for HTTP/1 too.
    fn serve_http2<'a>(
        &'a self,
        socket: Box<Socket>,
        shutdown: &'a ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(http2::serve(
            &self.application,
            &self.shared,
            socket,
            shutdown,
        ))
    }

    async fn serve_http1(
        &self,
        mut socket: Box<Socket>,
        mut patience: Patience,
        shutdown: &ShutdownWatch,
    ) {
        let connection = socket.connection.clone();
        let mut settings = None;
        loop {
            let request = self.request(socket, settings.take(), shutdown);
            let reused = unless_cut(request, &connection).await;
            let kept = connection.take_kept();
            let Some(reused) = reused.or(kept) else {
                return;
            };
            let stream;
            (stream, settings) = reused.consume();
            let Ok(same) = stream.into_any().downcast::<Socket>() else {
                return;
            };
            socket = same;
            let pipelined =
                socket.may_have_read_more() && settings.as_ref().is_some_and(holds_next_request);
            socket.await_next_head();
            if pipelined {
                socket.begin_pipelined_head();
            } else if !patience.wait(&mut socket).await {
                return;
            }
        }
    }

    /// Starts on the next request. Not `async`, so that the session, which is large, lies only in
    /// the future that is gone when the request is.
    fn request<'a>(
        &'a self,
        socket: Box<Socket>,
        settings: Option<HttpPersistentSettings>,
        shutdown: &'a ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'a>> {
        let mut session = ServerSession::new_http1(socket);
        match settings {
            Some(settings) => settings.apply_to_session(&mut session),
            None => {
                let options = self.application.server_options();
                let limit = options.and_then(|options| options.keepalive_request_limit);
                session.set_keepalive_reuses_remaining(limit)
            }
        }
        // Pingora's timers per read are off: the socket's deadlines cover every wait.
        session.set_keepalive(Some(0));
        self.application.process_new_http(session, shutdown)
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Front<A> {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let (local, peer) = addresses(&stream);
        let mut place = match self.shared.admit(self.listener, local, peer) {
            Ok(place) => place,
            Err(connection) => {
                self.shared.observer.refused(over_the_limit(connection));
                return None;
            }
        };
        stream = self.spoken_for(stream, &mut place).await?;
        // Of the plain stream: one of TLS passes its digest on, but does not take it.
        digests::attach(&mut stream, place.connection.clone());
        let stream = self.secured(stream, &place.connection).await?;
        let mut socket = Box::new(Socket::new(
            stream,
            place.connection.clone(),
            self.shared.clone(),
        ));
        if stream_speaks_http2(&socket) {
            self.serve_http2(socket, shutdown).await;
            return None;
        }
        let mut patience = Patience::new(&self.shared.limits, shutdown);
        while socket.opening() == Opening::Undecided {
            if !patience.wait(&mut socket).await {
                return None;
            }
        }
        if socket.opening() == Opening::Http2 {
            drop(patience);
            self.serve_http2(socket, shutdown).await;
        } else {
            self.serve_http1(socket, patience, shutdown).await;
        }
        None
    }
}

/// Whether the client chose HTTP/2 in its TLS handshake.
fn stream_speaks_http2(socket: &Socket) -> bool {
    socket.selected_alpn_proto() == Some(ALPN::H2)
}

/// Runs a request until it ends or its connection is cut, which drops both.
async fn unless_cut(
    mut request: Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + '_>>,
    connection: &Connection,
) -> Option<ReusedHttpStream> {
    poll_fn(|cx| match request.as_mut().poll(cx) {
        Poll::Pending if connection.phase() == Phase::Cut => Poll::Ready(None),
        other => other,
    })
    .await
}

/// Whether the session before has already read bytes of the next request (pipelining).
///
/// Pingora offers no other way to look. Should it print its state differently one day, a
/// connection waits inside a session as it does without us: more memory, nothing lost.
fn holds_next_request(settings: &HttpPersistentSettings) -> bool {
    let state = format!("{settings:?}");
    !state.contains("pipelined_prefix: None") || state.contains("pipelined_prefix: Some")
}

fn addresses(stream: &Stream) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let Some(digest) = stream.get_socket_digest() else {
        return (None, None);
    };
    // Both are asked for now, while the descriptor is surely this connection's.
    (
        digest
            .local_addr()
            .and_then(|address| address.as_inet())
            .copied(),
        digest
            .peer_addr()
            .and_then(|address| address.as_inet())
            .copied(),
    )
}

fn over_the_limit(connection: Arc<Connection>) -> EarlyRefusal {
    EarlyRefusal {
        connection,
        kind: CauseKind::ConnectionLimit,
        status: None,
        request_line: String::new(),
        bytes_received: 0,
        bytes_sent: 0,
        elapsed: Duration::ZERO,
    }
}
