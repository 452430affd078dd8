//! The compiled, immutable routing table, and the one function that decides a request.
//!
//! `compile` builds a [`Plan`]; traffic, `explain`, `check` and the tests ask it with
//! [`Plan::decide`]. Nothing in it can be wrong and nothing in it changes.

pub mod balance;
pub mod cluster;
pub mod decide;
pub mod digest;
pub mod endpoints;
#[cfg(test)]
mod fixture;
pub mod guards;
pub mod health_check;
pub mod hosts;
pub mod origin_tls;
pub mod outlier;
pub mod paths;
pub mod policies;
pub mod pool;
pub mod predicate;
pub mod render;
pub mod retry;
pub mod route;
pub mod stream;
pub mod table;
pub mod tls;
pub mod tracing;
pub mod why;

pub use balance::{Balance, Balancing, HashKey, HashTable};
pub use cluster::{Cluster, ClusterId, Clusters, Protocol, ProxyVersion};
pub use decide::{Decision, Request};
pub use digest::Digest;
pub use endpoints::{ClusterEndpoints, EndpointTable, Resolution};
pub use guards::{
    AccessId, BodyLimitId, Checks, CompressionId, Guarding, Guards, LimitId, Passed, PlacedLimit,
    Policy,
};
pub use health_check::{HealthCheck, HttpProbe, Probe, ProbeKind, ProbeTls};
pub use origin_tls::{OriginRules, OriginTls, ServerName};
pub use outlier::Outlier;
pub use policies::{Mirror, Placed, Policies};
pub use pool::Pool;
pub use predicate::{Predicate, StringMatch, UriMatch};
pub use retry::{Condition, Conditions, Failure, RetryPolicy, RetrySource};
pub use route::{Action, Destination, Fence, Forward, Route, RuleRef, Target};
pub use stream::{Hello, StreamAction, StreamDestination, StreamForward, StreamRoute, TcpSocket};
pub use table::{ForwardClientCert, HttpOptions, Listener, PathNormalization, Plan, VirtualHost};
pub use tls::{
    ClientCertificates, ClientRules, Misdirected, TlsServer, TlsService, TlsSocket, TlsTerms,
    TlsVersion,
};
