//! The small HTTP server under the pages: Pingora's HTTP/1.1 session on sockets of our own.
//!
//! Pingora's parser is in the tree already and is the one that guards the traffic. Its listening
//! service is not used: it gives no limit on connections, no deadline for a request head, and
//! binds by itself. One request per connection keeps that simple; scrapes and probes are few.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use log::{debug, error};
use pingora::http::ResponseHeader;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::stream::Stream;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::{Answer, Body};
use super::{Page, State, pages};

/// Connections served at once; more wait in the accept queue.
const CONNECTIONS: usize = 128;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// For a reader that does not read.
const STALL: Duration = Duration::from_secs(30);
/// After an accept that failed for want of descriptors.
const BREATHE: Duration = Duration::from_millis(100);

/// Serves a page on a bound socket until `shutdown` turns true or its sender is gone; answers
/// under way are then finished. Readiness answers 503 while draining, so end it last.
pub async fn serve(
    listener: TcpListener,
    page: Page,
    state: Arc<State>,
    shutdown: watch::Receiver<bool>,
) {
    if let Err(failure) = run(listener, page, state, shutdown).await {
        error!("the {page:?} endpoint stopped: {failure}");
    }
}

async fn run(
    listener: TcpListener,
    page: Page,
    state: Arc<State>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            Ok(place) = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        // What has ended, so that the set holds only what runs.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let state = state.clone();
                connections.spawn(async move {
                    if let Err(failure) = converse(stream, page, state).await {
                        debug!("a client of the {page:?} endpoint: {failure}");
                    }
                    drop(place);
                });
            }
            Err(failure) => {
                error!("the {page:?} endpoint cannot accept: {failure}");
                sleep(BREATHE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// One connection: one request, one answer.
async fn converse(stream: TcpStream, page: Page, state: Arc<State>) -> pingora_core::Result<()> {
    let mut session = ServerSession::new_http1(Box::new(Stream::from(stream)));
    match timeout(HEAD, session.read_request()).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) | Err(_) => return Ok(()),
        Ok(Err(refused)) => {
            session.respond_error(400).await?;
            return Err(refused);
        }
    }
    session.set_keepalive(None);
    session.set_write_timeout(Some(STALL));
    let request = session.req_header().as_owned_parts();
    let version = request.version;
    // An explanation over tens of thousands of rules must not hold up a thread of the gateway.
    let answer = tokio::task::spawn_blocking(move || pages::answer(page, &state, &request))
        .await
        .unwrap_or_else(|_| Answer::text(500, "this page has a bug; the gateway serves on\n"));
    write(&mut session, version, answer).await?;
    session.finish().await.map(drop)
}

async fn write(
    session: &mut ServerSession,
    version: Version,
    answer: Answer,
) -> pingora_core::Result<()> {
    let mut head = ResponseHeader::build(answer.status, Some(6))?;
    head.insert_header(CONTENT_TYPE, answer.content_type)?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    if answer.status == 405 {
        head.insert_header(ALLOW, "GET, HEAD")?;
    }
    match answer.body {
        Body::Whole(body) => {
            head.insert_header(CONTENT_LENGTH, body.len())?;
            session.write_response_header(Box::new(head)).await?;
            session.write_response_body(body, true).await
        }
        Body::Pieces(pieces) => {
            // An HTTP/1.0 reader takes the end of the connection for the end of the body.
            if version >= Version::HTTP_11 {
                head.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
            session.write_response_header(Box::new(head)).await?;
            for piece in pieces {
                session.write_response_body(piece, false).await?;
            }
            session.write_response_body(bytes::Bytes::new(), true).await
        }
    }
}

#[cfg(test)]
mod tests;
