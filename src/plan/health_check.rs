//! How the endpoints of a cluster are probed: what a HealthCheckPolicy comes to.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ObjectKey, Origin};

use super::OriginTls;

/// The active check of a cluster, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Shared by the clusters of a host, so that an address of several is probed once.
    pub probe: Arc<Probe>,
    pub object: ObjectKey,
    pub origin: Origin,
}

/// What is sent to an endpoint, how often, and what its answers mean. Equal probes of one
/// address are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    pub kind: ProbeKind,
    /// As the cluster's requests have it.
    pub tls: Option<ProbeTls>,
    /// From the begin of one probe to that of the next, at least.
    pub interval: Duration,
    /// At most so much is added to each interval, at random.
    pub jitter: Duration,
    /// For the whole probe, from connecting to the end of the answer.
    pub timeout: Duration,
    /// Passed probes in a row that bring a failing endpoint back.
    pub healthy_threshold: u32,
    /// Failed probes in a row that take an endpoint out of traffic.
    pub unhealthy_threshold: u32,
}

/// TLS of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeTls {
    pub tls: Arc<OriginTls>,
    /// Where TLS depends on a request's host, this one: the Host header, or the cluster's own.
    pub host: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// The connection can be made.
    Tcp {
        /// Probed instead of the endpoint's own.
        port: Option<u16>,
    },
    /// A GET is answered with an expected status.
    Http(HttpProbe),
    /// `grpc.health.v1.Health/Check` answers SERVING, over HTTP/2.
    Grpc {
        /// The service asked about; empty is the server as a whole.
        service: Box<str>,
        port: Option<u16>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// With the query, if any.
    pub path: Box<str>,
    /// The Host header.
    pub host: Box<str>,
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Statuses that pass.
    pub expected: Vec<RangeInclusive<u16>>,
    pub port: Option<u16>,
    /// HTTP/2, as the cluster's requests.
    pub http2: bool,
}

impl ProbeKind {
    /// The port that is probed instead of the endpoint's own.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port } | Self::Grpc { port, .. } => *port,
            Self::Http(probe) => probe.port,
        }
    }
}

/// In one line, for the operator.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ProbeKind::Tcp { .. } => write!(f, "tcp")?,
            ProbeKind::Http(HttpProbe { path, host, .. }) => write!(f, "http {host}{path}")?,
            ProbeKind::Grpc { service, .. } if service.is_empty() => write!(f, "grpc")?,
            ProbeKind::Grpc { service, .. } => write!(f, "grpc {service}")?,
        }
        if self.tls.is_some() {
            write!(f, " over TLS")?;
        }
        if let Some(port) = self.kind.port() {
            write!(f, " on port {port}")?;
        }
        write!(
            f,
            " every {:?}, within {:?}, out after {}, back after {}",
            self.interval, self.timeout, self.unhealthy_threshold, self.healthy_threshold
        )
    }
}
