//! Step 4, beforehand: waiting for a connection, where the cluster limits or shares them.
//!
//! Pingora asks for a peer when it is ready to connect, and whatever is refused then costs the
//! client its connection. So the first attempt waits here before Pingora is let go on.

use std::sync::Arc;
use std::time::Instant;

use http::Version;
use pingora::Result;
use pingora::proxy::Session;

use super::admit::{Refusal, authority};
use super::context::Context;
use super::limits::Limits;
use super::reply::Reply;
use super::route::Step;
use super::to_origin;
use crate::base::CauseKind;
use crate::upstream::{Caller, Refused, Wants, tls_host};

/// Pingora's turns that are kept for attempts: looks for connections do not use them up.
const RESERVE: u32 = 4;

/// Waits for the first attempt's connection, if the request is to be forwarded.
pub(super) async fn waited_for(session: &mut Session, ctx: &mut Context, step: Step) -> Step {
    if matches!(step, Step::Answer(_)) {
        return step;
    }
    // The route's time counts from the request's last byte, the wait included.
    if session.is_body_done() {
        ctx.request_complete();
    }
    match wait(session, ctx).await {
        Ok(()) => step,
        Err(refusal) => {
            ctx.note(refusal.kind, refusal.message);
            Step::Answer(Reply::of(refusal.kind))
        }
    }
}

/// Chooses a later attempt's endpoint and waits for its connection. An attempt that could not
/// even begin is made again where it was.
///
/// # Errors
/// No endpoint is left, a limit is reached, or the route's time is over.
pub(super) async fn next(session: &Session, ctx: &mut Context, limits: &Limits) -> Result<()> {
    let is_unsent = ctx.pick.as_mut().is_some_and(|pick| pick.take_unsent());
    if !is_unsent {
        if ctx.attempts == 0 {
            return Ok(());
        }
        if let Err(refused) = ctx.pick_endpoint() {
            return Err(ctx.fail(refused.kind, refused.message));
        }
    }
    if ctx.turns.saturating_add(RESERVE) >= limits.turns
        && let Some(pick) = &mut ctx.pick
    {
        pick.hurry();
    }
    wait(session, ctx)
        .await
        .map_err(|refusal| ctx.fail(refusal.kind, refusal.message))
}

/// Waits until the attempt may look for its shared connection. Nothing may come between this and
/// Pingora's look: others wait for it.
pub(super) async fn look(ctx: &mut Context) {
    let cluster = ctx.cluster.and_then(|id| ctx.serving.cluster(id));
    if let (Some(cluster), Some(pick)) = (cluster, &mut ctx.pick) {
        cluster.look(pick).await;
    }
}

/// The host that the origin will be asked for, if connections to it depend on that ([`tls_host`]).
pub(super) fn asked_host(session: &Session, ctx: &Context) -> Option<Arc<str>> {
    if !ctx.cluster_state()?.needs_host() {
        return None;
    }
    let written = to_origin::rewritten_authority(ctx);
    let written = written.and_then(|authority| authority.to_str().ok());
    let authority = written.unwrap_or_else(|| authority(session.req_header()));
    Some(tls_host(authority).into())
}

/// What of the request its connection depends on; `host` is [`asked_host`].
pub(super) fn caller<'r>(
    session: &Session,
    ctx: &Context,
    host: Option<&'r Arc<str>>,
) -> Caller<'r> {
    let connection = ctx.connection.as_ref();
    Caller {
        wants: wants(session, ctx),
        host: host.map_or("", |host| host),
        addresses: connection.and_then(|connection| connection.peer.zip(connection.local)),
    }
}

/// How the client asks.
fn wants(session: &Session, ctx: &Context) -> Wants {
    match session.req_header().version {
        _ if ctx.upgrade => Wants::Upgrade,
        Version::HTTP_2 => Wants::Http2,
        _ => Wants::Http1,
    }
}

async fn wait(session: &Session, ctx: &mut Context) -> Result<(), Refusal> {
    let host = asked_host(session, ctx);
    let caller = caller(session, ctx, host.as_ref());
    let deadline = ctx.deadline;
    let cluster = ctx.cluster.and_then(|id| ctx.serving.cluster(id));
    let (Some(cluster), Some(pick)) = (cluster, &mut ctx.pick) else {
        return Ok(());
    };
    let admitted = match deadline {
        Some(deadline) => in_time(deadline, cluster.admit(pick, &caller)).await?,
        None => cluster.admit(pick, &caller).await,
    };
    admitted.map_err(Refusal::from)
}

async fn in_time<T>(deadline: Instant, wait: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout_at(deadline.into(), wait)
        .await
        .map_err(|_| {
            Refusal::new(
                CauseKind::UpstreamTimeout,
                "the route's timeout passed before there was a connection",
            )
        })
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoEndpoint => Self::new(
                CauseKind::NoHealthyUpstream,
                "the cluster has no usable endpoint",
            ),
            Refused::Overflow => Self::new(
                CauseKind::UpstreamOverflow,
                "a limit of the cluster's connectionPool is reached",
            ),
        }
    }
}
