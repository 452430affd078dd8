//! Certificates, keys and lists of authorities, as Secrets and files hold them: read and checked.
//!
//! Pure: no file is opened and no clock is asked. `source` makes [`Credential`]s of what it reads,
//! the plan carries them, `listener` and `upstream` give them to BoringSSL.

mod names;
mod revocation;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use boring::asn1::{Asn1Time, Asn1TimeRef};
use boring::hash::MessageDigest;
use boring::pkey::{Id, PKey, Private};
use boring::x509::{X509, X509Ref};
use thiserror::Error;

pub use names::AlternativeNames;
pub use revocation::{Revocations, Signers};

/// SHA-256 of a certificate's DER.
pub type Fingerprint = [u8; 32];

/// What one Secret, or one set of files, brings for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Credential {
    /// Certificate chain and key; `None` if neither is there.
    pub pair: Option<Result<Arc<KeyPair>, MaterialError>>,
    /// Whom the other side's certificates must come from.
    pub authorities: Option<Result<Arc<Authorities>, MaterialError>>,
    /// Which of them are revoked.
    pub revocations: Option<Result<Arc<Revocations>, MaterialError>>,
}

/// A certificate with its chain and private key, which belong together.
#[derive(Clone)]
pub struct KeyPair {
    /// The own certificate first.
    chain: Vec<X509>,
    key: PKey<Private>,
    kind: KeyKind,
    validity: Validity,
    fingerprint: Fingerprint,
    /// An OCSP response to staple, as DER.
    staple: Option<Arc<[u8]>>,
}

/// Certificates that others are verified against.
#[derive(Clone)]
pub struct Authorities {
    certificates: Vec<X509>,
    fingerprint: Fingerprint,
}

/// Algorithm of a key: which clients can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    Rsa,
    Ecdsa,
    Other,
}

/// When a certificate is valid, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Validity {
    pub from: i64,
    pub until: i64,
}

/// Why something cannot be used for TLS. Never quotes key material.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum MaterialError {
    #[error(
        "there is no certificate in `{0}`; it must be PEM, beginning with -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate(&'static str),
    #[error("a certificate in `{0}` cannot be read: it is not valid PEM or DER")]
    BadCertificate(&'static str),
    #[error("there is no `{0}`")]
    Missing(&'static str),
    #[error("`{path}`, named as `{name}`, cannot be read: {reason}")]
    Unreadable {
        name: &'static str,
        path: Box<str>,
        reason: Box<str>,
    },
    #[error("the revocation list in `{0}` cannot be read; it must be PEM or DER")]
    BadRevocations(&'static str),
    #[error(
        "the revocation list in `{0}` is signed in a way that cannot be checked; \
         RSA, ECDSA and Ed25519 can"
    )]
    UnknownSignature(&'static str),
    #[error("the key in `{0}` is encrypted; write it without a passphrase")]
    EncryptedKey(&'static str),
    #[error("the key in `{0}` cannot be read; it must be an unencrypted PEM private key")]
    BadKey(&'static str),
    #[error(
        "the key in `{key}` does not belong to the first certificate in `{certificate}`; \
         the server's own certificate must come first, then its issuers"
    )]
    Mismatch {
        certificate: &'static str,
        key: &'static str,
    },
}

impl KeyPair {
    /// Reads a chain and its key from PEM. `names` are the field names errors speak of.
    ///
    /// # Errors
    /// What is wrong with either, or that they do not belong together.
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        names: (&'static str, &'static str),
    ) -> Result<Self, MaterialError> {
        let chain = certificates(certificate, names.0)?;
        let leaf = chain.first().ok_or(MaterialError::NoCertificate(names.0))?;
        let key = private_key(key, names.1)?;
        let public = leaf
            .public_key()
            .map_err(|_| MaterialError::BadCertificate(names.0))?;
        if !public.public_eq(&key) {
            return Err(MaterialError::Mismatch {
                certificate: names.0,
                key: names.1,
            });
        }
        let kind = match key.id() {
            Id::RSA => KeyKind::Rsa,
            Id::EC => KeyKind::Ecdsa,
            _ => KeyKind::Other,
        };
        Ok(Self {
            validity: validity(leaf).ok_or(MaterialError::BadCertificate(names.0))?,
            fingerprint: fingerprint(&chain).ok_or(MaterialError::BadCertificate(names.0))?,
            chain,
            key,
            kind,
            staple: None,
        })
    }

    /// Adds an OCSP response.
    #[must_use]
    pub fn with_staple(mut self, staple: Option<Arc<[u8]>>) -> Self {
        self.staple = staple.filter(|staple| !staple.is_empty());
        self
    }

    /// The own certificate first.
    pub fn chain(&self) -> &[X509] {
        &self.chain
    }

    pub fn key(&self) -> &PKey<Private> {
        &self.key
    }

    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Of the own certificate.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub fn staple(&self) -> Option<&[u8]> {
        self.staple.as_deref()
    }
}

impl Authorities {
    /// Reads a bundle from PEM.
    ///
    /// # Errors
    /// There is no certificate in it, or one that cannot be read.
    pub fn from_pem(bundle: &[u8], name: &'static str) -> Result<Self, MaterialError> {
        let certificates = certificates(bundle, name)?;
        let fingerprint = fingerprint(&certificates).ok_or(MaterialError::BadCertificate(name))?;
        Ok(Self {
            certificates,
            fingerprint,
        })
    }

    pub fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// Whether each of them vouches for itself. One that does not is trusted as if it did, which
    /// BoringSSL has to be told (Envoy's `X509_V_FLAG_PARTIAL_CHAIN`).
    pub fn are_roots(&self) -> bool {
        self.certificates
            .iter()
            .all(|certificate| is_root(certificate))
    }
}

/// Whether a certificate is its own issuer, and signed by itself: the name alone would be anyone's to
/// write.
pub fn is_root(certificate: &X509Ref) -> bool {
    let (subject, issuer) = (certificate.subject_name(), certificate.issuer_name());
    let is_same_name = subject
        .try_cmp(issuer)
        .is_ok_and(|order| order == std::cmp::Ordering::Equal);
    let signs_itself = || {
        let key = certificate.public_key()?;
        certificate.verify(&key)
    };
    is_same_name && matches!(signs_itself(), Ok(true))
}

/// SHA-256 of a certificate; `None` only if BoringSSL cannot write it out.
pub fn certificate_hash(certificate: &X509Ref) -> Option<Fingerprint> {
    certificate
        .digest(MessageDigest::sha256())
        .ok()?
        .as_ref()
        .try_into()
        .ok()
}

fn certificates(pem: &[u8], name: &'static str) -> Result<Vec<X509>, MaterialError> {
    let found = X509::stack_from_pem(pem).map_err(|_| MaterialError::BadCertificate(name))?;
    match found.is_empty() {
        true => Err(MaterialError::NoCertificate(name)),
        false => Ok(found),
    }
}

fn private_key(pem: &[u8], name: &'static str) -> Result<PKey<Private>, MaterialError> {
    // Both forms: `ENCRYPTED PRIVATE KEY` and the older `Proc-Type: 4,ENCRYPTED`.
    let is_encrypted = pem
        .windows(b"ENCRYPTED".len())
        .any(|window| window == b"ENCRYPTED");
    if is_encrypted {
        return Err(MaterialError::EncryptedKey(name));
    }
    PKey::private_key_from_pem(pem).map_err(|_| MaterialError::BadKey(name))
}

fn validity(certificate: &X509Ref) -> Option<Validity> {
    Some(Validity {
        from: seconds(certificate.not_before())?,
        until: seconds(certificate.not_after())?,
    })
}

fn seconds(time: &Asn1TimeRef) -> Option<i64> {
    let epoch = Asn1Time::from_unix(0).ok()?;
    let since = epoch.diff(time).ok()?;
    Some(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

/// One number for all certificates in their order.
fn fingerprint(certificates: &[X509]) -> Option<Fingerprint> {
    let mut hasher = boring::sha::Sha256::new();
    for certificate in certificates {
        hasher.update(&certificate_hash(certificate)?);
    }
    Some(hasher.finish())
}

/// Equal certificates have equal keys, or they could not be used with them.
impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.staple == other.staple
    }
}

impl Eq for KeyPair {}

impl Hash for KeyPair {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.fingerprint, &self.staple).hash(state);
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Authorities {}

impl Hash for Authorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// Without the key.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("kind", &self.kind)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("certificates", &self.certificates.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
