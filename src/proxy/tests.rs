//! The request path over real sockets: a gateway on loopback between raw clients and origins.

mod forwarding;
mod gauge;
mod heads;
mod identity;
mod limits;
mod local_replies;
mod origins;
mod protocols;
mod retries;
mod rig;
mod routing;
mod script;
mod sharing;
mod timeouts;
