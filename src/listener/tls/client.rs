//! The client's side of a handshake: whether its certificate is accepted, and what is remembered
//! of it.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use boring::ssl::SslRef;
use boring::x509::{X509Ref, X509StoreContextRef};
use http::HeaderValue;

use crate::base::clock;
use crate::base::tls_material::{AlternativeNames, Signers, certificate_hash};
use crate::plan::{ClientRules, TlsTerms};

/// What a TLS connection agreed on.
#[derive(Debug)]
pub struct TlsDetails {
    /// SNI, lower-case without a trailing dot.
    pub server_name: Option<Box<str>>,
    /// Of the server that shook hands.
    pub terms: Arc<TlsTerms>,
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, as OpenSSL names it.
    pub cipher: &'static str,
    /// Whether an earlier session was taken up again.
    pub resumed: bool,
    /// The client's certificate, if it sent one that was accepted.
    pub peer: Option<PeerCertificate>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// It as an element of `x-forwarded-client-cert`, with the fields Istio asks Envoy for: `By`,
    /// `Hash`, `Cert`, `Subject`, `URI`, `DNS`.
    pub element: HeaderValue,
    /// Its subject, as RFC 2253 writes it.
    pub subject: Box<str>,
}

impl TlsDetails {
    pub(super) fn new(ssl: &SslRef, server_name: Option<Box<str>>, terms: Arc<TlsTerms>) -> Self {
        Self {
            server_name,
            terms,
            version: ssl.version_str(),
            cipher: ssl.current_cipher().map_or("", |cipher| cipher.name()),
            resumed: ssl.session_reused(),
            peer: ssl
                .peer_certificate()
                .and_then(|peer| PeerCertificate::new(&peer, ssl.certificate())),
        }
    }
}

impl PeerCertificate {
    /// `None` if the certificate cannot be told in a header, which none that was verified is.
    fn new(certificate: &X509Ref, own: Option<&X509Ref>) -> Option<Self> {
        let mut text = String::with_capacity(2048);
        for name in own.and_then(X509Ref::subject_alt_names).iter().flatten() {
            if let Some(uri) = name.uri() {
                let _ = write!(text, "By={};", value(uri));
            }
        }
        text.push_str("Hash=");
        for byte in certificate_hash(certificate)? {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(
            text,
            ";Cert=\"{}\"",
            percent_encoded(&certificate.to_pem().ok()?)
        );
        let subject = certificate.subject_name().print_ex(RFC2253)?;
        let _ = write!(text, ";Subject=\"{}\"", quotable(&subject));
        let names = certificate.subject_alt_names();
        for uri in names.iter().flatten().filter_map(|name| name.uri()) {
            let _ = write!(text, ";URI={}", value(uri));
        }
        for name in names.iter().flatten().filter_map(|name| name.dnsname()) {
            let _ = write!(text, ";DNS={}", value(name));
        }
        Some(Self {
            element: HeaderValue::from_str(&text).ok()?,
            subject: subject.into(),
        })
    }
}

/// As it is, or between double quotes where it would end the element or its field.
fn value(text: &str) -> Cow<'_, str> {
    match text.contains([',', ';', '=', '"']) {
        true => format!("\"{}\"", quotable(text)).into(),
        false => text.into(),
    }
}

/// For between double quotes.
fn quotable(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// OpenSSL's `XN_FLAG_RFC2253`.
const RFC2253: i32 = 0x0111_0317;

/// Whether a client whose chain of trust is valid may pass. BoringSSL calls back for each
/// certificate of the chain; each call looks at all of them, so that their order does not matter.
/// `signers` are of the rules' revocation lists, where there are any.
pub(super) fn is_accepted(
    rules: &ClientRules,
    signers: Option<&Signers>,
    verifying: &X509StoreContextRef,
) -> bool {
    let (Some(certificate), Some(chain)) = (verifying.cert(), verifying.chain()) else {
        return false;
    };
    has_name(rules, certificate)
        && is_pinned(rules, certificate)
        && match (&rules.revocations, signers) {
            (None, _) => true,
            (Some(lists), Some(signers)) => lists.allow_chain(chain, clock::since_epoch(), signers),
            (Some(_), None) => false,
        }
}

fn has_name(rules: &ClientRules, certificate: &X509Ref) -> bool {
    if rules.names.is_empty() {
        return true;
    }
    let names = AlternativeNames::of(certificate);
    rules.names.iter().any(|wanted| names.cover(wanted))
}

fn is_pinned(rules: &ClientRules, certificate: &X509Ref) -> bool {
    if rules.keys.is_empty() && rules.certificates.is_empty() {
        return true;
    }
    let key_hash = || {
        let key = certificate.public_key().ok()?.public_key_to_der().ok()?;
        Some(boring::sha::sha256(&key))
    };
    certificate_hash(certificate).is_some_and(|hash| rules.certificates.contains(&hash))
        || key_hash().is_some_and(|hash| rules.keys.contains(&hash))
}

/// As Envoy's `Cert` and `Chain`: everything but unreserved characters.
fn percent_encoded(pem: &[u8]) -> String {
    let mut text = String::with_capacity(pem.len() + pem.len() / 8);
    for byte in pem {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}
