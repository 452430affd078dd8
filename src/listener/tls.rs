//! TLS sockets: who a connection is for, and the handshake on that server's terms, if TLS ends here.
//!
//! [`Terminators`] holds an acceptor per server and is replaced with each plan, so that a new
//! certificate counts from the next handshake on and open connections notice nothing. The
//! ClientHello is read here before BoringSSL sees it ([`hello`]), because its name decides which
//! acceptor answers, or that TLS goes on to an origin as it is.

mod acceptor;
mod client;
mod hello;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::tls::SslStream;
use thiserror::Error;
use tokio::io::AsyncReadExt;

use crate::plan::hosts::HostIndex;
use crate::plan::{Plan, TlsService, TlsTerms};

use acceptor::Acceptors;
pub use client::{PeerCertificate, TlsDetails};
use hello::{Hello, Reading};

/// How much of a ClientHello is read before its sender is given up.
const MOST_HELLO: usize = 64 * 1024;

/// What is done on all sockets that are not plaintext HTTP.
#[derive(Default)]
pub(super) struct Terminators {
    sockets: HashMap<SocketAddr, Arc<Terminator>>,
    /// Sockets whose connections are bytes from the first one on.
    plain: HashSet<SocketAddr>,
    /// Kept by their terms, so that sessions can be resumed across plans.
    acceptors: HashMap<Arc<TlsTerms>, Arc<Acceptors>>,
}

/// The servers of one TLS socket.
pub(super) struct Terminator {
    names: HostIndex,
    servers: Vec<Door>,
}

/// What is done with a server's connections.
enum Door {
    Http(Arc<Acceptors>),
    Tcp(Arc<Acceptors>),
    Through { mesh_only: bool },
    Closed,
}

/// What a connection turned out to be.
pub(super) enum Accepted {
    /// TLS ended here, and requests are inside.
    Http(Stream, TlsDetails),
    /// TLS ended here, and bytes are inside.
    Tcp(Stream, TlsDetails),
    /// TLS goes on as it is; its bytes are all still to be read.
    Through(Stream, PassedHello),
}

/// What the ClientHello of a passed-through connection says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedHello {
    /// SNI, lower-case without a trailing dot.
    pub server_name: Option<Box<str>>,
    /// Whether a protocol of Istio's mutual TLS is offered.
    pub offers_mesh: bool,
}

/// Why a connection ended before its first request.
#[derive(Debug, Error)]
pub enum HandshakeError {
    #[error("the client did not begin with a TLS handshake")]
    NotTls,
    #[error("the client left before the handshake was complete")]
    ClientLeft,
    #[error("the handshake was not complete in time")]
    TimedOut,
    #[error("the source begins more handshakes than gateway.limits.handshakesPerSource")]
    TooMany,
    #[error("no server of this port has the name `{0}`")]
    UnknownName(Box<str>),
    #[error("`{0}` is only for clients that offer a protocol of Istio's mutual TLS")]
    NotOfMesh(Box<str>),
    #[error("the server's certificate could not be had; the findings say why")]
    NoCertificate,
    #[error("{0}")]
    Failed(String),
}

impl HandshakeError {
    /// For the metrics' `result` label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::ClientLeft => "client_left",
            Self::TimedOut => "timeout",
            Self::TooMany => "rate_limited",
            Self::UnknownName(_) => "unknown_name",
            Self::NotOfMesh(_) => "not_of_mesh",
            Self::NoCertificate => "no_certificate",
            Self::Failed(_) => "failed",
        }
    }
}

impl Terminators {
    /// What is done on a plan's sockets; acceptors of equal terms are taken over from `self`.
    /// Terms that BoringSSL refuses have none, and the reason is returned.
    pub fn succeeded_by(&self, plan: &Plan) -> (Self, Vec<String>) {
        let mut next = Self {
            plain: plan.tcp.iter().map(|socket| socket.addr).collect(),
            ..Self::default()
        };
        let mut problems = Vec::new();
        for socket in &plan.tls {
            let mut servers = Vec::with_capacity(socket.servers.len());
            for server in &socket.servers {
                let acceptors = server.service.terms().map(|terms| {
                    let known = next.acceptors.get(terms).or(self.acceptors.get(terms));
                    let made = match known {
                        Some(known) => Ok(known.clone()),
                        None => Acceptors::new(terms).map(Arc::new),
                    };
                    if let Ok(made) = &made {
                        next.acceptors.insert(terms.clone(), made.clone());
                    }
                    made
                });
                servers.push(match (acceptors, &server.service) {
                    (Some(Err(error)), _) => {
                        problems.push(format!("TLS for {}: {error}", server.origin));
                        Door::Closed
                    }
                    (Some(Ok(acceptors)), TlsService::Tcp { .. }) => Door::Tcp(acceptors),
                    (Some(Ok(acceptors)), _) => Door::Http(acceptors),
                    (None, TlsService::Passthrough { mesh_only, .. }) => Door::Through {
                        mesh_only: *mesh_only,
                    },
                    (None, _) => Door::Closed,
                });
            }
            let terminator = Terminator {
                names: socket.names.clone(),
                servers,
            };
            next.sockets.insert(socket.addr, Arc::new(terminator));
        }
        (next, problems)
    }

    /// The servers of a socket, if it is one of TLS.
    pub fn of(&self, addr: SocketAddr) -> Option<&Arc<Terminator>> {
        self.sockets.get(&addr)
    }

    /// Whether a socket's connections are bytes from the first one on.
    pub fn is_plain(&self, addr: SocketAddr) -> bool {
        self.plain.contains(&addr)
    }
}

impl Terminator {
    /// Reads the ClientHello and, where TLS ends here, shakes hands on the terms of the server it
    /// names.
    ///
    /// # Errors
    /// Why there is no connection; the client's is closed by dropping it.
    pub async fn accept(&self, stream: Stream) -> Result<Accepted, HandshakeError> {
        let mut stream = stream
            .into_any()
            .downcast::<TcpStream>()
            .map_err(|_| HandshakeError::Failed("the socket is of an unknown kind".to_owned()))?;
        let hello = read_hello(&mut stream).await?;
        let name = hello.server_name.as_deref().unwrap_or_default();
        let unknown = || HandshakeError::UnknownName(name.into());
        let found = self.names.find(name).ok_or_else(unknown)?;
        let (acceptors, is_http) = match self.servers.get(found as usize) {
            Some(Door::Http(acceptors)) => (acceptors, true),
            Some(Door::Tcp(acceptors)) => (acceptors, false),
            Some(Door::Through { mesh_only: true }) if !hello.offers_mesh => {
                return Err(HandshakeError::NotOfMesh(name.into()));
            }
            Some(Door::Through { .. }) => {
                let passed = PassedHello {
                    offers_mesh: hello.offers_mesh,
                    server_name: hello.server_name,
                };
                return Ok(Accepted::Through(stream, passed));
            }
            Some(Door::Closed) | None => return Err(unknown()),
        };
        let ssl = acceptors
            .ssl(hello.takes_ecdsa)
            .ok_or(HandshakeError::NoCertificate)?
            .map_err(|error| HandshakeError::Failed(error.to_string()))?;
        let mut tls = SslStream::new(ssl, *stream)
            .map_err(|error| HandshakeError::Failed(error.to_string()))?;
        tls.accept().await.map_err(|error| match error.io_error() {
            Some(_) => HandshakeError::ClientLeft,
            None => HandshakeError::Failed(error.to_string()),
        })?;
        let details = TlsDetails::new(tls.ssl(), hello.server_name, acceptors.terms.clone());
        Ok(match is_http {
            true => Accepted::Http(Box::new(tls), details),
            false => Accepted::Tcp(Box::new(tls), details),
        })
    }
}

/// Reads until the whole ClientHello is there, and puts it back.
async fn read_hello(stream: &mut TcpStream) -> Result<Hello, HandshakeError> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        let read = stream.read_buf(&mut bytes).await;
        if !matches!(read, Ok(count) if count > 0) {
            return Err(HandshakeError::ClientLeft);
        }
        match hello::read(&bytes) {
            Reading::Done(hello) => {
                stream.rewind(&bytes);
                return Ok(hello);
            }
            Reading::More if bytes.len() < MOST_HELLO => {}
            Reading::More | Reading::NotTls => return Err(HandshakeError::NotTls),
        }
    }
}
