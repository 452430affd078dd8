//! The request path as a table of contents: which step runs in which of Pingora's phases.

use std::os::fd::RawFd;
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
use tokio::sync::Semaphore;

use super::context::Context;
use super::finish::Sink;
use super::limits::Limits;
use super::panics::caught;
use super::{
    admit, answer, attempt, body, compression, connection, finish, grpc_web, mirror, peer, reply,
    retry, route, to_client, to_origin,
};
use crate::upstream::Serving;

/// The gateway's HTTP application: one for all listeners.
pub struct Gateway {
    serving: Arc<ArcSwap<Serving>>,
    sink: Arc<dyn Sink>,
    limits: Limits,
    /// For responses that are compressed.
    encoders: Arc<Semaphore>,
}

impl Gateway {
    pub fn new(serving: Arc<ArcSwap<Serving>>, sink: Arc<dyn Sink>, limits: Limits) -> Self {
        Self {
            serving,
            sink,
            encoders: compression::room(&limits),
            limits,
        }
    }
}

// In the order Pingora calls them. Not formatted, so that each phase is one line and its step.
#[rustfmt::skip]
#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.serving.load_full())
    }

    /// None: Pingora's default one costs every request an allocation.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        caught(ctx, |ctx| admit::admit(session, ctx, &self.limits).map_err(|refusal| ctx.refuse(refusal)))
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let routed = caught(ctx, |ctx| Ok(route::route(session, ctx)))?;
        compression::begin(session, ctx, &self.encoders);
        let step = answer::answer(session, ctx, routed).await?;
        match connection::waited_for(session, ctx, step).await {
            route::Step::Answer(answer) => reply::send(session, ctx, answer).await.map(|()| true),
            route::Step::Forward => peer::ready(session, ctx).await.map(|()| false),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        retry::back_off(session, ctx).await?;
        connection::next(session, ctx, &self.limits).await?;
        let peer = caught(ctx, |ctx| peer::choose(session, ctx).map(Box::new))?;
        connection::look(ctx).await;
        Ok(peer)
    }

    fn fail_to_connect(&self, session: &mut Session, _: &HttpPeer, ctx: &mut Context, error: Box<Error>) -> Box<Error> {
        attempt::connect_failed(session, ctx, &self.limits, error)
    }

    async fn connected_to_upstream(
        &self, session: &mut Session, _reused: bool, peer: &HttpPeer, _: RawFd, digest: Option<&Digest>, ctx: &mut Context,
    ) -> Result<()> {
        peer::connected(session, ctx, &self.limits, peer, digest)
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
        caught(ctx, |ctx| {
            to_origin::prepare(session, ctx, request)?;
            mirror::begin(session, ctx, &self.limits, request);
            Ok(())
        })
    }

    async fn request_body_filter(&self, _: &mut Session, body: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
        body::from_client(ctx, body, end).await
    }

    async fn upstream_response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
        attempt::answered(session, ctx, &self.limits, response)
    }

    fn upstream_response_body_filter(&self, _: &mut Session, body: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<Option<Duration>> {
        body::from_origin(ctx, body, end).map(|()| None)
    }

    fn upstream_response_trailer_filter(&self, _: &mut Session, trailers: &mut HeaderMap, ctx: &mut Context) -> Result<()> {
        to_client::note_trailers(ctx, trailers);
        Ok(())
    }

    async fn response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
        caught(ctx, |ctx| to_client::prepare(session, ctx, response))
    }

    async fn response_trailer_filter(&self, session: &mut Session, trailers: &mut HeaderMap, ctx: &mut Context) -> Result<Option<Bytes>> {
        compression::before_trailers(session, ctx).await?;
        Ok(grpc_web::trailers(ctx, trailers))
    }

    fn error_while_proxy(&self, _: &HttpPeer, session: &mut Session, error: Box<Error>, ctx: &mut Context, reused: bool) -> Box<Error> {
        attempt::failed(session, ctx, &self.limits, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        reply::fail(session, ctx, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        let _ = caught(ctx, |ctx| {
            finish::finish(&*self.sink, session, ctx, error);
            Ok(())
        });
        reply::keep(session, ctx).await;
    }

    /// The access log says it, with its cause.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Context, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
