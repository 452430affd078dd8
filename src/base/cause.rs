//! Why Pingress itself answered a request.
//!
//! Every answer that did not come from an origin has exactly one cause. It decides
//! status, body, Envoy's response flag and response code details, so that existing
//! dashboards keep working.

use super::Origin;

/// The closed list of causes. Its names are stable: they are a metric label and a log field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CauseKind {
    /// The request head broke RFC 9112 in a way that must be refused.
    BadRequest,
    /// Refused by Pingora's parser before any hook ran.
    EarlyRefusal,
    /// An HTTP/2 request that is malformed (RFC 9113 section 8.1.1): answered with 400 or reset.
    MalformedStream,
    /// `%00` or another target that cannot be normalised.
    BadPath,
    /// HTTP/1.0 without the setting that allows it.
    UpgradeRequired,
    /// The whole head did not arrive in time.
    HeaderTimeout,
    /// The body, or the whole request, did not arrive in time.
    RequestTimeout,
    HeadersTooLarge,
    UriTooLong,
    BodyTooLarge,
    MethodNotAllowed,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// A transfer coding other than `chunked`.
    NotImplemented,
    /// No virtual host or no route (NR).
    RouteNotFound,
    /// The destination names a host, port or subset that does not exist (NC).
    ClusterNotFound,
    /// The cluster has no usable endpoint (UH).
    NoHealthyUpstream,
    /// The connection to the endpoint could not be made (UF).
    UpstreamConnectFailure,
    /// The endpoint closed the connection before answering (UC).
    UpstreamConnectionTermination,
    /// The endpoint reset the stream before answering (UR).
    UpstreamRemoteReset,
    /// The route's timeout passed (UT).
    UpstreamTimeout,
    /// `perTryTimeout` of the last attempt passed (UT).
    UpstreamPerTryTimeout,
    /// The endpoint sent something that is not HTTP (UPE).
    UpstreamProtocolError,
    /// A limit of the cluster's `connectionPool` is reached (UO).
    UpstreamOverflow,
    /// A rule answers 503 because it, or what protects it, could not be compiled.
    Fenced,
    /// The client left before the answer was complete (DC).
    ClientDisconnect,
    /// The Host belongs to another server than the one the TLS handshake chose, and may not be
    /// served on its terms (RFC 9110 section 15.5.20).
    Misdirected,
    /// Too many connections are open.
    ConnectionLimit,
    /// A connection did not begin with the PROXY header that it must have.
    ProxyHeader,
    /// A WebSocket or another stream was ended because the process ends.
    Released,
    /// A bug of ours: the request's handling panicked or failed inside.
    Internal,
    /// A connection that is not HTTP was silent for longer than the cluster allows.
    StreamIdle,
    /// A connection that is not HTTP was older than the cluster allows (DT).
    StreamDuration,
    /// A redirect or direct response that a rule asked for.
    DirectResponse,
    /// `tls.httpsRedirect` of the Gateway.
    HttpsRedirect,
    /// A rule's `fault.abort` (FI). It carries its own status.
    FaultAbort,
    /// An AccessList does not let the client in.
    AccessDenied,
    /// A limit on the rate of requests is reached (RL). Its policy may set another status.
    RateLimited,
    /// A rate limit service says that a limit is reached (RL). Its policy may set another status.
    GlobalRateLimited,
    /// A rate limit service could not be asked, and its policy refuses such requests (RLSE).
    RateLimitUnknown,
    /// A rule's `corsPolicy` answers a browser's preflight.
    CorsPreflight,
}

impl CauseKind {
    /// Stable code for logs and metrics.
    pub fn code(self) -> &'static str {
        use CauseKind::*;
        match self {
            BadRequest => "bad_request",
            EarlyRefusal => "early_refusal",
            MalformedStream => "malformed_stream",
            BadPath => "bad_path",
            UpgradeRequired => "upgrade_required",
            HeaderTimeout => "header_timeout",
            RequestTimeout => "request_timeout",
            HeadersTooLarge => "headers_too_large",
            UriTooLong => "uri_too_long",
            BodyTooLarge => "body_too_large",
            MethodNotAllowed => "method_not_allowed",
            ExpectationFailed => "expectation_failed",
            NotImplemented => "not_implemented",
            RouteNotFound => "route_not_found",
            ClusterNotFound => "cluster_not_found",
            NoHealthyUpstream => "no_healthy_upstream",
            UpstreamConnectFailure => "upstream_connect_failure",
            UpstreamConnectionTermination => "upstream_connection_termination",
            UpstreamRemoteReset => "upstream_remote_reset",
            UpstreamTimeout => "upstream_timeout",
            UpstreamPerTryTimeout => "upstream_per_try_timeout",
            UpstreamProtocolError => "upstream_protocol_error",
            UpstreamOverflow => "upstream_overflow",
            Fenced => "fenced",
            ClientDisconnect => "client_disconnect",
            Misdirected => "misdirected",
            ConnectionLimit => "connection_limit",
            ProxyHeader => "proxy_header",
            Released => "released",
            Internal => "internal",
            StreamIdle => "stream_idle",
            StreamDuration => "stream_duration",
            DirectResponse => "direct_response",
            HttpsRedirect => "https_redirect",
            FaultAbort => "fault_abort",
            CorsPreflight => "cors_preflight",
            RateLimited => "rate_limited",
            GlobalRateLimited => "global_rate_limited",
            RateLimitUnknown => "rate_limit_unknown",
            AccessDenied => "access_denied",
        }
    }

    /// Status of the answer. Redirects, direct responses and faults carry their own.
    pub fn status(self) -> u16 {
        use CauseKind::*;
        match self {
            BadRequest | EarlyRefusal | MalformedStream | BadPath | ProxyHeader => 400,
            AccessDenied => 403,
            RouteNotFound => 404,
            MethodNotAllowed => 405,
            HeaderTimeout | RequestTimeout | StreamIdle | StreamDuration => 408,
            BodyTooLarge => 413,
            UriTooLong => 414,
            ExpectationFailed => 417,
            Misdirected => 421,
            UpgradeRequired => 426,
            RateLimited | GlobalRateLimited => 429,
            HeadersTooLarge => 431,
            Internal | RateLimitUnknown => 500,
            NotImplemented => 501,
            UpstreamProtocolError => 502,
            UpstreamTimeout | UpstreamPerTryTimeout => 504,
            ClientDisconnect => 499,
            DirectResponse | CorsPreflight => 200,
            HttpsRedirect => 301,
            ClusterNotFound
            | NoHealthyUpstream
            | UpstreamConnectFailure
            | UpstreamConnectionTermination
            | UpstreamRemoteReset
            | UpstreamOverflow
            | Fenced
            | FaultAbort
            | ConnectionLimit
            | Released => 503,
        }
    }

    /// Envoy's response flag, or `-`.
    pub fn flag(self) -> &'static str {
        use CauseKind::*;
        match self {
            RouteNotFound => "NR",
            ClusterNotFound => "NC",
            NoHealthyUpstream => "UH",
            UpstreamConnectFailure => "UF",
            UpstreamConnectionTermination => "UC",
            UpstreamRemoteReset => "UR",
            UpstreamTimeout | UpstreamPerTryTimeout => "UT",
            UpstreamProtocolError => "UPE",
            UpstreamOverflow => "UO",
            ClientDisconnect => "DC",
            StreamDuration => "DT",
            FaultAbort => "FI",
            RateLimited | GlobalRateLimited => "RL",
            RateLimitUnknown => "RLSE",
            BadRequest | EarlyRefusal | MalformedStream | HeaderTimeout | BadPath | ProxyHeader => {
                "DPE"
            }
            _ => "-",
        }
    }

    /// Envoy's response code details.
    pub fn details(self) -> &'static str {
        use CauseKind::*;
        match self {
            BadRequest | EarlyRefusal => "http1.codec_error",
            MalformedStream => "http2.violation.of.messaging.rule",
            BadPath => "path_normalization_failed",
            UpgradeRequired => "low_version",
            HeaderTimeout => "request_header_timeout",
            RequestTimeout => "request_overall_timeout",
            HeadersTooLarge => "request_headers_too_large",
            UriTooLong => "uri_too_long",
            BodyTooLarge => "request_payload_too_large",
            MethodNotAllowed => "method_not_allowed",
            ExpectationFailed => "expectation_failed",
            NotImplemented => "not_implemented",
            RouteNotFound => "route_not_found",
            ClusterNotFound => "cluster_not_found",
            NoHealthyUpstream => "no_healthy_upstream",
            UpstreamConnectFailure => {
                "upstream_reset_before_response_started{remote_connection_failure}"
            }
            UpstreamConnectionTermination => {
                "upstream_reset_before_response_started{connection_termination}"
            }
            UpstreamRemoteReset => "upstream_reset_before_response_started{remote_reset}",
            UpstreamTimeout => "response_timeout",
            UpstreamPerTryTimeout => "upstream_per_try_timeout",
            UpstreamProtocolError => "upstream_reset_before_response_started{protocol_error}",
            UpstreamOverflow => "upstream_reset_before_response_started{overflow}",
            Fenced => "pingress_fenced",
            ClientDisconnect => "downstream_remote_disconnect",
            Misdirected => "misdirected_request",
            ConnectionLimit => "connection_limit",
            ProxyHeader => "proxy_header_error",
            Released => "released_while_draining",
            Internal => "internal_error",
            // Envoy's close reasons of its TCP proxy.
            StreamIdle => "tcp_session_idle_timeout",
            StreamDuration => "tcp_proxy_max_downstream_connection_duration_reached",
            DirectResponse | HttpsRedirect => "direct_response",
            FaultAbort => "fault_filter_abort",
            CorsPreflight => "cors_response",
            RateLimited => "local_rate_limited",
            GlobalRateLimited => "request_rate_limited",
            RateLimitUnknown => "rate_limiter_error",
            AccessDenied => "rbac_access_denied_matched_policy[none]",
        }
    }

    /// Body of the answer, as Envoy writes it; empty for most.
    pub fn body(self) -> &'static str {
        use CauseKind::*;
        match self {
            NoHealthyUpstream => "no healthy upstream",
            FaultAbort => "fault filter abort",
            RateLimited => "local_rate_limited",
            AccessDenied => "RBAC: access denied",
            BodyTooLarge => "Payload Too Large",
            UpstreamConnectFailure => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
            }
            UpstreamConnectionTermination => {
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
            }
            UpstreamRemoteReset => {
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset"
            }
            UpstreamProtocolError => {
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error"
            }
            UpstreamOverflow => {
                "upstream connect error or disconnect/reset before headers. reset reason: overflow"
            }
            UpstreamTimeout | UpstreamPerTryTimeout => "upstream request timeout",
            _ => "",
        }
    }
}

/// A cause with what a person needs to mend it.
#[derive(Clone, Debug)]
pub struct Cause {
    pub kind: CauseKind,
    /// One sentence, static or prepared at compile time.
    pub message: std::borrow::Cow<'static, str>,
    /// The rule or object that owns the request, if one was found.
    pub owner: Option<Origin>,
}

impl Cause {
    pub fn new(kind: CauseKind, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            owner: None,
        }
    }

    pub fn owner(mut self, origin: &Origin) -> Self {
        self.owner = Some(origin.clone());
        self
    }
}
