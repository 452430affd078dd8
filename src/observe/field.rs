//! The operators of an access log format (`%START_TIME%`, `%REQ(NAME?ALTERNATIVE):LENGTH%`) and
//! their values for one request.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::base::Origin;

use super::record::Record;

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
    RequestedServerName,
    RouteName,
    GrpcStatus,
    GrpcStatusNumber,
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

/// What an operator gives for a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Absent,
    Text(&'a str),
    /// Stands without quotes in the default format: spaces must not split it.
    Word(&'a str),
    /// As `Word`, with spaces as underscores, as Envoy writes reasons.
    Reason(&'a str),
    Number(u64),
    /// A number that is a header's text: a string in JSON.
    NumberText(u64),
    Address(SocketAddr),
    Ip(IpAddr),
    Time(Duration),
    Origin(&'a Origin),
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

    pub(super) fn value<'a>(&self, record: &Record<'a>) -> Value<'a> {
        let text = |text: Option<&'a str>| {
            text.filter(|text| !text.is_empty())
                .map_or(Value::Absent, Value::Text)
        };
        let word = |text: Option<&'a str>| {
            text.filter(|text| !text.is_empty())
                .map_or(Value::Absent, Value::Word)
        };
        let address = |address: Option<SocketAddr>, port: bool| match address {
            None => Value::Absent,
            Some(address) if port => Value::Address(address),
            Some(address) => Value::Ip(address.ip()),
        };
        match self {
            Self::StartTime => Value::Time(record.start),
            Self::Protocol => text(record.protocol),
            Self::ResponseCode => Value::Number(u64::from(record.status)),
            // Never absent: Envoy writes `-` in JSON too.
            Self::ResponseFlags => Value::Word(if record.flags.is_empty() {
                "-"
            } else {
                record.flags
            }),
            Self::ResponseCodeDetails => word(Some(record.details)),
            // Envoy sets it when a TCP or TLS policy ends a connection; no HTTP request does.
            Self::ConnectionTerminationDetails => Value::Absent,
            Self::UpstreamTransportFailureReason => {
                record.upstream_failure.map_or(Value::Absent, Value::Reason)
            }
            Self::BytesReceived => Value::Number(record.bytes_received),
            Self::BytesSent => Value::Number(record.bytes_sent),
            Self::Duration => Value::Number(millis(record.duration)),
            Self::UpstreamHost => address(record.upstream_host, true),
            Self::UpstreamCluster => word(record.cluster.map(|cluster| &*cluster.name)),
            Self::UpstreamLocalAddress => address(record.upstream_local_address, true),
            Self::DownstreamLocalAddress { port } => {
                address(record.downstream_local_address, *port)
            }
            Self::DownstreamRemoteAddress { port } => {
                address(record.downstream_remote_address, *port)
            }
            Self::RequestedServerName => word(record.requested_server_name),
            Self::RouteName => word(record.route_name),
            Self::GrpcStatus => text(
                record
                    .grpc_status
                    .and_then(|status| GRPC_STATUS.get(usize::from(status)).copied()),
            ),
            Self::GrpcStatusNumber => record
                .grpc_status
                .map_or(Value::Absent, |status| Value::Number(u64::from(status))),
            Self::Cause => text(record.cause.map(|cause| cause.kind.code())),
            Self::CauseMessage => text(record.cause.map(|cause| &*cause.message)),
            Self::CauseOwner => record
                .cause
                .and_then(|cause| cause.owner.as_ref())
                .map_or(Value::Absent, Value::Origin),
            Self::Request {
                name,
                alternative,
                length,
            } => either(name, alternative.as_ref(), *length, |header| {
                header.value(record, record.request_headers)
            }),
            Self::Response {
                name,
                alternative,
                length,
            } => either(name, alternative.as_ref(), *length, |header| {
                header.value(record, record.response_headers)
            }),
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

    fn value<'a>(&self, record: &Record<'a>, headers: Option<&'a HeaderMap>) -> Value<'a> {
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
                    .map_or(Value::Absent, |time| Value::NumberText(millis(time)));
            }
            Self::Other(name) => headers
                .and_then(|headers| headers.get(name))
                .and_then(|value| std::str::from_utf8(value.as_bytes()).ok()),
        };
        text.filter(|text| !text.is_empty())
            .map_or(Value::Absent, Value::Text)
    }
}

fn either<'a>(
    name: &Header,
    alternative: Option<&Header>,
    length: Option<usize>,
    value: impl Fn(&Header) -> Value<'a>,
) -> Value<'a> {
    let found = match (value(name), alternative) {
        (Value::Absent, Some(alternative)) => value(alternative),
        (found, _) => found,
    };
    match (found, length) {
        (Value::Text(text), Some(length)) => Value::Text(shorten(text, length)),
        _ => found,
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
