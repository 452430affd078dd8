//! Sockets: listening ports that open and close at run time, and what happens to a client
//! connection before and between its requests.
//!
//! [`Listeners`] owns the ports and gives their sockets to a successor. Every connection they
//! accept is wrapped in a [`socket`] that counts bytes, holds the head to its total deadline and
//! records what Pingora's parser answers before any hook; [`serve`] tells HTTP/2 from HTTP/1 and
//! waits between requests, so that an idle connection costs little; [`http2`] accepts streams. Requests themselves go to the
//! one application that `server` handed in; it finds its [`Connection`] in the session's digest.
//! Connections that are not HTTP go to a [`StreamHandler`].

mod connection;
mod digests;
mod error;
mod frames;
mod handshakes;
mod head;
mod http2;
mod limits;
mod patience;
mod ports;
mod proxy_protocol;
mod serve;
mod shared;
mod socket;
mod stream;
mod tls;
mod tunnels;

pub use connection::{Connection, ConnectionObserver, EarlyRefusal};
pub use error::{ListenerError, ListenerOutcome};
pub use http2::PingRule;
pub use limits::ListenerLimits;
pub use ports::Listeners;
pub use proxy_protocol::ProxyProtocol;
pub use stream::StreamHandler;
pub use tls::{HandshakeError, PassedHello, PeerCertificate, TlsDetails};
pub use tunnels::{Released, Streaming};

#[cfg(test)]
mod tests;
