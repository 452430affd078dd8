//! Tracing: whose trace a request belongs to, how it goes on to the origin, and its spans.
//!
//! `proxy` begins a [`Trace`] for each request where the plan traces, tells it of every attempt and
//! asks it for the headers of an origin's request. Once the request is over, the spans of a sampled
//! one are made of its [`Record`](super::Record) and given to the exporter, which never makes a
//! request wait: what it cannot take is dropped and counted.

mod context;
mod dial;
mod export;
mod propagation;
mod spans;

pub use context::{AttemptEnd, Trace};
pub use dial::{Dial, Dialing, Duplex};
pub(super) use export::{Exporter, Tally};
pub use export::{TraceError, TraceOptions, TraceProtocol};
pub(super) use spans::spans;
