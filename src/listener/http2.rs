//! The life of an HTTP/2 connection: streams are accepted, and it ends with GOAWAY.
//!
//! Pingora's own loop ends idle connections without GOAWAY (RFC 9113 section 6.8), never asks
//! whether a silent client is still there, and tells nobody of the requests it refuses.

mod pings;
mod vigil;

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::Method;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{self, H2Accept, HttpSession};
use pingora_core::protocols::{
    Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Ssl, Stream,
};
use pingora_core::server::ShutdownWatch;

use super::connection::{Connection, EarlyRefusal};
use super::shared::Shared;
use super::socket::Socket;
use crate::base::CauseKind;
use pings::Pings;
use vigil::Vigil;

pub use pings::PingRule;

/// Malformed requests that a connection may send, as many as Pingora allows in its own loop.
const MALFORMED: usize = 32;

/// Serves a connection to its end.
pub(super) async fn serve<A>(
    application: &Arc<A>,
    shared: &Shared,
    mut socket: Box<Socket>,
    shutdown: &ShutdownWatch,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    socket.speak_http2();
    let connection = socket.connection.clone();
    let limits = &shared.limits;
    let digest = digest(&socket);
    let stream: Stream = socket;
    let shaken = server::handshake(stream, application.h2_options());
    let mut http2 = match tokio::time::timeout(limits.keepalive_idle, shaken).await {
        Ok(Ok(http2)) => http2,
        // A client that says nothing, or no HTTP/2.
        Ok(Err(_)) | Err(_) => return,
    };
    let pings = limits.http2_pings.zip(http2.ping_pong());
    let mut pings = pings.map(|(rule, pong)| Pings::new(rule, pong, connection.clone()));
    let mut vigil = Vigil::new(limits.keepalive_idle);
    let mut malformed = 0;
    let mut closing = false;
    let mut shutdown_begun = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            // A lost sender means the same: nobody will ever close this listener properly.
            _ = shutdown_begun.wait_for(|begun| *begun), if !closing => {
                closing = true;
                http2.graceful_shutdown();
                vigil.shorten(limits.drain_idle);
                continue;
            }
            accepted = HttpSession::from_h2_conn(&mut http2, digest.clone()) => accepted,
            () = vigil.over() => {
                if closing {
                    return;
                }
                closing = true;
                http2.graceful_shutdown();
                vigil.shorten(limits.drain_idle);
                continue;
            }
            () = unanswered(&mut pings) => return,
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                let session = ServerSession::new_http2(session);
                note_connect(&**application, shared, &session);
                let (application, shutdown) = (application.clone(), shutdown.clone());
                let at_work = vigil.stream();
                tokio::spawn(async move {
                    application.process_new_http(session, &shutdown).await;
                    drop(at_work);
                });
            }
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                let refusal = refused(&connection, CauseKind::MalformedStream, None, String::new());
                shared.observer.refused(refusal);
                if malformed == MALFORMED {
                    closing = true;
                    http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    vigil.shorten(limits.drain_idle);
                }
            }
            // Everything is said, or the client is gone.
            Ok(None) | Err(_) => return,
        }
    }
}

/// Ends when the client has not answered a PING in time.
async fn unanswered(pings: &mut Option<Pings>) {
    match pings {
        Some(pings) => pings.unanswered().await,
        None => std::future::pending().await,
    }
}

/// What every request of the connection learns of it.
fn digest(socket: &Socket) -> Arc<Digest> {
    Arc::new(Digest {
        ssl_digest: socket.get_ssl_digest(),
        timing_digest: socket.get_timing_digest(),
        proxy_digest: socket.get_proxy_digest(),
        socket_digest: socket.get_socket_digest(),
    })
}

/// Tells of a CONNECT request, which Pingora's proxy answers without any hook. HTTP/1 answers are
/// seen by the socket; these are lost among frames.
fn note_connect<A: HttpServerApp>(application: &A, shared: &Shared, session: &ServerSession) {
    let options = application.server_options();
    if session.req_header().method != Method::CONNECT
        || options.is_some_and(|options| options.allow_connect_method_proxying)
    {
        return;
    }
    let Some(connection) = Connection::of(session.digest()) else {
        return;
    };
    let authority = session.req_header().uri.authority();
    let authority = authority.map_or("", |authority| authority.as_str());
    let mut line = format!("CONNECT {} HTTP/2", authority.escape_default());
    line.truncate(256);
    let kind = CauseKind::MethodNotAllowed;
    let refusal = refused(connection, kind, Some(kind.status()), line);
    shared.observer.refused(refusal);
}

fn refused(
    connection: &Arc<Connection>,
    kind: CauseKind,
    status: Option<u16>,
    request_line: String,
) -> EarlyRefusal {
    EarlyRefusal {
        connection: connection.clone(),
        kind,
        status,
        request_line,
        bytes_received: 0,
        bytes_sent: 0,
        elapsed: Duration::ZERO,
    }
}
