//! Step 6: what a failed attempt means, and whether it may be repeated.
//!
//! Nothing is repeated but a request that met a pooled connection its origin was just closing,
//! and only if sending it twice does no harm (design, promise 6).

use std::borrow::Cow;

use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::Context;
use crate::base::CauseKind;

/// A connection to the endpoint could not be made.
pub(super) fn connect_failed(ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let is_unsent = ctx
        .pick
        .as_mut()
        .is_some_and(|pick| pick.dial_failed(&error));
    error.set_retry(is_unsent);
    if is_unsent {
        // Another request makes the connection, so this was no attempt.
        ctx.attempts = ctx.attempts.saturating_sub(1);
        return error;
    }
    if ctx.is_late() {
        ctx.note(CauseKind::UpstreamTimeout, "the route's timeout passed");
    } else {
        ctx.upstream_failure = Some(transport_failure(&error));
        ctx.note(
            CauseKind::UpstreamConnectFailure,
            endpoint_message(ctx, "refused the connection"),
        );
    }
    error
}

/// An attempt failed on an open connection.
pub(super) fn failed(session: &Session, mut error: Box<Error>, reused: bool) -> Box<Error> {
    let repeatable = session.req_header().method.is_idempotent()
        && !session.as_ref().retry_buffer_truncated()
        && session.response_written().is_none();
    if repeatable {
        // Errors of a fresh connection say "no" here, those of a reused one "yes".
        error.retry.decide_reuse(reused);
    } else {
        error.set_retry(false);
    }
    error
}

/// The cause of a final failure that no step has named.
pub(super) fn cause(error: &Error, ctx: &Context) -> (CauseKind, Cow<'static, str>) {
    use ErrorType::*;
    match (error.esource(), error.etype()) {
        // Where the client's side ends the wait for the origin (see `timed`).
        (ErrorSource::Downstream, ReadTimedout | ReadError) if ctx.is_late() => (
            CauseKind::UpstreamTimeout,
            "the route's timeout passed".into(),
        ),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => (
            CauseKind::UpstreamTimeout,
            "the route's timeout passed".into(),
        ),
        (ErrorSource::Upstream, InvalidHTTPHeader | H1Error | InvalidH2 | H2Downgrade) => (
            CauseKind::UpstreamProtocolError,
            endpoint_message(ctx, "sent something that is not HTTP"),
        ),
        (ErrorSource::Upstream, H2Error) if is_reset(error) => (
            CauseKind::UpstreamRemoteReset,
            endpoint_message(ctx, "reset the stream"),
        ),
        (ErrorSource::Upstream, _) => (
            CauseKind::UpstreamConnectionTermination,
            endpoint_message(ctx, "closed the connection"),
        ),
        (ErrorSource::Downstream, InvalidHTTPHeader) => (
            CauseKind::BadRequest,
            "the request cannot be forwarded".into(),
        ),
        // A chunk that is none, for example.
        (ErrorSource::Downstream, Custom(_) | CustomCode(..)) if !is_cut_short(error) => (
            CauseKind::BadRequest,
            "the request body is not framed correctly".into(),
        ),
        (ErrorSource::Downstream, ReadTimedout) => (
            CauseKind::RequestTimeout,
            "the request body did not arrive in time".into(),
        ),
        (ErrorSource::Downstream, _) => (CauseKind::ClientDisconnect, "the client left".into()),
        _ => (CauseKind::Internal, error.to_string().into()),
    }
}

/// Whether the origin reset the stream, as opposed to losing the whole connection.
fn is_reset(error: &Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<h2::Error>()
        .is_none_or(|cause| cause.is_reset() || cause.is_go_away())
}

/// Pingora's word for a body that ends early with its connection.
fn is_cut_short(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::Custom(name) if name.starts_with("Premature"))
}

fn endpoint_message(ctx: &Context, what: &str) -> Cow<'static, str> {
    match &ctx.pick {
        Some(pick) => format!("{} {what}", pick.addr()).into(),
        None => format!("the endpoint {what}").into(),
    }
}

fn transport_failure(error: &Error) -> Cow<'static, str> {
    match error.etype() {
        ErrorType::ConnectRefused => "delayed connect error: Connection refused".into(),
        ErrorType::ConnectNoRoute => "delayed connect error: No route to host".into(),
        ErrorType::ConnectTimedout => "connection timeout".into(),
        other => format!("delayed connect error: {}", other.as_str()).into(),
    }
}
