//! The request path over real sockets: a gateway on loopback between raw clients and origins.

mod compression;
mod cors;
mod faults;
mod flags;
mod forwarding;
mod gauge;
mod grpc_web;
mod guards;
mod heads;
mod identity;
mod keeping;
mod limits;
mod local_replies;
mod mirrors;
mod misbehaving;
mod origins;
mod protocols;
mod rate_limits;
mod retries;
mod rig;
mod routes;
mod routing;
mod script;
mod sharing;
mod timeouts;
mod vanishing;
