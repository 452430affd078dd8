//! The operators of an access log format (`%START_TIME%`, `%REQ(NAME?ALTERNATIVE):LENGTH%`) and
//! their values for one request.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::out::Out;
use super::record::Record;
use super::redact::Redaction;

/// Headers that hold secrets; a format that names one is refused.
const SECRET: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

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
    Protocol,
    ResponseCode,
    ResponseFlags,
    ResponseCodeDetails,
    ConnectionTerminationDetails,
    UpstreamTransportFailureReason,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    DownstreamLocalAddress {
        port: bool,
    },
    DownstreamRemoteAddress {
        port: bool,
    },
    DownstreamLocalPort,
    DownstreamDirectRemoteAddress {
        port: bool,
    },
    DownstreamTlsVersion,
    DownstreamTlsCipher,
    DownstreamPeerSubject,
    UpstreamHostWithoutPort,
    UpstreamRequestAttemptCount,
    RequestedServerName,
    RouteName,
    GrpcStatus,
    GrpcStatusNumber,
    /// `HOSTNAME` and `ENVIRONMENT(name)`: known when the format is read.
    Constant(Option<Box<str>>),
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
    /// Reads an operator without its percent signs.
    pub(super) fn parse(operator: &str) -> Result<Self, String> {
        let (operator, length) = match operator.rsplit_once("):") {
            Some((head, length)) => {
                let length = length
                    .parse()
                    .map_err(|_| format!("`{length}` is not a length"))?;
                (format!("{head})"), Some(length))
            }
            None => (operator.to_owned(), None),
        };
        if let Some((name, rest)) = operator.split_once('(') {
            let Some(argument) = rest.strip_suffix(')') else {
                return Err(format!("`%{operator}%` lacks its closing parenthesis"));
            };
            return Self::with_argument(name, argument, length);
        }
        Ok(match operator.as_str() {
            "START_TIME" => Self::StartTime,
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Self::ResponseCodeDetails,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTerminationDetails,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamTransportFailureReason,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::UpstreamHost,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "UPSTREAM_LOCAL_ADDRESS" => Self::UpstreamLocalAddress,
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::DownstreamLocalAddress { port: true },
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::DownstreamLocalAddress { port: false },
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::DownstreamRemoteAddress { port: true },
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Self::DownstreamRemoteAddress { port: false }
            }
            "DOWNSTREAM_LOCAL_PORT" => Self::DownstreamLocalPort,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                Self::DownstreamDirectRemoteAddress { port: true }
            }
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                Self::DownstreamDirectRemoteAddress { port: false }
            }
            "DOWNSTREAM_TLS_VERSION" => Self::DownstreamTlsVersion,
            "DOWNSTREAM_TLS_CIPHER" => Self::DownstreamTlsCipher,
            "DOWNSTREAM_PEER_SUBJECT" => Self::DownstreamPeerSubject,
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::UpstreamHostWithoutPort,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::UpstreamRequestAttemptCount,
            "HOSTNAME" => Self::Constant(variable("HOSTNAME")),
            "REQUESTED_SERVER_NAME" => Self::RequestedServerName,
            "ROUTE_NAME" => Self::RouteName,
            "GRPC_STATUS" => Self::GrpcStatus,
            "GRPC_STATUS_NUMBER" => Self::GrpcStatusNumber,
            "PINGRESS_CAUSE" => Self::Cause,
            "PINGRESS_CAUSE_MESSAGE" => Self::CauseMessage,
            "PINGRESS_CAUSE_OWNER" => Self::CauseOwner,
            _ => {
                return Err(format!(
                    "`%{operator}%` is not an operator this gateway knows"
                ));
            }
        })
    }

    fn with_argument(
        operator: &str,
        argument: &str,
        length: Option<usize>,
    ) -> Result<Self, String> {
        if operator == "ENVIRONMENT" {
            return Ok(Self::Constant(variable(argument)));
        }
        let (name, alternative) = match argument.split_once('?') {
            Some((name, alternative)) => (name, Some(Header::parse(alternative)?)),
            None => (argument, None),
        };
        match operator {
            "REQ" => Ok(Self::Request {
                name: Header::parse(name)?,
                alternative,
                length,
            }),
            "RESP" => Ok(Self::Response {
                name: Header::parse(name)?,
                alternative,
                length,
            }),
            _ => Err(format!(
                "`%{operator}({argument})%` is not an operator this gateway knows"
            )),
        }
    }

    /// Gives the value to `out`.
    #[inline]
    pub(super) fn put(&self, record: &Record<'_>, redaction: &Redaction, out: &mut impl Out) {
        match self {
            Self::StartTime => out.time(record.start),
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
            Self::UpstreamHost => put_address(record.upstream_host, true, out),
            Self::UpstreamCluster => put_word(record.cluster.map(|cluster| &*cluster.name), out),
            Self::UpstreamLocalAddress => put_address(record.upstream_local_address, true, out),
            Self::DownstreamLocalAddress { port } => {
                put_address(record.downstream_local_address, *port, out);
            }
            Self::DownstreamRemoteAddress { port } => {
                put_address(record.downstream_remote_address, *port, out);
            }
            Self::DownstreamLocalPort => match record.downstream_local_address {
                Some(address) => out.number(u64::from(address.port())),
                None => out.absent(),
            },
            Self::DownstreamDirectRemoteAddress { port } => {
                put_address(record.downstream_direct_remote_address, *port, out);
            }
            Self::DownstreamTlsVersion => put_text(record.tls.map(|tls| tls.version), out),
            Self::DownstreamTlsCipher => put_text(record.tls.map(|tls| tls.cipher), out),
            Self::DownstreamPeerSubject => put_text(record.tls.and_then(|tls| tls.subject), out),
            Self::UpstreamHostWithoutPort => put_address(record.upstream_host, false, out),
            Self::UpstreamRequestAttemptCount => out.number(u64::from(record.attempts)),
            Self::Constant(text) => put_text(text.as_deref(), out),
            Self::RequestedServerName => put_word(record.requested_server_name, out),
            Self::RouteName => put_word(record.route_name, out),
            Self::GrpcStatus => {
                let name = record
                    .grpc_status
                    .and_then(|status| GRPC_STATUS.get(usize::from(status)));
                put_text(name.copied(), out);
            }
            Self::GrpcStatusNumber => match record.grpc_status {
                Some(status) => out.number(u64::from(status)),
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
    fn parse(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        if SECRET.contains(&lower.as_str()) {
            return Err(format!("`{name}` holds secrets and is never logged"));
        }
        Ok(match lower.as_str() {
            ":method" => Self::Method,
            ":path" | "x-envoy-original-path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            "x-forwarded-for" => Self::ForwardedFor,
            "user-agent" => Self::UserAgent,
            "x-request-id" => Self::RequestId,
            "x-envoy-upstream-service-time" => Self::ServiceTime,
            _ => Self::Other(
                HeaderName::from_bytes(lower.as_bytes())
                    .map_err(|_| format!("`{name}` is not a header name"))?,
            ),
        })
    }

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

fn put_address(address: Option<SocketAddr>, port: bool, out: &mut impl Out) {
    match address {
        None => out.absent(),
        Some(address) if port => out.address(address),
        Some(address) => out.ip(address.ip()),
    }
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

fn variable(name: &str) -> Option<Box<str>> {
    std::env::var(name).ok().map(Into::into)
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
