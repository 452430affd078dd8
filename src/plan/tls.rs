//! TLS sockets: which server a name belongs to, and whether TLS ends there, on which terms.
//!
//! Each terminated server has a [`Listener`](super::Listener) of its own, that is a route table of
//! its own: a Host of another server is unknown on its
//! connections.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::Origin;
use crate::base::tls_material::{Authorities, Fingerprint, KeyPair, Revocations};

use super::hosts::HostIndex;
use super::stream::StreamRoute;

/// The TLS servers that share a socket.
#[derive(Debug)]
pub struct TlsSocket {
    pub addr: SocketAddr,
    /// The port that the first server declares; all that share a socket declare the same.
    pub declared_port: u16,
    /// Server names (SNI) to indexes of `servers`: exact, longest wildcard, `*`. A client that
    /// sends none is looked up as the empty name.
    pub names: HostIndex,
    pub servers: Vec<TlsServer>,
    /// Whether a server asks for client certificates: then each request's host is looked up, so
    /// that none is reached over a connection that another server's terms were enough for.
    pub has_client_rules: bool,
}

/// The host may not be served on this connection (421).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misdirected;

/// One server of a TLS socket; of a passthrough server, one of its routes.
#[derive(Debug)]
pub struct TlsServer {
    /// The server in its Gateway.
    pub origin: Origin,
    /// `namespace/gateway/port name`, a metric label.
    pub name: Arc<str>,
    pub service: TlsService,
}

/// What is done with a server's connections.
#[derive(Clone, Debug)]
pub enum TlsService {
    /// TLS ends here, and HTTP is inside.
    Http {
        /// Index of the plan's listener that holds its routes.
        listener: usize,
        terms: Arc<TlsTerms>,
    },
    /// TLS ends here, and bytes are inside (protocol TLS).
    Tcp {
        route: Arc<StreamRoute>,
        terms: Arc<TlsTerms>,
    },
    /// TLS goes on to the origin as it is.
    Passthrough {
        route: Arc<StreamRoute>,
        /// Only for clients that offer a protocol of Istio's mutual TLS (AUTO_PASSTHROUGH).
        mesh_only: bool,
    },
    /// Nothing yet: they are closed, and its names go to no other server.
    Unsupported,
}

/// What a handshake agrees on. Equal terms mean that sessions and acceptors may be kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsTerms {
    /// One of RSA and one of ECDSA, or only one. Empty if none could be had: handshakes fail.
    pub pairs: Vec<Arc<KeyPair>>,
    pub client: ClientCertificates,
    pub min: TlsVersion,
    pub max: TlsVersion,
    /// For TLS up to 1.2, as BoringSSL names them; `None` for Envoy's default.
    pub ciphers: Option<Arc<str>>,
}

/// Protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

/// What is asked of clients (`SIMPLE`, `OPTIONAL_MUTUAL`, `MUTUAL`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientCertificates {
    #[default]
    Ignored,
    /// Asked for; verified if one is sent.
    Optional(Arc<ClientRules>),
    Required(Arc<ClientRules>),
}

/// Which client certificates are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientRules {
    /// Whom they must come from. `None` if that could not be had: no certificate is accepted.
    pub authorities: Option<Arc<Authorities>>,
    /// With lists, a certificate whose issuer has none is not accepted.
    pub revocations: Option<Arc<Revocations>>,
    /// If not empty: one of these must be among the certificate's alternative names, exactly.
    pub names: Vec<Arc<str>>,
    /// SHA-256 of public keys and of certificates; if any are given, one must fit.
    pub keys: Vec<Fingerprint>,
    pub certificates: Vec<Fingerprint>,
    /// Accept certificates that cannot be verified.
    pub skip_verification: bool,
}

impl TlsService {
    /// What a handshake agrees on, if TLS ends here.
    pub fn terms(&self) -> Option<&Arc<TlsTerms>> {
        match self {
            Self::Http { terms, .. } | Self::Tcp { terms, .. } => Some(terms),
            Self::Passthrough { .. } | Self::Unsupported => None,
        }
    }

    /// Where the bytes go, if they are not HTTP.
    pub fn route(&self) -> Option<&Arc<StreamRoute>> {
        match self {
            Self::Tcp { route, .. } | Self::Passthrough { route, .. } => Some(route),
            Self::Http { .. } | Self::Unsupported => None,
        }
    }
}

impl ClientCertificates {
    /// The rules, if certificates are asked for.
    pub fn rules(&self) -> Option<&Arc<ClientRules>> {
        match self {
            Self::Ignored => None,
            Self::Optional(rules) | Self::Required(rules) => Some(rules),
        }
    }
}

impl TlsSocket {
    /// The listener that serves a connection's requests for `host`, if any does.
    ///
    /// `name` is what the handshake asked for, `client` what it was asked of the client. Under
    /// `strict`, a host that is another server's is misdirected whatever the terms
    /// (edge-hardening section 7).
    pub fn listener(
        &self,
        name: &str,
        client: &ClientCertificates,
        host: &str,
        strict: bool,
    ) -> Result<Option<usize>, Misdirected> {
        let Some(TlsService::Http { listener, terms }) = self.server(name).map(|it| &it.service)
        else {
            return Ok(None);
        };
        // Its terms may have changed since: the routes of now need the client rules of now.
        if terms.client.rules().is_some() && terms.client != *client {
            return Err(Misdirected);
        }
        if !(strict || self.has_client_rules) {
            return Ok(Some(*listener));
        }
        match self.server(host).map(|owner| &owner.service) {
            Some(TlsService::Http {
                listener: own,
                terms: owner,
            }) if own != listener
                && (strict || (owner.client.rules().is_some() && owner.client != *client)) =>
            {
                Err(Misdirected)
            }
            _ => Ok(Some(*listener)),
        }
    }

    /// The server of a name, lower-case without a trailing dot; the empty name if none was sent.
    pub fn server(&self, name: &str) -> Option<&TlsServer> {
        self.servers.get(self.names.find(name)? as usize)
    }
}
