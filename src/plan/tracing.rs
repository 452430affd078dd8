//! Which requests are traced, and how a trace goes on to origins.
//!
//! `compile` makes it of the settings and of Telemetry resources; a plan without it traces nothing
//! and costs a request one comparison.

use std::sync::Arc;

use http::HeaderName;

use crate::base::Share;

/// Headers that hold secrets: no tag is made of them.
pub const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
];

/// What applies to the trace of every HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tracing {
    /// Of the requests that come without a decision whether they are traced
    /// (`randomSamplingPercentage`).
    pub sampling: Share,
    /// Headers a trace comes in, the first that is there counts; it goes on in all of them.
    pub propagation: Box<[Propagation]>,
    /// Whether spans are exported (`disableSpanReporting`). The trace goes on to origins in any case.
    pub reports: bool,
    /// Whether spans tell Istio's names of this gateway (`enableIstioTags`).
    pub istio_tags: bool,
    /// Sorted by name, which is unique.
    pub tags: Box<[CustomTag]>,
}

/// A way to tell a trace in headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// `traceparent` and `tracestate` (W3C Trace Context).
    TraceContext,
    /// The one header `b3`.
    B3,
    /// `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled` and so on.
    B3Multi,
}

/// An attribute of the user's own on each request's span (`customTags`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CustomTag {
    pub name: Arc<str>,
    pub value: TagValue,
}

/// Where a tag's value comes from. Without the source and without a default there is no tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagValue {
    Literal(Arc<str>),
    /// A variable of the gateway's environment.
    Environment {
        name: Arc<str>,
        default: Option<Arc<str>>,
    },
    /// A header of the request.
    Header {
        name: HeaderName,
        default: Option<Arc<str>>,
    },
}

impl Default for Tracing {
    /// Istio's: one request of a hundred, in W3C's headers.
    fn default() -> Self {
        Self {
            sampling: Share::of_percent(1.0),
            propagation: [Propagation::TraceContext].into(),
            reports: true,
            istio_tags: true,
            tags: Box::default(),
        }
    }
}

impl Propagation {
    /// As in `gateway.tracing.propagation`; the names of OpenTelemetry's `OTEL_PROPAGATORS`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TraceContext => "tracecontext",
            Self::B3 => "b3",
            Self::B3Multi => "b3multi",
        }
    }
}
