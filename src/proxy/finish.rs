//! Step 10: the request is over; what happened is recorded and everything held is given back.

use std::borrow::Cow;
use std::time::Instant;

use http::header::USER_AGENT;
use pingora::Error;
use pingora::proxy::Session;

use super::admit::{FORWARDED_FOR, REQUEST_ID, authority};
use super::attempt;
use super::compression;
use super::context::Context;
use super::known::{addresses, downstream_remote, protocol, tls_record};
use super::retry::RetryRefused;
use crate::base::clock;
use crate::observe::record::{Record, TraceRecord};

/// Takes the records of finished requests: the access log, the metrics and the traces.
pub trait Sink: Send + Sync + 'static {
    fn finished(&self, record: &Record<'_>);
    /// A step of a request panicked; its request is finished as well.
    fn panicked(&self) {}
}

/// Envoy prints these before `DI`, and all others after it.
const BEFORE_DELAY: [&str; 7] = ["UH", "UT", "UR", "UF", "UC", "UO", "NR"];

/// Envoy's flags of the cause, of an injected delay, and of a retry that was not made.
fn flags(ctx: &Context) -> Cow<'static, str> {
    let cause = ctx.cause.as_ref().map(|cause| cause.kind.flag());
    let cause = cause.filter(|flag| *flag != "-");
    let delayed = ctx.delayed.then_some("DI");
    let refused = ctx.retrying.refused.map(RetryRefused::flag);
    let [first, second] = match cause.is_some_and(|flag| BEFORE_DELAY.contains(&flag)) {
        true => [cause, delayed],
        false => [delayed, cause],
    };
    let mut all = [first, second, refused].into_iter().flatten();
    match (all.next(), all.next()) {
        (None, _) => Cow::Borrowed(""),
        (Some(only), None) => only.into(),
        (Some(one), Some(other)) => {
            let rest = all.next().map(|flag| format!(",{flag}"));
            format!("{one},{other}{}", rest.unwrap_or_default()).into()
        }
    }
}

/// Records the request. Called exactly once, however it ended.
pub(super) fn finish(sink: &dyn Sink, session: &Session, ctx: &mut Context, error: Option<&Error>) {
    if ctx.panicked {
        sink.panicked();
    }
    if let Some(error) = error
        && ctx.cause.is_none()
    {
        let (kind, message) = attempt::cause(error, ctx);
        ctx.note(kind, message);
    }
    // Given back before anyone can read that the request is over.
    let upstream_host = ctx
        .pick
        .take()
        .filter(|_| ctx.attempts > 0)
        .map(|pick| pick.addr());
    let request = session.req_header();
    let header = |name: &http::HeaderName| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let response = session.response_written();
    let cause = ctx.cause.as_ref();
    let addresses = addresses(session, ctx);
    let since = |moment: Instant| moment.saturating_duration_since(ctx.started);
    let tls = ctx.connection.as_ref().and_then(|it| it.tls());
    let record = Record {
        start: ctx.start,
        method: Some(request.method.as_str()),
        path: std::str::from_utf8(request.raw_path()).ok(),
        protocol: Some(protocol(request.version)),
        status: response.map_or(0, |response| response.status.as_u16()),
        flags: &flags(ctx),
        details: cause.map_or("via_upstream", |cause| cause.kind.details()),
        cause,
        upstream_failure: ctx.upstream_failure.as_deref(),
        bytes_received: session.body_bytes_read() as u64,
        bytes_sent: session.body_bytes_sent() as u64,
        duration: clock::now().saturating_duration_since(ctx.started),
        upstream_service_time: ctx.service_time,
        request_duration: ctx.received_whole.map(since),
        response_duration: ctx.answered.map(since),
        forwarded_for: header(&FORWARDED_FOR),
        user_agent: header(&USER_AGENT),
        request_id: header(&REQUEST_ID),
        authority: Some(authority(request)).filter(|authority| !authority.is_empty()),
        upstream_host,
        cluster: ctx.cluster(),
        upstream_local_address: ctx.upstream_local,
        downstream_local_address: addresses.local,
        downstream_remote_address: downstream_remote(ctx, addresses.remote),
        downstream_direct_remote_address: match &ctx.connection {
            Some(connection) => connection.direct_peer(),
            None => addresses.remote,
        },
        tls: tls.map(tls_record),
        requested_server_name: tls.and_then(|tls| tls.server_name.as_deref()),
        route_name: ctx.route().map(|route| &*route.name),
        attempts: ctx.attempts,
        grpc: ctx.asks_grpc(),
        grpc_status: ctx.grpc_status,
        compression: compression::record(session),
        request_headers: Some(&request.headers),
        response_headers: response.map(|response| &response.headers),
        https: ctx.https,
        trace: match (&ctx.trace, &ctx.plan().tracing) {
            (Some(trace), Some(terms)) => Some(TraceRecord { trace, terms }),
            _ => None,
        },
    };
    sink.finished(&record);
    if let (Some(_), Some(connection)) = (ctx.deadline.or(ctx.try_deadline), &ctx.connection) {
        connection.answer_by(None);
    }
}
