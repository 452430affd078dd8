//! What to remove, set and add, ready to run.

use http::{HeaderName, HeaderValue};

/// Edits in the order they run: all levels' removals first within a level, then sets, then adds.
/// `compile` has already put the levels in Istio's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeaderEdits(pub Vec<HeaderEdit>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HeaderEdit {
    Remove(HeaderName),
    /// Replaces every value of the name.
    Set(HeaderName, ValueTemplate),
    /// Appends a value.
    Add(HeaderName, ValueTemplate),
}

/// A header value, with Envoy's `%…%` substitutions already parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueTemplate {
    Literal(HeaderValue),
    Parts(Vec<TemplatePart>),
}

/// One piece of a value with substitutions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TemplatePart {
    Text(String),
    /// `%REQ(main?alternative):max%`
    Request {
        name: String,
        alternative: Option<String>,
        max: Option<usize>,
    },
    /// `%RESP(name)%`; empty on the request side.
    Response {
        name: String,
        alternative: Option<String>,
        max: Option<usize>,
    },
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    Protocol,
    ResponseCode,
    ResponseFlags,
    RouteName,
    UpstreamCluster,
    UpstreamHost,
    UpstreamRemoteAddress,
    Hostname,
    StartTime,
}

impl TemplatePart {
    /// The operators without arguments, by the names Envoy gives them.
    pub const OPERATORS: [(&'static str, Self); 14] = [
        ("DOWNSTREAM_REMOTE_ADDRESS", Self::DownstreamRemoteAddress),
        (
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
            Self::DownstreamRemoteAddressWithoutPort,
        ),
        ("DOWNSTREAM_LOCAL_ADDRESS", Self::DownstreamLocalAddress),
        (
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
            Self::DownstreamLocalAddressWithoutPort,
        ),
        ("DOWNSTREAM_LOCAL_PORT", Self::DownstreamLocalPort),
        ("PROTOCOL", Self::Protocol),
        ("RESPONSE_CODE", Self::ResponseCode),
        ("RESPONSE_FLAGS", Self::ResponseFlags),
        ("ROUTE_NAME", Self::RouteName),
        ("UPSTREAM_CLUSTER", Self::UpstreamCluster),
        ("UPSTREAM_HOST", Self::UpstreamHost),
        ("UPSTREAM_REMOTE_ADDRESS", Self::UpstreamRemoteAddress),
        ("HOSTNAME", Self::Hostname),
        ("START_TIME", Self::StartTime),
    ];

    /// The part's name; `REQ` and `RESP` for headers, empty for text.
    pub fn operator(&self) -> &'static str {
        match self {
            Self::Text(_) => "",
            Self::Request { .. } => "REQ",
            Self::Response { .. } => "RESP",
            plain => Self::OPERATORS
                .iter()
                .find(|(_, part)| part == plain)
                .map_or("", |(name, _)| name),
        }
    }
}
