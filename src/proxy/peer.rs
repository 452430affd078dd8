//! Step 4: which endpoint, and how Pingora reaches it.

use std::time::Duration;

use pingora::Result;
use pingora::protocols::Digest;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::context::Context;
use super::limits::Limits;
use super::retry::REPLAYS;
use super::{attempt, connection, timed, tunnel};
use crate::base::{CauseKind, clock};
use crate::upstream::{Pick, accepted};

/// How much later than ours Pingora's read timeout fires.
const LENIENCE: Duration = Duration::from_millis(250);

/// Makes the client's side ready for an origin.
///
/// # Errors
/// The client left.
pub(super) async fn ready(session: &mut Session, ctx: &mut Context) -> Result<()> {
    if ctx.expects_continue && !session.is_body_done() {
        session.write_continue_response().await?;
    }
    let is_timed = ctx.timeout().is_some()
        || ctx
            .retry_policy()
            .is_some_and(|policy| policy.per_try_timeout.is_some());
    if is_timed {
        ctx.alarm = timed::bound(session);
        ctx.watch();
    }
    Ok(())
}

/// The peer of the next attempt, whose endpoint is picked.
///
/// # Errors
/// No endpoint is left, or the route's time is over.
pub(super) fn choose(session: &mut Session, ctx: &mut Context) -> Result<HttpPeer> {
    ctx.attempts += 1;
    ctx.turns += 1;
    ctx.connected = false;
    ctx.head_sent = false;
    ctx.upstream_local = None;
    ctx.service_time = None;
    ctx.answered = None;
    ctx.retrying.reported = false;
    ctx.trace_attempt();
    if session.is_body_done() {
        ctx.request_complete();
    }
    let host = connection::asked_host(session, ctx);
    let caller = connection::caller(session, ctx, host.as_ref());
    let reached = ctx.cluster_state().zip(ctx.pick.as_ref());
    let peer = reached.map(|(cluster, pick)| (cluster.peer(pick, &caller), cluster));
    let Some((mut peer, cluster)) = peer else {
        return Err(ctx.fail(
            CauseKind::NoHealthyUpstream,
            "the cluster has no usable endpoint",
        ));
    };
    if ctx.upgrade {
        let preface = cluster.preface(&caller);
        tunnel::dial(&mut peer, ctx.random, preface.unwrap_or_default());
    }
    let is_pooled = ctx.pick.as_ref().is_some_and(Pick::is_pooled);
    if is_pooled && ctx.retrying.replays == REPLAYS {
        // Its own connection, which nobody else takes over: the others were all closing.
        peer.group_key = peer.group_key.wrapping_add(ctx.random | 1);
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    // `timed` and the client's socket watch over the answer; one whose body is still on its way
    // has no deadline yet. Connecting is what they do not see.
    let Some(deadline) = ctx.deadline else {
        return Ok(peer);
    };
    let left = deadline.saturating_duration_since(clock::now());
    if left.is_zero() {
        return Err(ctx.fail(CauseKind::UpstreamTimeout, "the route's timeout passed"));
    }
    // Later than theirs, for when neither is polled (a pipelined request waits behind this one).
    // A timeout of Pingora's own would also retire an HTTP/2 origin's whole connection.
    peer.options.read_timeout = Some(left + LENIENCE);
    let own = peer.options.total_connection_timeout;
    peer.options.total_connection_timeout = Some(own.map_or(left, |own| own.min(left)));
    Ok(peer)
}

/// Notes the connection that carries the attempt, if it leads to whom it should.
///
/// # Errors
/// It does not: nothing is sent.
pub(super) fn connected(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    peer: &HttpPeer,
    digest: Option<&Digest>,
) -> Result<()> {
    let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
    ctx.upstream_local = socket.and_then(|socket| socket.local_addr()?.as_inet().copied());
    if peer.is_tls() {
        let host = connection::asked_host(session, ctx);
        let host = host.as_deref().unwrap_or_default();
        accepted(peer, digest, host)
            .map_err(|refusal| attempt::origin_refused(session, ctx, limits, refusal))?;
    }
    if let Some(pick) = &mut ctx.pick {
        pick.connected();
    }
    ctx.connected = true;
    ctx.try_begins();
    Ok(())
}
