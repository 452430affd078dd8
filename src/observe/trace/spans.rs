//! The spans of a finished request: one for the request, one for each attempt at an origin.
//!
//! Names of attributes are OpenTelemetry's semantic conventions for HTTP; what they have no name
//! for has Envoy's, so that queries written for an Istio gateway find it.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::observe::record::{Record, TraceRecord};
use crate::observe::redact::Redaction;
use crate::observe::requests::Workload;
use crate::plan::tracing::{CustomTag, TagValue};

use super::context::{Attempt, Trace};

/// Methods that the conventions know (RFC 9110, RFC 5789); others are `_OTHER`, so that a client
/// cannot make up names of spans.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// The spans of a request that is sampled; the request's own comes last.
pub(in crate::observe) fn spans(
    record: &Record<'_>,
    traced: TraceRecord<'_>,
    workload: &Workload,
    redaction: &Redaction,
) -> impl Iterator<Item = SpanData> {
    let TraceRecord { trace, .. } = traced;
    let last = trace.attempts.len().saturating_sub(1);
    let attempts = trace
        .attempts
        .iter()
        .enumerate()
        .map(move |(index, attempt)| of_attempt(record, trace, index, attempt, index == last));
    let own = of_request(record, traced, workload, redaction);
    attempts.chain(std::iter::once(own))
}

fn of_request(
    record: &Record<'_>,
    TraceRecord { trace, terms }: TraceRecord<'_>,
    workload: &Workload,
    redaction: &Redaction,
) -> SpanData {
    let mut attributes = Vec::with_capacity(32);
    let mut put = |key: &'static str, value: Value| attributes.push(KeyValue::new(key, value));
    let (known, original) = method(record);
    put("http.request.method", known.into());
    if let Some(original) = original {
        put("http.request.method_original", original.to_owned().into());
    }
    let shown = redaction.of(record.path.unwrap_or("/"));
    let (path, query) = match shown.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*shown, None),
    };
    put("url.path", path.to_owned().into());
    if let Some(query) = query {
        put("url.query", query.to_owned().into());
    }
    put(
        "url.scheme",
        if record.https { "https" } else { "http" }.into(),
    );
    if let Some((host, port)) = record.authority.map(host_and_port) {
        put("server.address", host.to_owned().into());
        let default = if record.https { 443 } else { 80 };
        put("server.port", i64::from(port.unwrap_or(default)).into());
    }
    if record.status > 0 {
        put("http.response.status_code", i64::from(record.status).into());
    }
    if let Some(version) = record.protocol.and_then(|it| it.strip_prefix("HTTP/")) {
        put("network.protocol.name", "http".into());
        put("network.protocol.version", version.to_owned().into());
    }
    if let Some(client) = record.downstream_remote_address {
        put("client.address", client.ip().to_string().into());
    }
    if let Some(peer) = record.downstream_direct_remote_address {
        put("network.peer.address", peer.ip().to_string().into());
        put("network.peer.port", i64::from(peer.port()).into());
    }
    if let Some(agent) = record.user_agent {
        put("user_agent.original", agent.to_owned().into());
    }
    put("http.request.body.size", size(record.bytes_received));
    put("http.response.body.size", size(record.bytes_sent));
    if let Some(status) = record.grpc_status.filter(|_| record.grpc) {
        put("rpc.grpc.status_code", i64::from(status).into());
    }
    if let Some(id) = record.request_id {
        put("guid:x-request-id", id.to_owned().into());
    }
    if let Some(name) = record.route_name.filter(|name| !name.is_empty()) {
        put("route_name", name.to_owned().into());
    }
    if let Some(cluster) = record.cluster {
        put("upstream_cluster", cluster.name.to_string().into());
        put("upstream_cluster.name", cluster.name.to_string().into());
    }
    if let Some(address) = record.upstream_host {
        put("upstream_address", address.to_string().into());
    }
    let flags = if record.flags.is_empty() {
        "-"
    } else {
        record.flags
    };
    put("response_flags", flags.to_owned().into());
    let error = match record.cause {
        Some(cause) if record.status == 0 || record.status >= 500 => {
            Some(Cow::Borrowed(cause.kind.code()))
        }
        _ if record.status >= 500 => Some(Cow::Owned(record.status.to_string())),
        _ => None,
    };
    if let Some(error) = &error {
        put("error.type", error.clone().into_owned().into());
    }
    if terms.istio_tags {
        put(
            "istio.canonical_service",
            workload.canonical_service.clone().into(),
        );
        put(
            "istio.canonical_revision",
            workload.canonical_revision.clone().into(),
        );
        put("istio.namespace", workload.namespace.clone().into());
        put("istio.cluster_id", workload.cluster.clone().into());
    }
    for tag in terms.tags.iter().filter_map(|tag| custom(tag, record)) {
        // A name may stand only once (OTLP), and the user's own word counts.
        attributes.retain(|other| other.key != tag.key);
        attributes.push(tag);
    }
    let status = match (error, record.cause) {
        (None, _) => Status::Unset,
        (Some(_), Some(cause)) => Status::error(cause.message.clone()),
        (Some(_), None) => Status::error(""),
    };
    let name = match record.route_name.filter(|name| !name.is_empty()) {
        Some(route) => Cow::Owned(format!("{} {route}", span_method(known))),
        None => Cow::Borrowed(span_method(known)),
    };
    span(Shape {
        trace,
        span_id: trace.span_id,
        parent: trace.parent.unwrap_or(SpanId::INVALID),
        parent_is_remote: trace.parent.is_some(),
        kind: SpanKind::Server,
        name,
        from: record.start,
        until: record.start + record.duration,
        attributes,
        status,
    })
}

fn of_attempt(
    record: &Record<'_>,
    trace: &Trace,
    index: usize,
    attempt: &Attempt,
    is_last: bool,
) -> SpanData {
    let mut attributes = Vec::with_capacity(10);
    let mut put = |key: &'static str, value: Value| attributes.push(KeyValue::new(key, value));
    let (known, _) = method(record);
    put("http.request.method", known.into());
    if let Some(cluster) = record.cluster {
        put("server.address", cluster.host.to_string().into());
        put("upstream_cluster", cluster.name.to_string().into());
    }
    put(
        "network.peer.address",
        attempt.address.ip().to_string().into(),
    );
    put(
        "network.peer.port",
        i64::from(attempt.address.port()).into(),
    );
    if index > 0 {
        let count = i64::try_from(index).unwrap_or(i64::MAX);
        put("http.request.resend_count", count.into());
    }
    // The last attempt's answer is the request's, unless the gateway had to answer itself.
    let answered =
        (is_last && record.cause.is_none() && record.status > 0).then_some(record.status);
    let status = attempt.status.or(answered);
    if let Some(status) = status {
        put("http.response.status_code", i64::from(status).into());
    }
    let gave_up = record.cause.filter(|_| is_last && status.is_none());
    let error = match (attempt.failure, status, gave_up) {
        (Some(flag), _, _) => Some(Cow::Borrowed(flag)),
        (None, Some(status), _) if status >= 400 => Some(Cow::Owned(status.to_string())),
        (None, None, Some(cause)) => Some(Cow::Borrowed(cause.kind.code())),
        _ => None,
    };
    if let Some(error) = &error {
        put("error.type", error.clone().into_owned().into());
    }
    span(Shape {
        trace,
        span_id: attempt.span_id,
        parent: trace.span_id,
        parent_is_remote: false,
        kind: SpanKind::Client,
        name: Cow::Borrowed(span_method(known)),
        from: record.start + attempt.from,
        until: record.start + attempt.until.unwrap_or(record.duration),
        attributes,
        status: error.map_or(Status::Unset, |_| Status::error("")),
    })
}

/// What the two kinds of span differ in.
struct Shape<'a> {
    trace: &'a Trace,
    span_id: SpanId,
    parent: SpanId,
    parent_is_remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
    /// Since the Unix epoch.
    from: Duration,
    until: Duration,
    attributes: Vec<KeyValue>,
    status: Status,
}

fn span(shape: Shape<'_>) -> SpanData {
    let at =
        |since: Duration| -> SystemTime { UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH) };
    SpanData {
        span_context: SpanContext::new(
            shape.trace.trace_id,
            shape.span_id,
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        ),
        parent_span_id: shape.parent,
        parent_span_is_remote: shape.parent_is_remote,
        span_kind: shape.kind,
        name: shape.name,
        start_time: at(shape.from),
        end_time: at(shape.until),
        attributes: shape.attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: shape.status,
        instrumentation_scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// The method as attributes tell it, and as it was if that is another.
fn method<'a>(record: &Record<'a>) -> (&'static str, Option<&'a str>) {
    let written = record.method.unwrap_or_default();
    match METHODS.iter().find(|known| **known == written) {
        Some(known) => (*known, None),
        None => ("_OTHER", Some(written)),
    }
}

fn span_method(known: &'static str) -> &'static str {
    if known == "_OTHER" { "HTTP" } else { known }
}

fn size(bytes: u64) -> Value {
    i64::try_from(bytes).unwrap_or(i64::MAX).into()
}

fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        // A colon within brackets is part of an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn custom(tag: &CustomTag, record: &Record<'_>) -> Option<KeyValue> {
    let value = match &tag.value {
        TagValue::Literal(text) => text.to_string(),
        TagValue::Environment { name, default } => match std::env::var(&**name) {
            Ok(value) => value,
            Err(_) => default.as_ref()?.to_string(),
        },
        TagValue::Header { name, default } => {
            let header = record.request_headers.and_then(|all| all.get(name));
            match header.and_then(|value| value.to_str().ok()) {
                Some(value) => value.to_owned(),
                None => default.as_ref()?.to_string(),
            }
        }
    };
    Some(KeyValue::new(tag.name.to_string(), value))
}

#[cfg(test)]
mod tests;
