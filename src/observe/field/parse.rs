//! Reading the operators of an access log format.
//!
//! The grammar is Envoy's: `NAME`, `NAME(argument)`, `NAME(argument):length`. An operator that is not
//! known is refused by name, so that no column of a log is silently empty.

use http::HeaderName;
use jiff::fmt::strtime;

use super::{Field, GrpcText, Header, Shown, Socket, timestamp};

/// Headers that hold secrets; a format that names one is refused.
const SECRET: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

impl Field {
    /// Reads an operator without its percent signs.
    pub(in crate::observe) fn parse(operator: &str) -> Result<Self, String> {
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
            return with_argument(name, argument, length);
        }
        if let Some(address) = address(&operator) {
            return Ok(address);
        }
        Ok(match operator.as_str() {
            "START_TIME" => Self::StartTime,
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Self::ResponseCodeDetails,
            // Envoy sets them when a connection is ended by a TCP or TLS policy or does not shake
            // hands; no HTTP request comes of that.
            "CONNECTION_TERMINATION_DETAILS" | "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => {
                Self::ConnectionTerminationDetails
            }
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamTransportFailureReason,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "REQUEST_DURATION" => Self::RequestDuration,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "RESPONSE_TX_DURATION" => Self::ResponseTxDuration,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "DOWNSTREAM_TLS_VERSION" => Self::DownstreamTlsVersion,
            "DOWNSTREAM_TLS_CIPHER" => Self::DownstreamTlsCipher,
            "DOWNSTREAM_PEER_SUBJECT" => Self::DownstreamPeerSubject,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::UpstreamRequestAttemptCount,
            "HOSTNAME" => Self::Constant(variable("HOSTNAME")),
            "REQUESTED_SERVER_NAME" => Self::RequestedServerName,
            "ROUTE_NAME" => Self::RouteName,
            "GRPC_STATUS" => Self::GrpcStatus(GrpcText::Camel),
            "GRPC_STATUS_NUMBER" => Self::GrpcStatusNumber,
            "TRACE_ID" => Self::TraceId,
            "PINGRESS_CAUSE" => Self::Cause,
            "PINGRESS_CAUSE_MESSAGE" => Self::CauseMessage,
            "PINGRESS_CAUSE_OWNER" => Self::CauseOwner,
            "REQ" | "REQ_WITHOUT_QUERY" | "RESP" | "QUERY_PARAM" | "ENVIRONMENT" => {
                return Err(format!(
                    "`%{operator}%` needs an argument in parentheses, as in `%{operator}(X)%`"
                ));
            }
            _ => return Err(unknown(&operator)),
        })
    }
}

fn unknown(operator: &str) -> String {
    format!("`%{operator}%` is not an operator this gateway knows")
}

/// `UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT` and its like.
fn address(operator: &str) -> Option<Field> {
    let ends = [
        ("_ADDRESS", Shown::Whole),
        ("_ADDRESS_WITHOUT_PORT", Shown::WithoutPort),
        ("_PORT", Shown::Port),
    ];
    let sockets = [
        ("DOWNSTREAM_LOCAL", Socket::DownstreamLocal),
        ("DOWNSTREAM_REMOTE", Socket::DownstreamRemote),
        ("DOWNSTREAM_DIRECT_REMOTE", Socket::DownstreamDirectRemote),
        ("UPSTREAM_LOCAL", Socket::UpstreamLocal),
        ("UPSTREAM_REMOTE", Socket::UpstreamRemote),
    ];
    if operator == "UPSTREAM_HOST" {
        return Some(Field::Address(Socket::UpstreamRemote, Shown::Whole));
    }
    sockets.iter().find_map(|(socket, which)| {
        let end = operator.strip_prefix(socket)?;
        let (_, shown) = ends.iter().find(|(known, _)| *known == end)?;
        Some(Field::Address(*which, *shown))
    })
}

fn with_argument(operator: &str, argument: &str, length: Option<usize>) -> Result<Field, String> {
    match operator {
        "ENVIRONMENT" => return Ok(Field::Constant(variable(argument))),
        "START_TIME" => return start_time(argument),
        "GRPC_STATUS" => {
            return match argument {
                "CAMEL_STRING" => Ok(Field::GrpcStatus(GrpcText::Camel)),
                "SNAKE_STRING" => Ok(Field::GrpcStatus(GrpcText::Snake)),
                "NUMBER" => Ok(Field::GrpcStatusNumber),
                _ => Err(format!(
                    "`{argument}` is not a form of GRPC_STATUS; write CAMEL_STRING, SNAKE_STRING or NUMBER"
                )),
            };
        }
        "QUERY_PARAM" => {
            return Ok(Field::QueryParameter {
                name: argument.into(),
                length,
            });
        }
        "REQ" | "REQ_WITHOUT_QUERY" | "RESP" => {}
        _ => return Err(unknown(&format!("{operator}({argument})"))),
    }
    let (name, alternative) = match argument.split_once('?') {
        Some((name, alternative)) => (name, Some(Header::parse(alternative)?)),
        None => (argument, None),
    };
    let name = Header::parse(name)?;
    Ok(match operator {
        "REQ" => Field::Request {
            name,
            alternative,
            length,
        },
        "RESP" => Field::Response {
            name,
            alternative,
            length,
        },
        _ => Field::WithoutQuery {
            name,
            alternative,
            length,
        },
    })
}

/// `strftime`'s directives with Envoy's `%3f`, `%6f` and `%9f`.
fn start_time(format: &str) -> Result<Field, String> {
    if format.is_empty() {
        return Ok(Field::StartTime);
    }
    // What can be written of one moment can be written of all.
    let Some(sample) = timestamp(std::time::Duration::ZERO) else {
        return Err("the epoch is no time".into());
    };
    strtime::format(format, sample)
        .map_err(|error| format!("`{format}` is not a format of a time: {error}"))?;
    Ok(Field::FormattedStartTime(format.into()))
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
}

fn variable(name: &str) -> Option<Box<str>> {
    std::env::var(name).ok().map(Into::into)
}
