//! Step 7: the origin's response as the client will see it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, SERVER, SET_COOKIE, TRAILER, UPGRADE, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use smallvec::SmallVec;

use super::context::Context;
use super::grpc_web;
use super::guard;
use super::known::known;
use super::names;
use super::timed;
use crate::base::{Cause, CauseKind, clock};
use crate::listener::Connection;
use crate::plan::Action;
use crate::policy::headers::edit_response;
use crate::policy::headers::spec::HeaderEdits;

const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const GRPC_STATUS: &str = "grpc-status";

/// Whether a status is the answer, not a note on the way to it.
pub(super) fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Notes when the origin gave its final head, and its gRPC status if it comes with it.
pub(super) fn note(ctx: &mut Context, response: &ResponseHeader) {
    let since = ctx.received_whole.unwrap_or(ctx.started);
    let now = clock::now();
    ctx.answered = Some(now);
    ctx.service_time = Some(now.saturating_duration_since(since));
    note_grpc_status(ctx, &response.headers);
}

/// Notes what the response's trailers say.
pub(super) fn note_trailers(ctx: &mut Context, trailers: &http::HeaderMap) {
    if let Some(pick) = &mut ctx.pick {
        pick.received(false);
    }
    note_grpc_status(ctx, trailers);
}

/// Notes the gRPC status of a head or of trailers.
fn note_grpc_status(ctx: &mut Context, headers: &http::HeaderMap) {
    if ctx.asks_grpc()
        && let Some(status) = headers.get(GRPC_STATUS)
    {
        ctx.grpc_status = status.to_str().ok().and_then(|text| text.parse().ok());
    }
}

/// Edits the final head of a forwarded response.
///
/// # Errors
/// None in practice; header insertion is fallible in Pingora's types.
pub(super) fn prepare(
    session: &mut Session,
    ctx: &mut Context,
    response: &mut ResponseHeader,
) -> Result<()> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(connection) = Connection::of(session.digest()) {
            connection.begin_tunnel();
        }
        // Its Connection and Upgrade are the handshake.
        response.remove_header(&KEEP_ALIVE);
    } else if response.status.is_informational() {
        return Ok(());
    } else {
        strip_hop_by_hop(response);
        note_stream(session, ctx, response);
    }
    if ctx.plan().http.envoy_debug_headers
        && let Some(time) = ctx.service_time
    {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        names::edit_response(response, |fields| {
            fields.insert(SERVICE_TIME, HeaderValue::from(millis))
        });
    }
    if let Some(cookie) = &ctx.set_cookie {
        response.append_header(SET_COOKIE, cookie)?;
    }
    finish(session, ctx, response)?;
    grpc_web::answer(ctx, response)
}

/// Has an answer that may have no end released when the process ends.
fn note_stream(session: &mut Session, ctx: &mut Context, response: &ResponseHeader) {
    let has_end = response.headers.contains_key(CONTENT_LENGTH)
        || matches!(
            response.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        )
        || session.req_header().method == Method::HEAD;
    let Some(connection) = ctx.connection.as_ref().filter(|_| !has_end) else {
        return;
    };
    let streaming = connection.begin_answer();
    if ctx.alarm.is_none() {
        ctx.alarm = timed::bound(session);
    }
    match &ctx.alarm {
        Some(alarm) => alarm.stream(streaming),
        // On HTTP/1 the socket sees it.
        None => ctx.streaming = Some(streaming),
    }
}

/// The edits and headers that our own answers get as well.
///
/// # Errors
/// As [`prepare`].
pub(super) fn finish(
    session: &Session,
    ctx: &Context,
    response: &mut ResponseHeader,
) -> Result<()> {
    if let Some(edits) = edits(ctx) {
        let known = known(session, ctx, Some(response.status.as_u16()));
        edit_response(edits, response, Some(session.req_header()), &known);
    }
    if let Some(asker) = &ctx.asker
        && let Some(policy) = ctx
            .forward()
            .and_then(|forward| forward.policies.cors.as_deref())
    {
        policy.mark(asker, response);
        if ctx.plan().http.edge {
            response.append_header(VARY, "origin")?;
        }
    }
    guard::announce(ctx, response);
    if let Some(server) = &ctx.plan().http.server_header {
        names::edit_response(response, |fields| fields.insert(SERVER, server.clone()));
    }
    Ok(())
}

/// The response edits of the chosen rule or destination.
fn edits(ctx: &Context) -> Option<&HeaderEdits> {
    // Envoy's CORS filter sends it past the router, which makes the edits.
    let is_preflight = |cause: &Cause| cause.kind == CauseKind::CorsPreflight;
    if ctx.cause.as_ref().is_some_and(is_preflight) {
        return None;
    }
    match &*ctx.route()?.action {
        Action::Forward(_) => ctx.destination().map(|destination| &destination.response),
        Action::Redirect { response, .. } => Some(response),
        Action::Direct { edits, .. } => Some(edits),
        Action::Fenced(_) => None,
    }
}

/// RFC 9110 section 7.6.1. Transfer-Encoding stays: it is Pingora's sign to frame in chunks.
fn strip_hop_by_hop(response: &mut ResponseHeader) {
    if response.headers.contains_key(CONNECTION) {
        let nominated: SmallVec<[HeaderName; 4]> = response
            .headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .filter(|name| !is_framing(name))
            .take(10)
            .collect();
        for name in nominated {
            response.remove_header(&name);
        }
        response.remove_header(&CONNECTION);
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        TRAILER,
        UPGRADE,
    ] {
        response.remove_header(&name);
    }
}

fn is_framing(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "transfer-encoding" | "content-length" | "content-type" | "host"
    )
}
