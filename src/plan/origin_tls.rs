//! TLS to origins: what the gateway shows them and what it demands of theirs (DestinationRule
//! `tls`).

use std::fmt;
use std::sync::Arc;

use crate::base::tls_material::{Authorities, KeyPair, Revocations};

/// How connections to a cluster's endpoints are secured. Versions are TLS 1.2 and 1.3, as Istio
/// sets them for clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginTls {
    /// Sent to origins that ask for one.
    pub certificate: Option<Arc<KeyPair>>,
    /// The name in the ClientHello (SNI).
    pub server_name: ServerName,
    /// What an origin's certificate must be; `None` accepts any (`insecureSkipVerify`).
    pub verify: Option<OriginRules>,
}

/// Which server is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// `sni`, or the mesh's name of the cluster (ISTIO_MUTUAL).
    Fixed(Arc<str>),
    /// The host of the request as it goes out; none if that is an address (RFC 6066 section 3).
    OfRequest,
}

/// Which certificates of origins are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginRules {
    /// Whom they must come from; `None` means the system's roots.
    pub authorities: Option<Arc<Authorities>>,
    /// With lists, a certificate whose issuer has none is not accepted.
    pub revocations: Option<Arc<Revocations>>,
    /// If not empty: one of these must be among the certificate's alternative names.
    pub names: Vec<Arc<str>>,
    /// The host of the request must be among them too. BoringSSL looks at that during the
    /// handshake, so unlike in Envoy a wildcard right below a top-level domain (`*.internal`)
    /// stands for no host.
    pub request_host: bool,
}

impl OriginTls {
    /// Whether connections of different hosts differ.
    pub fn depends_on_host(&self) -> bool {
        self.server_name == ServerName::OfRequest
            || self.verify.as_ref().is_some_and(|rules| rules.request_host)
    }
}

/// In one line, for the operator.
impl fmt::Display for OriginTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server_name {
            ServerName::Fixed(name) => write!(f, "SNI {name}")?,
            ServerName::OfRequest => write!(f, "SNI of the request")?,
        }
        if self.certificate.is_some() {
            write!(f, ", with a client certificate")?;
        }
        let Some(rules) = &self.verify else {
            return write!(f, ", any certificate is accepted");
        };
        match &rules.authorities {
            Some(authorities) => {
                let count = authorities.certificates().len();
                write!(f, ", certificates of {count} named authorities")?;
            }
            None => write!(f, ", certificates of the system's roots")?,
        }
        if rules.revocations.is_some() {
            write!(f, ", not revoked")?;
        }
        if !rules.names.is_empty() {
            write!(f, ", for {}", rules.names.join(" or "))?;
        }
        match rules.request_host {
            true => write!(f, ", for the request's host"),
            false => Ok(()),
        }
    }
}
