//! What happens to an HTTP request, one file per step (design section 3).
//!
//! [`Gateway`] implements Pingora's `ProxyHttp`; `server` puts it into one `HttpProxy` with
//! [`server_options`] and [`h2_options`], and every listener hands its connections to that.
//! Steps run in order and leave what they found in the request's context: admit, route, answer,
//! peer, to_origin, attempt, to_client, body, reply, finish. Connections that are not HTTP are served
//! by [`Streams`].

mod admit;
mod answer;
mod attempt;
mod attended;
mod body;
mod compression;
mod connection;
mod context;
mod fault;
mod finish;
mod gateway;
mod grpc_web;
mod guard;
mod hash;
mod known;
mod limits;
mod mirror;
mod names;
mod panics;
mod peer;
mod reply;
mod retry;
mod route;
mod stream;
mod timed;
mod to_client;
mod to_origin;
mod tunnel;

pub use context::Context;
pub use finish::Sink;
pub use gateway::Gateway;
pub use limits::{Limits, MAX_ATTEMPTS, RETRY_BODY, h2_options, server_options};
pub use mirror::MirrorLimits;
pub use stream::{StreamSink, Streams};

#[cfg(test)]
mod tests;
