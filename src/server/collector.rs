//! TLS to the collector of traces (`https://` in `gateway.tracing.endpoint`).
//!
//! The certificate must come from an authority that is trusted and be for the server that is meant;
//! spans are sent to nobody else. The files are read for each connection, of which there are few, so
//! that renewed ones count from the next; `boot` reads them once, so that a wrong one is an error at
//! the start.

use std::fs;
use std::io;
use std::pin::Pin;

use boring::ssl::{SslConnector, SslMethod, SslVersion};
use boring::x509::X509VerifyError;
use boring::x509::store::X509StoreBuilder;
use boring::x509::verify::X509VerifyFlags;
use pingora_core::protocols::tls::SslStream;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::base::tls_material::{Authorities, KeyPair, MaterialError};
use crate::observe::{Dial, Dialing, Duplex};

/// HTTP/2 in ALPN's wire format, which gRPC needs.
const HTTP2: &[u8] = b"\x02h2";
const HTTP1: &[u8] = b"\x08http/1.1";

/// Names of the settings, for what is wrong with their files.
const AUTHORITIES: &str = "gateway.tracing.tls.caCertificates";
const CERTIFICATE: &str = "gateway.tracing.tls.clientCertificate";
const KEY: &str = "gateway.tracing.tls.privateKey";

/// The collector, and how it is known to be it.
#[derive(Clone, Debug)]
pub struct Collector {
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// The name or address that its certificate must have.
    pub server_name: String,
    /// Whether it is spoken to in gRPC.
    pub is_grpc: bool,
    /// PEM file of authorities; `None` for the system's.
    pub authorities: Option<String>,
    /// PEM files of a certificate to show and of its key.
    pub certificate: Option<(String, String)>,
}

/// Why TLS with the collector cannot begin.
#[derive(Debug, Error)]
pub enum CollectorError {
    #[error(transparent)]
    Material(#[from] MaterialError),
    #[error("TLS with the collector of traces cannot be set up: {0}")]
    Library(#[from] boring::error::ErrorStack),
}

impl Collector {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read or used.
    pub fn prepare(&self) -> Result<SslConnector, CollectorError> {
        let mut builder = SslConnector::builder(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_alpn_protos(if self.is_grpc { HTTP2 } else { HTTP1 })?;
        if let Some(path) = &self.authorities {
            let authorities = Authorities::from_pem(&read(path, AUTHORITIES)?, AUTHORITIES)?;
            let mut store = X509StoreBuilder::new()?;
            // Whoever is named is trusted, also one that does not vouch for itself.
            store.set_flags(X509VerifyFlags::PARTIAL_CHAIN);
            for authority in authorities.certificates() {
                store.add_cert(authority)?;
            }
            builder.set_cert_store(store.build());
        }
        if let Some((certificate, key)) = &self.certificate {
            let files = (read(certificate, CERTIFICATE)?, read(key, KEY)?);
            let pair = KeyPair::from_pem(&files.0, &files.1, (CERTIFICATE, KEY))?;
            builder.set_private_key(pair.key())?;
            let mut chain = pair.chain().iter();
            if let Some(own) = chain.next() {
                builder.set_certificate(own)?;
            }
            for issuer in chain {
                builder.add_extra_chain_cert(issuer.clone())?;
            }
        }
        Ok(builder.build())
    }

    async fn connect(self) -> io::Result<Box<dyn Duplex>> {
        let ssl = self
            .prepare()
            .and_then(|connector| Ok(connector.configure()?.into_ssl(&self.server_name)?))
            .map_err(io::Error::other)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // As OTLP's own client has it: a batch is not to wait for an acknowledgement.
        stream.set_nodelay(true)?;
        let mut stream = SslStream::new(ssl, stream).map_err(io::Error::other)?;
        if let Err(error) = Pin::new(&mut stream).connect().await {
            let reason = match stream.ssl().verify_result() {
                Err(verdict) if verdict != X509VerifyError::INVALID_CALL => format!(
                    "its certificate is not accepted for `{}`: {}",
                    self.server_name,
                    verdict.error_string()
                ),
                // No certificate came.
                _ => format!("the TLS handshake failed: {error}"),
            };
            return Err(io::Error::other(reason));
        }
        if self.is_grpc && stream.ssl().selected_alpn_protocol() != Some(b"h2") {
            let reason = "it did not agree to HTTP/2 (ALPN h2), which gRPC needs";
            return Err(io::Error::other(reason));
        }
        Ok(Box::new(stream))
    }
}

impl Dial for Collector {
    fn dial(&self) -> Dialing {
        Box::pin(self.clone().connect())
    }
}

fn read(path: &str, name: &'static str) -> Result<Vec<u8>, MaterialError> {
    fs::read(path).map_err(|error| MaterialError::Unreadable {
        name,
        path: path.into(),
        reason: error.to_string().into(),
    })
}
