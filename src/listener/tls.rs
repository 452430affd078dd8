//! TLS that ends here: who a connection is for, and the handshake on that server's terms.
//!
//! [`Terminators`] holds an acceptor per server and is replaced with each plan, so that a new
//! certificate counts from the next handshake on and open connections notice nothing. The
//! ClientHello is read here before BoringSSL sees it ([`hello`]), because its name decides which
//! acceptor answers.

mod acceptor;
mod client;
mod hello;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::tls::SslStream;
use thiserror::Error;
use tokio::io::AsyncReadExt;

use crate::plan::hosts::HostIndex;
use crate::plan::{TlsService, TlsSocket, TlsTerms};

use acceptor::Acceptors;
pub use client::{PeerCertificate, TlsDetails};
use hello::{Hello, Reading};

/// How much of a ClientHello is read before its sender is given up.
const MOST_HELLO: usize = 64 * 1024;

/// The acceptors of all TLS sockets.
#[derive(Default)]
pub(super) struct Terminators {
    sockets: HashMap<SocketAddr, Arc<Terminator>>,
    /// Kept by their terms, so that sessions can be resumed across plans.
    acceptors: HashMap<Arc<TlsTerms>, Arc<Acceptors>>,
}

/// The servers of one socket.
pub(super) struct Terminator {
    names: HostIndex,
    servers: Vec<Option<Arc<Acceptors>>>,
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
    #[error("no server of this port has the name `{0}`")]
    UnknownName(Box<str>),
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
            Self::UnknownName(_) => "unknown_name",
            Self::NoCertificate => "no_certificate",
            Self::Failed(_) => "failed",
        }
    }
}

impl Terminators {
    /// The acceptors for a plan's TLS sockets; those of equal terms are taken over from `self`.
    /// Terms that BoringSSL refuses have none, and the reason is returned.
    pub fn succeeded_by(&self, sockets: &[TlsSocket]) -> (Self, Vec<String>) {
        let mut next = Self::default();
        let mut problems = Vec::new();
        for socket in sockets {
            let mut servers = Vec::with_capacity(socket.servers.len());
            for server in &socket.servers {
                let TlsService::Http { terms, .. } = &server.service else {
                    servers.push(None);
                    continue;
                };
                let known = next.acceptors.get(terms).or(self.acceptors.get(terms));
                let acceptors = match known {
                    Some(known) => known.clone(),
                    None => match Acceptors::new(terms) {
                        Ok(made) => Arc::new(made),
                        Err(error) => {
                            problems.push(format!("TLS for {}: {error}", server.origin));
                            servers.push(None);
                            continue;
                        }
                    },
                };
                next.acceptors.insert(terms.clone(), acceptors.clone());
                servers.push(Some(acceptors));
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
}

impl Terminator {
    /// Reads the ClientHello and shakes hands on the terms of the server it names.
    ///
    /// # Errors
    /// Why there is no TLS connection; the client's is closed by dropping it.
    pub async fn accept(&self, stream: Stream) -> Result<(Stream, TlsDetails), HandshakeError> {
        let mut stream = stream
            .into_any()
            .downcast::<TcpStream>()
            .map_err(|_| HandshakeError::Failed("the socket is of an unknown kind".to_owned()))?;
        let hello = read_hello(&mut stream).await?;
        let name = hello.server_name.as_deref().unwrap_or_default();
        let found = self
            .names
            .find(name)
            .ok_or_else(|| HandshakeError::UnknownName(name.into()))?;
        let acceptors = self
            .servers
            .get(found as usize)
            .and_then(Option::as_ref)
            .ok_or_else(|| HandshakeError::UnknownName(name.into()))?;
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
        Ok((Box::new(tls), details))
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
