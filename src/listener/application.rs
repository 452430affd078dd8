//! The shared application with an ear at its door: what it answers on HTTP/2 before any hook.
//!
//! HTTP/1 answers are seen by the socket; on HTTP/2 they are lost among frames, so the one answer
//! Pingora's proxy gives by itself (CONNECT's 405) is known here from the request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;

use super::connection::{Connection, EarlyRefusal};
use super::shared::Shared;
use crate::base::CauseKind;

pub(super) struct Application<A> {
    app: Arc<A>,
    shared: Arc<Shared>,
}

impl<A: HttpServerApp> Application<A> {
    pub fn new(app: Arc<A>, shared: Arc<Shared>) -> Self {
        Self { app, shared }
    }

    pub fn keepalive_request_limit(&self) -> Option<u32> {
        self.app
            .server_options()
            .and_then(|options| options.keepalive_request_limit)
    }

    fn note_connect(&self, session: &ServerSession) {
        let allowed = |options: &HttpServerOptions| options.allow_connect_method_proxying;
        if session.req_header().method != Method::CONNECT
            || self.app.server_options().is_some_and(allowed)
        {
            return;
        }
        let Some(connection) = Connection::of(session.digest()) else {
            return;
        };
        let authority = session
            .req_header()
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let mut request_line = format!("CONNECT {} HTTP/2", authority.escape_default());
        request_line.truncate(256);
        self.shared.observer.refused(EarlyRefusal {
            connection: connection.clone(),
            kind: CauseKind::MethodNotAllowed,
            status: Some(CauseKind::MethodNotAllowed.status()),
            request_line,
            bytes_received: 0,
            bytes_sent: 0,
            elapsed: Duration::ZERO,
        });
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Application<A> {
    // Written out as `async_trait` would have it, so that the application's future is passed on
    // without another box around it.
    fn process_new_http<'life0, 'life1, 'async_trait>(
        self: &'life0 Arc<Self>,
        session: ServerSession,
        shutdown: &'life1 ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        if session.is_http2() {
            self.note_connect(&session);
        }
        self.app.process_new_http(session, shutdown)
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
    }
}
