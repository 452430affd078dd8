//! TLS to origins: what Pingora is told for the handshake, and what is looked at after it.
//!
//! BoringSSL verifies the chain of trust, and the request's host where that is asked for, during
//! the handshake, before anything of ours is sent. What Pingora's connector cannot tell it is
//! looked at in [`Check`] when the handshake is complete: names of certificates, revocation lists,
//! chains that end at an authority which is no root, the version, and HTTP/2 where it is needed.
//! A hook cannot end the connection, and an HTTP/2 one stays in Pingora's pool; so the verdict
//! stays with the connection, and every request asks for it before it is sent ([`accepted`]).

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use boring::error::ErrorStack;
use boring::ssl::{SslRef, SslVersion};
use boring::x509::store::{X509Store, X509StoreBuilder};
use boring::x509::verify::X509VerifyFlags;
use boring::x509::{X509Ref, X509StoreContext};
use pingora_core::protocols::Digest;
use pingora_core::protocols::tls::{ALPN, CaType, SslDigest};
use pingora_core::upstreams::peer::{HttpPeer, Peer, Scheme};
use pingora_core::utils::tls::CertKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::base::clock;
use crate::base::tls_material::{AlternativeNames, Revocations, Signers};
use crate::plan::{OriginRules, OriginTls, ServerName};

/// Says "no server name" to Pingora, for which an empty name means "verify nothing". BoringSSL's
/// binding does not send addresses as names.
const NO_NAME: &str = "0.0.0.0";

/// A cluster's TLS as Pingora takes it.
#[derive(Debug)]
pub(super) struct Tls {
    definition: Arc<OriginTls>,
    authorities: Option<Arc<CaType>>,
    certificate: Option<Arc<CertKey>>,
    check: Arc<Check>,
}

/// What is looked at when a handshake is complete.
struct Check {
    definition: Arc<OriginTls>,
    /// For chains that BoringSSL does not verify as they are meant here during the handshake.
    /// Without one that is needed, nothing is accepted.
    store: Store,
}

enum Store {
    Unneeded,
    /// With the revocation lists, if there are any, and who signed them.
    Of(X509Store, Option<(Arc<Revocations>, Signers)>),
    Failed(String),
}

/// What an origin showed, kept with its connection.
#[derive(Debug)]
struct Presented {
    /// Why it is not accepted.
    refusal: Option<String>,
    /// For connections whose requests must be for one of these.
    names: Option<AlternativeNames>,
}

impl Tls {
    pub(super) fn new(definition: &Arc<OriginTls>) -> Self {
        let rules = definition.verify.as_ref();
        let authorities = rules.and_then(|rules| rules.authorities.as_ref());
        let certificate = definition.certificate.as_ref();
        Self {
            authorities: authorities.map(|all| Arc::new(all.certificates().into())),
            certificate: certificate
                .map(|pair| Arc::new(CertKey::new(pair.chain().to_vec(), pair.key().clone()))),
            check: Arc::new(Check {
                definition: definition.clone(),
                store: rules.map_or(Store::Unneeded, Store::new),
            }),
            definition: definition.clone(),
        }
    }

    /// Makes a peer's connections secure; [`Self::name`] must follow.
    pub(super) fn secure(&self, peer: &mut HttpPeer) {
        peer.scheme = Scheme::HTTPS;
        peer.client_cert_key = self.certificate.clone();
        peer.options.ca = self.authorities.clone();
        peer.options.verify_cert = self.verifies_during_handshake();
        peer.options.verify_hostname = false;
        let check = self.check.clone();
        let needs_http2 = peer.options.alpn == ALPN::H2;
        peer.options.upstream_tls_handshake_complete_hook = Some(Arc::new(move |ssl| {
            Some(Arc::new(check.presented(ssl, needs_http2)) as Arc<dyn Any + Send + Sync>)
        }));
    }

    /// Says which server is asked for: `host` is the request's, without a port.
    pub(super) fn name(&self, peer: &mut HttpPeer, host: &str) {
        let is_name = !host.is_empty() && host.parse::<IpAddr>().is_err();
        peer.sni = match &self.definition.server_name {
            ServerName::Fixed(name) => name.as_ref().into(),
            ServerName::OfRequest if host.is_empty() => NO_NAME.into(),
            ServerName::OfRequest => host.into(),
        };
        let rules = self.definition.verify.as_ref();
        peer.options.verify_hostname = is_name && rules.is_some_and(|rules| rules.request_host);
    }

    /// Whether connections for one host must not carry requests for another.
    pub(super) fn depends_on_host(&self) -> bool {
        self.definition.depends_on_host()
    }

    fn verifies_during_handshake(&self) -> bool {
        let rules = self.definition.verify.as_ref();
        rules.is_some_and(|rules| rules.authorities.as_ref().is_none_or(|all| all.are_roots()))
    }
}

/// The host of an authority as certificates name it: in lower case, without a port, the brackets of
/// an address or a final dot.
pub fn tls_host(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_prefix('[').map_or(host, |host| {
        // Without its brackets, an address is one to everybody.
        host.strip_suffix(']').unwrap_or(host)
    });
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether a connection may carry a request for `host`: always for plain text.
///
/// # Errors
/// Why not, as Envoy says it.
pub fn accepted(peer: &HttpPeer, digest: Option<&Digest>, host: &str) -> Result<(), String> {
    if !peer.tls() {
        return Ok(());
    }
    let digest = digest.and_then(|digest| digest.ssl_digest.as_deref());
    verdict(digest, Some(host))
}

/// The same for a TLS connection. One that is not for a request has no host: as in Envoy, its
/// origin's certificate then need not be for any.
///
/// # Errors
/// Why not.
pub(super) fn verdict(digest: Option<&SslDigest>, host: Option<&str>) -> Result<(), String> {
    let presented = digest.and_then(|digest| digest.extension.get::<Presented>());
    let Some(presented) = presented else {
        return Err(refusal("the handshake was not looked at"));
    };
    if let Some(refusal) = &presented.refusal {
        return Err(refusal.clone());
    }
    match (&presented.names, host) {
        (Some(names), Some(host)) if !names.cover(host) => Err(refusal("verify SAN list")),
        _ => Ok(()),
    }
}

impl Check {
    fn presented(&self, ssl: &SslRef, needs_http2: bool) -> Presented {
        let certificate = ssl.peer_certificate();
        let rules = self.definition.verify.as_ref();
        let verdict = match (&certificate, rules) {
            (None, _) => Err("no certificate".to_owned()),
            (Some(_), None) => Ok(()),
            (Some(certificate), Some(rules)) => self.verify(ssl, certificate, rules),
        };
        let version = ssl.version2();
        let refusal = match verdict {
            Err(reason) => Some(refusal(&reason)),
            Ok(()) if version.is_none_or(|version| !is_current(version)) => Some(format!(
                "TLS_error:|268435696:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL:{}:TLS_error_end",
                ssl.version_str()
            )),
            Ok(()) if needs_http2 && ssl.selected_alpn_protocol() != Some(b"h2") => {
                Some("TLS_error:|SSL routines:OPENSSL_internal:NO_APPLICATION_PROTOCOL:the origin did not agree to HTTP/2 (ALPN h2):TLS_error_end".to_owned())
            }
            Ok(()) => None,
        };
        let wants_host = rules.is_some_and(|rules| rules.request_host);
        Presented {
            refusal,
            names: certificate
                .filter(|_| wants_host)
                .map(|certificate| AlternativeNames::of(&certificate)),
        }
    }

    fn verify(&self, ssl: &SslRef, leaf: &X509Ref, rules: &OriginRules) -> Result<(), String> {
        match &self.store {
            Store::Unneeded => {}
            Store::Failed(reason) => return Err(reason.clone()),
            Store::Of(store, lists) => verify_chain(ssl, leaf, store, lists.as_ref())?,
        }
        if rules.names.is_empty() {
            return Ok(());
        }
        let names = AlternativeNames::of(leaf);
        match rules.names.iter().any(|wanted| names.cover(wanted)) {
            true => Ok(()),
            false => Err("verify cert failed: SAN matcher".to_owned()),
        }
    }
}

impl Store {
    fn new(rules: &OriginRules) -> Self {
        let authorities = rules.authorities.as_ref();
        let is_needed =
            rules.revocations.is_some() || authorities.is_some_and(|all| !all.are_roots());
        if !is_needed {
            return Self::Unneeded;
        }
        let build = || -> Result<X509Store, ErrorStack> {
            let mut store = X509StoreBuilder::new()?;
            store.set_flags(X509VerifyFlags::PARTIAL_CHAIN);
            match authorities {
                None => store.set_default_paths()?,
                Some(authorities) => {
                    for authority in authorities.certificates() {
                        store.add_cert(authority)?;
                    }
                }
            }
            Ok(store.build())
        };
        match build() {
            Ok(store) => {
                let with_signers = |lists: Arc<Revocations>| {
                    let signers = lists.signers();
                    (lists, signers)
                };
                Self::Of(store, rules.revocations.clone().map(with_signers))
            }
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// Verifies a chain as the handshake would, and that nothing in it is revoked.
fn verify_chain(
    ssl: &SslRef,
    leaf: &X509Ref,
    store: &X509Store,
    lists: Option<&(Arc<Revocations>, Signers)>,
) -> Result<(), String> {
    let sent = ssl.peer_cert_chain().ok_or("no certificate chain")?;
    let is_server = leaf.to_der().is_ok_and(|der| is_for_servers(&der));
    if !is_server {
        return Err("verify cert failed: unsuitable certificate purpose".to_owned());
    }
    let verified = X509StoreContext::new().and_then(|mut context| {
        context.init(store, leaf, sent, |context| {
            if !context.verify_cert()? {
                let reason = context.verify_result().err();
                let reason = reason.map_or("unknown", |reason| reason.error_string());
                let depth = context.error_depth();
                return Ok(Err(format!(
                    "verify cert failed: X509_verify_cert: certificate verification error at depth {depth}: {reason}"
                )));
            }
            let chain = context.chain();
            let is_revoked = lists.is_some_and(|(lists, signers)| {
                let now = clock::since_epoch();
                !chain.is_some_and(|chain| lists.allow_chain(chain, now, signers))
            });
            Ok(match is_revoked {
                true => Err("verify cert failed: X509_verify_cert: certificate revoked, or no current list of its issuer".to_owned()),
                false => Ok(()),
            })
        })
    });
    verified.unwrap_or_else(|error| Err(error.to_string()))
}

/// Whether a certificate's extended key usage allows servers (RFC 5280 section 4.2.1.12).
fn is_for_servers(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.any || usage.value.server_auth,
        Ok(None) => true,
        Err(_) => false,
    }
}

/// The versions that Istio sets for clients.
fn is_current(version: SslVersion) -> bool {
    [SslVersion::TLS1_2, SslVersion::TLS1_3].contains(&version)
}

/// Envoy's words for a certificate that is not accepted.
fn refusal(reason: &str) -> String {
    format!(
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:{reason}:TLS_error_end"
    )
}

/// Envoy's words for a handshake that failed, from Pingora's.
pub fn handshake_failure(context: &str) -> String {
    if context.starts_with("TLS_error:") {
        return context.to_owned();
    }
    let reason = context
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(reason, _)| reason);
    match reason {
        Some("CERTIFICATE_VERIFY_FAILED") => "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end".to_owned(),
        Some(reason) => {
            format!("TLS_error:|SSL routines:OPENSSL_internal:{reason}:TLS_error_end")
        }
        None => format!("TLS_error:|{context}:TLS_error_end"),
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("definition", &self.definition)
            .finish_non_exhaustive()
    }
}
