//! The request path as a table of contents: which step runs in which of Pingora's phases.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use super::context::Context;
use super::finish::Sink;
use super::known::{addresses, known};
use super::limits::Limits;
use super::panics::caught;
use super::route::Step;
use super::{admit, attempt, body, finish, peer, reply, route, to_client, to_origin};
use crate::upstream::Serving;

/// The gateway's HTTP application: one for all listeners.
pub struct Gateway {
    serving: Arc<ArcSwap<Serving>>,
    sink: Arc<dyn Sink>,
    limits: Limits,
}

impl Gateway {
    pub fn new(serving: Arc<ArcSwap<Serving>>, sink: Arc<dyn Sink>, limits: Limits) -> Self {
        Self { serving, sink, limits }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new()
    }

    /// None: compression would cost every request an allocation.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        ctx.serving = Some(self.serving.load_full());
        let admitted = caught(ctx, |ctx| Ok(admit::admit(session, ctx, &self.limits)))?;
        admitted.map_err(|refusal| ctx.refuse(refusal))
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let listener = addresses(session, ctx).listener;
        match caught(ctx, |ctx| Ok(route::route(ctx, session.req_header(), listener)))? {
            Step::Answer(answer) => reply::send(session, ctx, answer).await.map(|()| true),
            Step::Forward => {
                if ctx.expects_continue && !session.is_body_done() {
                    session.write_continue_response().await?;
                }
                Ok(false)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        caught(ctx, |ctx| peer::choose(session, ctx).map(Box::new))
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        attempt::connect_failed(ctx, error)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
        ctx.upstream_local =
            socket.and_then(|socket| socket.local_addr()?.as_inet().copied());
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        caught(ctx, |ctx| {
            to_origin::prepare(ctx, session.req_header(), &known(session, ctx, None), request)
        })
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        body::from_client(ctx, end);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        to_client::note(ctx, response);
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        body::from_origin(ctx).map(|()| None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Context,
    ) -> Result<()> {
        to_client::note_grpc_status(ctx, trailers);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        caught(ctx, |ctx| {
            let known = known(session, ctx, Some(response.status.as_u16()));
            to_client::prepare(ctx, session.req_header(), &known, response)
        })
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        _ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        attempt::failed(session, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        reply::fail(session, ctx, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        let _ = caught(ctx, |ctx| {
            finish::finish(&*self.sink, session, ctx, error);
            Ok(())
        });
    }

    /// The access log tells it, with its cause.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Context, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
