//! Clusters at run time: their endpoints, how these are found, and which one is chosen.
//!
//! State is keyed by cluster name and outlives plans: a swap keeps connections, counters and
//! discovered addresses. `server` feeds [`Upstreams`] with plans and endpoint
//! tables; a request holds a [`Serving`], picks with [`ClusterState::pick`] and dials the
//! [`ClusterState::peer`]; `admin` reads [`Upstreams::clusters`].
//!
//! Membership is held as `pingora_load_balancing` backends, the form its health registry
//! takes. Picks do not go through that crate: each of its `select` calls makes four
//! allocations, and its round robin was measured at twenty times a pick from a snapshot, it is
//! blocky, and it sends traffic to weight 0 when it falls back. Least request it does not have.

mod alias;
mod breaker;
mod choice;
pub mod cluster;
mod dial;
pub mod dns;
#[cfg(test)]
mod fixture;
mod group;
mod grpc;
mod health;
mod kept;
mod keys;
mod line;
mod membership;
mod metrics;
mod outcall;
mod outlier;
pub mod peer;
pub mod pick;
mod priority;
mod probe;
mod proxied;
mod queue;
mod retries;
mod schedule;
pub mod serving;
mod shared;
mod snapshot;
mod store;
pub mod stream;
mod sweep;
mod tls;
pub mod view;
mod warmup;

pub use cluster::{ClusterState, EndpointState};
pub use dial::Locals;
#[cfg(test)]
pub(crate) use dns::tests::server as dns_server;
pub use dns::{DnsOptions, IpFamily};
pub use grpc::GrpcCaller;
pub use health::{EjectionView, EndpointHealth, HealthView};
pub use outcall::{ClusterCaller, CopyResult};
pub use outlier::{EjectionCounts, Reason};
pub use peer::{Caller, Wants};
pub use pick::{Ask, Outcome, Pick, Refused};
pub use retries::RetryPermit;
pub use serving::{Serving, Upstreams};
pub use store::RedisStore;
pub use stream::{Dialled, Held, NotDialled};
pub use tls::{accepted, handshake_failure, tls_host};
pub use view::{BreakerView, ClusterView, DnsView, EndpointView};
