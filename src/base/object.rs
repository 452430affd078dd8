//! The identity of a user's object: kind, namespace and name.

use std::fmt;
use std::sync::Arc;

/// The kinds of object Pingress reads. `Other` keeps the name of every other kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Gateway,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    Service,
    Endpoints,
    EndpointSlice,
    Pod,
    Secret,
    /// One with a CA in it.
    ConfigMap,
    /// Files that a Gateway names for TLS; not a kind anybody writes.
    TlsFiles,
    AuthorizationPolicy,
    RequestAuthentication,
    EnvoyFilter,
    Telemetry,
    HealthCheckPolicy,
    RateLimit,
    AccessList,
    BodyLimit,
    Compression,
    Other(Arc<str>),
}

impl Kind {
    pub fn as_str(&self) -> &str {
        match self {
            Kind::Gateway => "Gateway",
            Kind::VirtualService => "VirtualService",
            Kind::DestinationRule => "DestinationRule",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::WorkloadEntry => "WorkloadEntry",
            Kind::Service => "Service",
            Kind::Endpoints => "Endpoints",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
            Kind::Secret => "Secret",
            Kind::ConfigMap => "ConfigMap",
            Kind::TlsFiles => "TlsFiles",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::RequestAuthentication => "RequestAuthentication",
            Kind::EnvoyFilter => "EnvoyFilter",
            Kind::Telemetry => "Telemetry",
            Kind::HealthCheckPolicy => "HealthCheckPolicy",
            Kind::RateLimit => "RateLimit",
            Kind::AccessList => "AccessList",
            Kind::BodyLimit => "BodyLimit",
            Kind::Compression => "Compression",
            Kind::Other(name) => name,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kind, namespace and name. Prints as `Kind namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => write!(f, "{} {}", self.kind, self.name),
            false => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
        }
    }
}
