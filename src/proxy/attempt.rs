//! Step 6: what became of an attempt, and what that means for the request.
//!
//! Each attempt ends here once: with a response, without a connection, or broken. What Pingora
//! would repeat by itself is not asked; only what is decided here is (design, promise 6).

use std::borrow::Cow;

use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::Context;
use super::limits::Limits;
use super::retry::{REPLAYS, again, is_exhausted, is_repeatable};
use super::to_client;
use crate::base::CauseKind;
use crate::listener::Released;
use crate::plan::Failure;
use crate::upstream::{Outcome, Pick, handshake_failure};

/// A connection to the endpoint could not be made.
pub(super) fn connect_failed(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    mut error: Box<Error>,
) -> Box<Error> {
    let is_unsent = ctx
        .pick
        .as_mut()
        .is_some_and(|pick| pick.dial_failed(&error));
    if is_unsent {
        // There was no connection to send it on, so this was no attempt.
        ctx.attempts = ctx.attempts.saturating_sub(1);
        if let Some(trace) = &mut ctx.trace {
            trace.attempt_unsent();
        }
        error.set_retry(true);
        return error;
    }
    let mut repeated = false;
    if ctx.is_late() {
        ctx.report(Outcome::TimedOut);
        ctx.note(CauseKind::UpstreamTimeout, "the route's timeout passed");
    } else {
        let what = match error.etype() {
            ErrorType::InvalidCert => "has a certificate that is not accepted",
            ErrorType::TLSHandshakeFailure => "did not complete the TLS handshake",
            _ => "refused the connection",
        };
        repeated = unreached(session, ctx, limits, what, transport_failure(&error));
    }
    ctx.trace_end(None);
    over(ctx, repeated);
    error.set_retry(repeated);
    error
}

/// The connection leads to an origin that is not the one that is meant. As in Envoy, that is no
/// other than a connection that could not be made.
pub(super) fn origin_refused(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    refusal: String,
) -> Box<Error> {
    if let Some(pick) = &mut ctx.pick {
        pick.reject();
    }
    let error = Error::explain(ErrorType::InvalidCert, refusal.clone());
    let what = "has a certificate that is not accepted";
    ctx.retrying.given_up = unreached(session, ctx, limits, what, refusal.into());
    error.into_up()
}

/// Whether an attempt without a connection is repeated.
fn unreached(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    what: &str,
    failure: Cow<'static, str>,
) -> bool {
    ctx.report(Outcome::ConnectFailed);
    ctx.upstream_failure = Some(failure);
    ctx.note(
        CauseKind::UpstreamConnectFailure,
        endpoint_message(ctx, what),
    );
    ctx.trace_end(None);
    again(session, ctx, limits, |policy| {
        policy.covers(Failure::Connect)
    })
}

/// Gives back what the attempt held, so that the next one does not wait for itself.
fn over(ctx: &mut Context, repeated: bool) {
    if repeated {
        ctx.pick = None;
    }
}

/// The origin answered.
///
/// # Errors
/// The answer is dropped: another attempt follows.
pub(super) fn answered(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    response: &ResponseHeader,
) -> Result<()> {
    if !to_client::is_final(response.status) {
        return Ok(());
    }
    ctx.try_ends();
    let status = response.status.as_u16();
    ctx.report(Outcome::Answered(meaning(ctx, response)));
    if let Some(pick) = &ctx.pick {
        pick.answered();
    }
    let given_up = again(session, ctx, limits, |policy| {
        policy.covers_response(status, &response.headers)
    });
    if given_up {
        ctx.trace_end(Some(status));
        ctx.retrying.given_up = true;
        return Err(Error::explain(ErrorType::HTTPStatus(status), "to be retried").into_up());
    }
    to_client::note(ctx, response);
    Ok(())
}

/// An attempt failed on an open connection.
pub(super) fn failed(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let given_up = std::mem::take(&mut ctx.retrying.given_up);
    let repeated = given_up || breaks(session, ctx, limits, &error, reused);
    ctx.trace_end(None);
    ctx.try_ends();
    over(ctx, repeated);
    error.set_retry(repeated);
    error
}

/// Whether an attempt that broke is repeated.
fn breaks(
    session: &Session,
    ctx: &mut Context,
    limits: &Limits,
    error: &Error,
    reused: bool,
) -> bool {
    // Whoever named a cause has decided the request, but for the client's own failures.
    if ctx.cause.is_some() {
        return false;
    }
    let Some(failure) = failure(error, ctx) else {
        if ctx.is_late() {
            ctx.report(Outcome::TimedOut);
        }
        return false;
    };
    let is_unseen = failure == Failure::Refused && is_unseen(ctx, error);
    let is_harmless = is_unseen || is_harmless(session, ctx, error, failure, reused);
    if is_harmless
        && is_repeatable(session, ctx, limits)
        && ctx.retrying.replays < REPLAYS
        && !is_exhausted(ctx, limits)
    {
        ctx.retrying.replays += 1;
        return true;
    }
    let (kind, message) = cause(error, ctx);
    ctx.note(kind, message);
    ctx.trace_end(None);
    ctx.report(match failure {
        Failure::PerTryTimeout => Outcome::TimedOut,
        _ => Outcome::Reset,
    });
    again(session, ctx, limits, |policy| policy.covers(failure))
}

/// Whether the origin has not looked at the request, for a reason that is none of the request's:
/// the connection ends, or it was given too many streams before it had said how many it allows.
fn is_unseen(ctx: &mut Context, error: &Error) -> bool {
    is_going_away(error) || ctx.pick.as_mut().is_some_and(Pick::refused)
}

/// Whether the request met a connection that its origin was just closing, and sending it again
/// does no harm: it has no side effects, or the origin cannot have worked on it.
fn is_harmless(
    session: &Session,
    ctx: &Context,
    error: &Error,
    failure: Failure,
    reused: bool,
) -> bool {
    let mut retry = error.retry;
    retry.decide_reuse(reused);
    match failure {
        Failure::BeforeRequest => reused,
        // Pingora's word for what happens to connections that were idle.
        Failure::Reset => {
            reused && retry.retry() && !ctx.upgrade && session.req_header().method.is_idempotent()
        }
        Failure::Refused | Failure::Connect | Failure::PerTryTimeout => false,
    }
}

/// How the origin failed, if it was the origin, and in time.
fn failure(error: &Error, ctx: &Context) -> Option<Failure> {
    use ErrorType::*;
    if ctx.is_late() {
        return None;
    }
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ReadTimedout | ReadError) if ctx.is_try_late() => {
            Some(Failure::PerTryTimeout)
        }
        (ErrorSource::Upstream, _) if is_refused(error) => Some(Failure::Refused),
        (ErrorSource::Upstream, WriteError | WriteTimedout) if !ctx.head_sent => {
            Some(Failure::BeforeRequest)
        }
        (ErrorSource::Upstream, _) => Some(Failure::Reset),
        _ => None,
    }
}

/// The status that outlier detection counts: a gRPC status that comes with the head is mapped as
/// Envoy does.
fn meaning(ctx: &Context, response: &ResponseHeader) -> u16 {
    let grpc = response
        .headers
        .get("grpc-status")
        .filter(|_| ctx.asks_grpc());
    let grpc = grpc.and_then(|status| status.to_str().ok()?.parse::<u16>().ok());
    match grpc {
        None => response.status.as_u16(),
        Some(0) => 200,
        Some(1) => 499,
        Some(3 | 9 | 11) => 400,
        Some(4) => 504,
        Some(5) => 404,
        Some(6 | 10) => 409,
        Some(7) => 403,
        Some(8) => 429,
        Some(12) => 501,
        Some(14) => 503,
        Some(16) => 401,
        Some(_) => 500,
    }
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
        (ErrorSource::Downstream, ReadTimedout | ReadError) if ctx.is_try_late() => (
            CauseKind::UpstreamPerTryTimeout,
            endpoint_message(ctx, "did not begin to answer within perTryTimeout"),
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
        (ErrorSource::Downstream, _) if is_released(error) => (
            CauseKind::Released,
            "the process ends and releases its tunnels".into(),
        ),
        (ErrorSource::Downstream, _) => (CauseKind::ClientDisconnect, "the client left".into()),
        _ => (CauseKind::Internal, error.to_string().into()),
    }
}

/// Whether reading from the client failed because its tunnel was released.
fn is_released(error: &Error) -> bool {
    let root = error.root_cause().downcast_ref::<std::io::Error>();
    root.and_then(std::io::Error::get_ref)
        .is_some_and(|inner| inner.is::<Released>())
}

fn h2_error(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref()
}

/// Whether the origin says that it has not looked at the request (RFC 9113 section 8.7).
fn is_refused(error: &Error) -> bool {
    let is_refused = h2_error(error).is_some_and(|cause| {
        cause.is_reset() && cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM)
    });
    is_refused || is_going_away(error)
}

/// Whether the origin closes the connection in good order and never began with the request.
/// The h2 crate gives this error to streams above the `GOAWAY`'s last one only.
fn is_going_away(error: &Error) -> bool {
    h2_error(error).is_some_and(|cause| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Whether the origin reset the stream, as opposed to losing the whole connection.
fn is_reset(error: &Error) -> bool {
    h2_error(error).is_none_or(|cause| cause.is_reset() || cause.is_go_away())
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
        ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => {
            let context = error
                .context
                .as_ref()
                .map_or("", |context| context.as_str());
            handshake_failure(context).into()
        }
        other => format!("delayed connect error: {}", other.as_str()).into(),
    }
}
