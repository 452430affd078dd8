//! End to end: the real binary, real sockets, real origins. One file per behaviour.

mod agreement;
mod corpus;
mod failures;
mod forwarding;
mod harness;
#[path = "../hostile/mod.rs"]
mod hostile;
mod operator;
#[path = "../change/mod.rs"]
mod change;
mod routing;
