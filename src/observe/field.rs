//! The operators of an access log format (`%START_TIME%`, `%REQ(NAME?ALTERNATIVE):LENGTH%`) and
//! their values for one request.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::fmt::strtime;

use super::out::Out;
use super::record::Record;
use super::redact::Redaction;
use crate::base::grpc;

mod parse;

/// gRPC's status names, by number, as Envoy prints them.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// One operator.
#[derive(Clone, Debug)]
pub(super) enum Field {
    StartTime,
    /// In the directives of `strftime`, which `parse` has tried.
    FormattedStartTime(Box<str>),
    Protocol,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    UpstreamCluster,
    Address(Socket, Shown),
    DownstreamTlsVersion,
    DownstreamTlsCipher,
    DownstreamPeerSubject,
    UpstreamRequestAttemptCount,
    RequestedServerName,
    RouteName,
    GrpcStatus(GrpcText),
    GrpcStatusNumber,
    TraceId,
    /// `HOSTNAME` and `ENVIRONMENT(name)`: known when the format is read.
    Constant(Option<Box<str>>),
    /// A parameter of the query.
    QueryParameter {
        name: Box<str>,
        length: Option<usize>,
    },
    /// A header's value up to its question mark.
    WithoutQuery {
        name: Header,
        alternative: Option<Header>,
        length: Option<usize>,
    },
    /// Ours: the stable code of the cause of a local answer, its sentence, and who owns it.
    Cause,
    CauseMessage,
    CauseOwner,
    Request {
        name: Header,
        alternative: Option<Header>,
        length: Option<usize>,
    },
    Response {
        name: Header,
        alternative: Option<Header>,
        length: Option<usize>,
    },
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    DownstreamLocal,
    DownstreamRemote,
    DownstreamDirectRemote,
    UpstreamLocal,
    UpstreamRemote,
}

/// How much of an address is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Whole,
    WithoutPort,
    Port,
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcText {
    /// `DeadlineExceeded`.
    Camel,
    /// `DEADLINE_EXCEEDED`.
    Snake,
}

/// A header an operator names: those the record holds by themselves, or any other.
#[derive(Clone, Debug)]
pub(super) enum Header {
    Method,
    Path,
    Authority,
    ForwardedFor,
    UserAgent,
    RequestId,
    ServiceTime,
    Other(HeaderName),
}

/// A header's value.
#[derive(Clone, Copy)]
enum Found<'a> {
    Text(&'a str),
    Number(u64),
}

impl Field {
    /// Gives the value to `out`.
    #[inline]
    pub(super) fn put(&self, record: &Record<'_>, redaction: &Redaction, out: &mut impl Out) {
        match self {
            Self::StartTime => out.time(record.start),
            Self::FormattedStartTime(format) => {
                let time = timestamp(record.start);
                match time.and_then(|time| strtime::format(&**format, time).ok()) {
                    Some(text) => out.text(&text),
                    None => out.absent(),
                }
            }
            Self::Protocol => put_text(record.protocol, out),
            Self::ResponseCode => out.number(u64::from(record.status)),
            // Never absent: Envoy writes `-` in JSON too.
            Self::ResponseFlags if record.flags.is_empty() => out.plain("-"),
            Self::ResponseFlags => out.plain(record.flags),
            Self::ResponseCodeDetails if record.details.is_empty() => out.absent(),
            Self::ResponseCodeDetails => out.plain(record.details),
            // Envoy sets it when a TCP or TLS policy ends a connection; no HTTP request does.
            Self::ConnectionTerminationDetails => out.absent(),
            Self::UpstreamTransportFailureReason => match record.upstream_failure {
                Some(reason) => out.reason(reason),
                None => out.absent(),
            },
            Self::BytesReceived => out.number(record.bytes_received),
            Self::BytesSent => out.number(record.bytes_sent),
            Self::Duration => out.number(millis(record.duration)),
            Self::RequestDuration => put_time(record.request_duration, out),
            Self::ResponseDuration => put_time(record.response_duration, out),
            Self::ResponseTxDuration => {
                let begun = record.response_duration;
                put_time(
                    begun.map(|begun| record.duration.saturating_sub(begun)),
                    out,
                );
            }
            Self::UpstreamCluster => put_word(record.cluster.map(|cluster| &*cluster.name), out),
            Self::Address(socket, shown) => put_address(socket.find(record), *shown, out),
            Self::DownstreamTlsVersion => put_text(record.tls.map(|tls| tls.version), out),
            Self::DownstreamTlsCipher => put_text(record.tls.map(|tls| tls.cipher), out),
            Self::DownstreamPeerSubject => put_text(record.tls.and_then(|tls| tls.subject), out),
            Self::UpstreamRequestAttemptCount => out.number(u64::from(record.attempts)),
            Self::Constant(text) => put_text(text.as_deref(), out),
            Self::RequestedServerName => put_word(record.requested_server_name, out),
            Self::RouteName => put_word(record.route_name, out),
            Self::GrpcStatus(text) => {
                let names = match text {
                    GrpcText::Camel => &GRPC_STATUS,
                    GrpcText::Snake => &grpc::STATUSES,
                };
                let status = record.grpc_status.map(usize::from);
                put_text(status.and_then(|it| names.get(it).copied()), out);
            }
            Self::GrpcStatusNumber => match record.grpc_status {
                Some(status) => out.number(u64::from(status)),
                None => out.absent(),
            },
            Self::TraceId => match record.trace {
                Some(traced) => out.plain(&traced.trace.trace_id().to_string()),
                None => out.absent(),
            },
            Self::Cause => put_text(record.cause.map(|cause| cause.kind.code()), out),
            Self::CauseMessage => put_text(record.cause.map(|cause| &*cause.message), out),
            Self::CauseOwner => match record.cause.and_then(|cause| cause.owner.as_ref()) {
                Some(owner) => out.origin(owner),
                None => out.absent(),
            },
            Self::Request {
                name,
                alternative,
                length,
            } => {
                let find = |header: &Header| header.find(record, record.request_headers);
                put_header(
                    find(name).or_else(|| find(alternative.as_ref()?)),
                    *length,
                    redaction,
                    out,
                );
            }
            Self::WithoutQuery {
                name,
                alternative,
                length,
            } => {
                let find = |header: &Header| header.find(record, record.request_headers);
                let found = match find(name).or_else(|| find(alternative.as_ref()?)) {
                    Some(Found::Text(text)) => {
                        Some(Found::Text(text.split('?').next().unwrap_or(text)))
                    }
                    other => other,
                };
                put_header(found, *length, redaction, out);
            }
            Self::QueryParameter { name, length } => {
                let path = redaction.of(record.path.unwrap_or_default());
                let value = query_parameter(&path, name);
                put_text(
                    value.map(|value| length.map_or(value, |length| shorten(value, length))),
                    out,
                );
            }
            Self::Response {
                name,
                alternative,
                length,
            } => {
                let find = |header: &Header| header.find(record, record.response_headers);
                put_header(
                    find(name).or_else(|| find(alternative.as_ref()?)),
                    *length,
                    redaction,
                    out,
                );
            }
        }
    }
}

impl Header {
    fn find<'a>(&self, record: &Record<'a>, headers: Option<&'a HeaderMap>) -> Option<Found<'a>> {
        let text = match self {
            Self::Method => record.method,
            Self::Path => record.path,
            Self::Authority => record.authority,
            Self::ForwardedFor => record.forwarded_for,
            Self::UserAgent => record.user_agent,
            Self::RequestId => record.request_id,
            Self::ServiceTime => {
                return record
                    .upstream_service_time
                    .map(|time| Found::Number(millis(time)));
            }
            Self::Other(name) => headers?
                .get(name)
                .and_then(|value| std::str::from_utf8(value.as_bytes()).ok()),
        };
        text.filter(|text| !text.is_empty()).map(Found::Text)
    }
}

fn put_text(text: Option<&str>, out: &mut impl Out) {
    match text {
        None | Some("") => out.absent(),
        Some(text) => out.text(text),
    }
}

fn put_word(text: Option<&str>, out: &mut impl Out) {
    match text {
        None | Some("") => out.absent(),
        Some(text) => out.word(text),
    }
}

impl Socket {
    fn find(self, record: &Record<'_>) -> Option<SocketAddr> {
        match self {
            Self::DownstreamLocal => record.downstream_local_address,
            Self::DownstreamRemote => record.downstream_remote_address,
            Self::DownstreamDirectRemote => record.downstream_direct_remote_address,
            Self::UpstreamLocal => record.upstream_local_address,
            Self::UpstreamRemote => record.upstream_host,
        }
    }
}

fn put_address(address: Option<SocketAddr>, shown: Shown, out: &mut impl Out) {
    match (address, shown) {
        (None, _) => out.absent(),
        (Some(address), Shown::Whole) => out.address(address),
        (Some(address), Shown::WithoutPort) => out.ip(address.ip()),
        (Some(address), Shown::Port) => out.number(u64::from(address.port())),
    }
}

fn put_time(time: Option<Duration>, out: &mut impl Out) {
    match time {
        Some(time) => out.number(millis(time)),
        None => out.absent(),
    }
}

fn timestamp(since_epoch: Duration) -> Option<Timestamp> {
    Timestamp::from_duration(since_epoch.try_into().ok()?).ok()
}

/// The value of the first parameter of that name, as it is written.
fn query_parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn put_header(
    found: Option<Found<'_>>,
    length: Option<usize>,
    redaction: &Redaction,
    out: &mut impl Out,
) {
    match found {
        None => out.absent(),
        Some(Found::Number(number)) => out.number_text(number),
        Some(Found::Text(text)) => {
            let text = &*redaction.of(text);
            out.text(length.map_or(text, |length| shorten(text, length)));
        }
    }
}

/// The longest start of a text that has at most `length` bytes.
fn shorten(text: &str, length: usize) -> &str {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
