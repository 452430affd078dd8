//! Step 4: which endpoint, and how Pingora reaches it.

use std::time::Duration;

use pingora::Result;
use pingora::protocols::Digest;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;

use super::context::Context;
use super::{connection, timed, tunnel};
use crate::base::{CauseKind, clock};

/// How much later than ours Pingora's read timeout fires.
const LENIENCE: Duration = Duration::from_millis(250);

/// Makes the client's side ready for an origin.
///
/// # Errors
/// The client left.
pub(super) async fn ready(session: &mut Session, ctx: &Context) -> Result<()> {
    if ctx.expects_continue && !session.is_body_done() {
        session.write_continue_response().await?;
    }
    if let Some(timeout) = ctx.timeout() {
        timed::bound(session, timeout);
    }
    Ok(())
}

/// The peer of the next attempt, whose endpoint is picked.
///
/// # Errors
/// No endpoint is left, or the route's time is over.
pub(super) fn choose(session: &mut Session, ctx: &mut Context) -> Result<HttpPeer> {
    ctx.attempts += 1;
    if session.is_body_done() {
        ctx.request_complete();
    }
    let wants = connection::wants(session, ctx);
    let peer = ctx
        .cluster_state()
        .zip(ctx.pick.as_ref())
        .map(|(cluster, pick)| cluster.peer(pick, wants));
    let Some(mut peer) = peer else {
        return Err(ctx.fail(
            CauseKind::NoHealthyUpstream,
            "the cluster has no usable endpoint",
        ));
    };
    if ctx.upgrade {
        tunnel::dial(&mut peer, ctx.random);
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

/// Notes the connection that carries the attempt.
pub(super) fn connected(ctx: &mut Context, digest: Option<&Digest>) {
    let socket = digest.and_then(|digest| digest.socket_digest.as_ref());
    ctx.upstream_local = socket.and_then(|socket| socket.local_addr()?.as_inet().copied());
    if let Some(pick) = &mut ctx.pick {
        pick.connected();
    }
}
