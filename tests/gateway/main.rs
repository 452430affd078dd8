//! End to end: the real binary, real sockets, real origins. One file per behaviour.

mod agreement;
mod balancing;
#[path = "../change/mod.rs"]
mod change;
mod compression;
mod corpus;
mod failures;
mod forwarding;
mod global_limits;
mod harness;
mod hashing;
mod health;
#[path = "../hostile/mod.rs"]
mod hostile;
mod logging;
mod metrics;
mod operator;
mod origin_tls;
mod page;
mod policies;
mod rate_limits;
mod routing;
mod shared_limits;
mod streams;
mod tls;
mod tracing;
