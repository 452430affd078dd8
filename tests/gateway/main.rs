//! End to end: the real binary, real sockets, real origins. One file per behaviour.

mod agreement;
#[path = "../change/mod.rs"]
mod change;
mod corpus;
mod failures;
mod forwarding;
mod harness;
mod hashing;
mod health;
#[path = "../hostile/mod.rs"]
mod hostile;
mod operator;
mod policies;
mod routing;
mod streams;
mod tls;
