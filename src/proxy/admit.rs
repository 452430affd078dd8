//! Step 1: may this request be served at all, and what is it?
//!
//! The early request filter pins the plan, checks the head strictly, sets the session's timers,
//! and normalises path, host, client address and forwarding headers, so that every later step
//! reads one value (edge-hardening, rule 1). What it refuses never reaches routing.

use std::borrow::Cow;

use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::context::Context;
use super::limits::Limits;
use crate::base::{CauseKind, clock};
use crate::listener::Connection;
use crate::plan::HttpOptions;

mod h2;
mod head;
mod hop;
pub(super) mod host;
mod identity;
mod target;

pub(super) use identity::{FORWARDED_FOR, REQUEST_ID};

/// Why a request is refused. `message` is for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub kind: CauseKind,
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(kind: CauseKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

fn bad(message: &'static str) -> Refusal {
    Refusal::new(CauseKind::BadRequest, message)
}

fn too_large(message: &'static str) -> Refusal {
    Refusal::new(CauseKind::HeadersTooLarge, message)
}

/// Admits a request, or says why not.
pub(super) fn admit(
    session: &mut Session,
    ctx: &mut Context,
    limits: &Limits,
) -> Result<(), Refusal> {
    ctx.started = clock::now();
    ctx.start = clock::since_epoch();
    ctx.connection = Connection::of(session.digest()).cloned();
    if let Some(connection) = &ctx.connection {
        connection.head_received();
    }
    let serving = ctx.serving.clone();
    let options = &serving.plan.http;
    set_timers(session, limits);
    check(session, ctx, limits, options)?;
    target::normalise(session, ctx, options)?;
    let request = session.req_header();
    ctx.host = lower_case(host::without_port(authority(request)));
    ctx.grpc = is_grpc(request);
    identity::stamp(session, ctx, &serving.plan);
    Ok(())
}

/// `Host` or `:authority` as received; empty for an HTTP/1.0 request without one.
pub(super) fn authority(request: &RequestHeader) -> &str {
    match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or(""),
    }
}

fn check(
    session: &mut Session,
    ctx: &mut Context,
    limits: &Limits,
    options: &HttpOptions,
) -> Result<(), Refusal> {
    if session.is_http2() {
        let expect = h2::check(session.req_header(), limits, options.edge)?;
        if expect {
            hop::expectation(session, ctx)?;
        }
    } else {
        let head = head::check(&session.to_h1_raw(), limits, options.edge)?;
        if head.http10 && !options.http10 {
            return Err(Refusal::new(
                CauseKind::UpgradeRequired,
                "HTTP/1.0 is not served",
            ));
        }
        if head.connection {
            hop::connection(session, ctx)?;
        }
        if head.expect {
            hop::expectation(session, ctx)?;
        }
    }
    match session.req_header().method.as_str() {
        // RFC 9110 section 9.3.8: a trace would show clients what we add for origins.
        "TRACE" | "CONNECT" => Err(Refusal::new(
            CauseKind::MethodNotAllowed,
            "the method is not served",
        )),
        _ => Ok(()),
    }
}

/// Pingora's timers, for this request and the wait after it.
fn set_timers(session: &mut Session, limits: &Limits) {
    // `None` means that this connection must close: the client said so, framing was ambiguous or
    // the listener drains. Setting a value would re-open it.
    if session.get_keepalive().is_some() {
        session.set_keepalive(Some(limits.keepalive_idle.as_secs().max(1)));
    }
    session.set_read_timeout(limits.body_idle);
    session.set_write_timeout(limits.write_stall);
    session.set_total_drain_timeout(Some(limits.drain));
    // Otherwise bytes of the next request would end this one.
    session.set_pipelining_enabled(true);
}

/// The text in lower case, if it is not already.
fn lower_case(text: &str) -> Option<Box<str>> {
    text.bytes()
        .any(|byte| byte.is_ascii_uppercase())
        .then(|| text.to_ascii_lowercase().into())
}

fn is_grpc(request: &RequestHeader) -> bool {
    let Some(kind) = request.headers.get(http::header::CONTENT_TYPE) else {
        return false;
    };
    match kind.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}
