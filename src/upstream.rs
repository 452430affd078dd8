//! Clusters at run time: their endpoints, how these are found, and which one is chosen.
//!
//! State is keyed by cluster name and outlives plans: a swap keeps connections, counters and
//! discovered addresses (design 4.5, 4.7).

pub mod cluster;
pub mod serving;

pub use cluster::{ClusterState, EndpointState};
pub use serving::{Serving, Upstreams};
