//! Step 4: which endpoint, and how Pingora reaches it.

use std::time::Duration;

use pingora::Error;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::context::Context;
use crate::base::{CauseKind, clock};

/// The peer of the next attempt. `route` has picked the first one's endpoint.
///
/// # Errors
/// No endpoint is left, or the route's time is over.
pub(super) fn choose(session: &mut Session, ctx: &mut Context) -> Result<HttpPeer, Box<Error>> {
    if ctx.attempts > 0 {
        ctx.pick = ctx.cluster_state().and_then(|cluster| cluster.pick());
    }
    ctx.attempts += 1;
    if session.is_body_done() {
        ctx.request_complete();
    }
    let peer = ctx
        .cluster_state()
        .zip(ctx.pick.as_ref())
        .map(|(cluster, pick)| cluster.peer(pick.endpoint(), ctx.upgrade));
    let Some(mut peer) = peer else {
        return Err(ctx.fail(CauseKind::NoHealthyUpstream, "the cluster has no usable endpoint"));
    };
    let Some(timeout) = ctx.forward().and_then(|forward| forward.timeout).filter(|_| !ctx.upgrade)
    else {
        return Ok(peer);
    };
    // Pingora's read timeout is the only timer that runs while an origin says nothing. It starts
    // anew with each part of the request that is sent, so it holds for one still being uploaded.
    let left = match ctx.deadline {
        Some(deadline) => deadline.saturating_duration_since(clock::now()),
        None => timeout,
    };
    if left.is_zero() {
        return Err(ctx.fail(CauseKind::UpstreamTimeout, "the route's timeout passed"));
    }
    peer.options.read_timeout = Some(left);
    let sooner = |own: Option<Duration>| Some(own.map_or(left, |own| own.min(left)));
    peer.options.total_connection_timeout = sooner(peer.options.total_connection_timeout);
    Ok(peer)
}
