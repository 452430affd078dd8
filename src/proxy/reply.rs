//! Step 9: every answer that is made here, in Envoy's words.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, Result};
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};

use super::attempt;
use super::context::Context;
use super::to_client;
use crate::base::CauseKind;

const FENCED: &str = "this route is fenced: its configuration, or a protection it needs, is not in force; \
                      the gateway's findings name the object to mend";

/// Of gRPC: try again.
const UNAVAILABLE: u16 = 14;

/// What the texts of failed connections have in common.
const RESET: &str = "reset reason: ";

/// A status with what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub status: u16,
    pub body: Bytes,
    pub location: Option<HeaderValue>,
    /// For gRPC clients, in place of what `status` maps to.
    pub grpc_status: Option<u16>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// The answer of a cause.
    pub fn of(kind: CauseKind) -> Self {
        let body = match kind {
            CauseKind::Fenced => FENCED,
            _ => kind.body(),
        };
        Self {
            status: kind.status(),
            body: Bytes::from_static(body.as_bytes()),
            ..Self::default()
        }
    }
}

/// Writes an answer. The connection stays open if it can.
///
/// # Errors
/// The client left.
pub(super) async fn send(session: &mut Session, ctx: &mut Context, reply: Reply) -> Result<()> {
    // Closing with unread bytes of the body would reset the connection under the answer; what is
    // left of it is read and dropped afterwards, for as long as `Limits::drain`.
    session.set_close_on_response_before_downstream_finish(false);
    let (head, body) = render(session, ctx, reply)?;
    let mut tasks = Vec::with_capacity(2);
    tasks.push(HttpTask::Header(Box::new(head), body.is_empty()));
    if !body.is_empty() {
        tasks.push(HttpTask::Body(Some(body), true));
    }
    session.write_response_tasks(tasks).await.map(|_| ())
}

/// Answers a failure that ended the request, if there is still someone to answer.
pub(super) async fn fail(session: &mut Session, ctx: &mut Context, error: &Error) -> FailToProxy {
    if ctx.cause.is_none() {
        let (kind, message) = attempt::cause(error, ctx);
        ctx.note(kind, message);
    }
    let kind = ctx
        .cause
        .as_ref()
        .map_or(CauseKind::Internal, |cause| cause.kind);
    let answered = session
        .response_written()
        .is_some_and(|head| !head.status.is_informational() || session.was_upgraded());
    if kind == CauseKind::Released && answered && ctx.grpc && is_http2(session) {
        end_grpc(session, ctx).await;
    }
    if answered || kind == CauseKind::ClientDisconnect {
        return FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
    }
    let stays = is_of_origin(kind) && !ctx.upgrade && session.get_keepalive().is_some();
    if !stays {
        session.set_keepalive(None);
    }
    let reply = ctx.reply.take().unwrap_or_else(|| failure(kind, ctx));
    let error_code = reply.status;
    if send(session, ctx, reply).await.is_err() || is_http2(session) {
        // Nothing to keep, or nothing to close.
    } else if stays {
        ctx.stays = true;
    } else {
        // Linger, so that the client reads the answer before it meets a closed connection.
        let _ = session.drain_request_body().await;
        session.shutdown().await;
    }
    FailToProxy {
        error_code,
        can_reuse_downstream: false,
    }
}

/// Ends a gRPC answer that has begun, so that its client tries elsewhere.
async fn end_grpc(session: &mut Session, ctx: &mut Context) {
    ctx.grpc_status = Some(UNAVAILABLE);
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from(UNAVAILABLE));
    trailers.insert(
        "grpc-message",
        HeaderValue::from_static("gateway is stopping"),
    );
    let trailers = HttpTask::Trailer(Some(Box::new(trailers)));
    // An error means that the client has left meanwhile.
    let _ = session.write_response_tasks(vec![trailers]).await;
}

/// Keeps the client's HTTP/1 connection after a failure of the origin's, as Envoy does, where it
/// would stay open after another answer. Pingora drops the session of a request that failed; so
/// it is taken out of its hands here, and ended as it ends those of requests that did not.
///
/// The last thing that happens to a session: nothing can be asked of it any more.
pub(super) async fn keep(session: &mut Session, ctx: &Context) {
    let Some(connection) = ctx.connection.as_ref().filter(|_| ctx.stays) else {
        return;
    };
    let settings = HttpPersistentSettings::for_session(session);
    let placeholder = ServerSession::new_custom(Box::new(()));
    let own = std::mem::replace(session.as_downstream_mut(), placeholder);
    // An error means that the rest of the request did not come: the connection is closed.
    if let Ok(Some(stream)) = own.finish().await {
        connection.keep(ReusedHttpStream::from_reusable_stream(stream, settings));
    }
}

/// Whether the request itself was good, and its connection is.
fn is_of_origin(kind: CauseKind) -> bool {
    use CauseKind::*;
    matches!(
        kind,
        NoHealthyUpstream
            | UpstreamConnectFailure
            | UpstreamConnectionTermination
            | UpstreamRemoteReset
            | UpstreamTimeout
            | UpstreamPerTryTimeout
            | UpstreamProtocolError
            | UpstreamOverflow
    )
}

/// The answer of a cause, in which Envoy tells how a connection failed and whether it tried again.
fn failure(kind: CauseKind, ctx: &Context) -> Reply {
    let mut reply = Reply::of(kind);
    let is_reset = kind.body().contains(RESET);
    if !is_reset || (ctx.retrying.retries == 0 && ctx.upstream_failure.is_none()) {
        return reply;
    }
    let mut body = kind.body().to_owned();
    if ctx.retrying.retries > 0 {
        body = body.replacen(RESET, "retried and the latest reset reason: ", 1);
    }
    if let Some(failure) = &ctx.upstream_failure {
        body.push_str(", transport failure reason: ");
        body.push_str(failure);
    }
    reply.body = body.into();
    reply
}

fn render(session: &Session, ctx: &mut Context, reply: Reply) -> Result<(ResponseHeader, Bytes)> {
    let request = session.req_header();
    let Reply {
        status,
        mut body,
        location,
        grpc_status: own_grpc_status,
        headers,
    } = reply;
    let mut head = ResponseHeader::build(if ctx.grpc { 200 } else { status }, Some(6))?;
    if ctx.grpc {
        let code = own_grpc_status.unwrap_or_else(|| grpc_status(status));
        ctx.grpc_status = Some(code);
        head.insert_header(CONTENT_TYPE, "application/grpc")?;
        head.insert_header("grpc-status", HeaderValue::from(code))?;
        if !body.is_empty() {
            head.insert_header("grpc-message", percent_encoded(&body))?;
            body = Bytes::new();
        }
    } else if let Some(web) = &ctx.grpc_web {
        // Envoy's filter keeps the status.
        let code = own_grpc_status.unwrap_or_else(|| grpc_status(status));
        ctx.grpc_status = Some(code);
        head.insert_header(CONTENT_TYPE, web.content_type())?;
        head.insert_header("grpc-status", HeaderValue::from(code))?;
        head.insert_header("grpc-message", percent_encoded(&body))?;
        body = Bytes::new();
    } else if !body.is_empty() {
        head.insert_header(CONTENT_TYPE, "text/plain")?;
    }
    let overflow = ctx
        .cause
        .as_ref()
        .is_some_and(|cause| cause.kind == CauseKind::UpstreamOverflow);
    if overflow {
        head.insert_header("x-envoy-overloaded", "true")?;
    }
    if let Some(location) = location {
        head.insert_header(LOCATION, location)?;
    }
    for (name, value) in headers {
        match name {
            CONTENT_TYPE => head.insert_header(name, value)?,
            name => drop(head.append_header(name, value)?),
        }
    }
    if matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        body = Bytes::new();
    } else if !(ctx.grpc && is_http2(session)) {
        head.insert_header(CONTENT_LENGTH, HeaderValue::from(body.len()))?;
    }
    to_client::finish(session, ctx, &mut head)?;
    if request.method == Method::HEAD {
        body = Bytes::new();
    }
    Ok((head, body))
}

/// Also for a session that `timed` has wrapped.
fn is_http2(session: &Session) -> bool {
    session.req_header().version == Version::HTTP_2
}

/// Envoy's mapping of statuses it makes itself.
pub(super) fn grpc_status(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// gRPC's encoding of messages: printable ASCII but `%` stays.
fn percent_encoded(message: &[u8]) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_keep_printable_ascii() {
        assert_eq!(
            percent_encoded(b"no healthy upstream"),
            "no healthy upstream"
        );
        assert_eq!(percent_encoded("100% é\n".as_bytes()), "100%25 %C3%A9%0A");
    }

    #[test]
    fn statuses_map_to_grpc_as_in_envoy() {
        let mapped = [400, 401, 403, 404, 429, 500, 502, 503, 504].map(grpc_status);
        assert_eq!(mapped, [13, 16, 7, 12, 14, 2, 14, 14, 14]);
    }
}
