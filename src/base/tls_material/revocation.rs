//! Certificate revocation lists, applied as BoringSSL's own check would, which its Rust binding
//! does not offer: with lists given, every certificate's issuer must have one that is current,
//! and none of them may name the certificate (Envoy's `crl`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use boring::x509::X509Ref;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::{Fingerprint, MaterialError, is_root};

/// Revoked serial numbers by issuer. The lists come from the operator; their signatures are
/// not checked.
pub struct Revocations {
    issuers: HashMap<Box<[u8]>, Issuer>,
    fingerprint: Fingerprint,
}

#[derive(Default)]
struct Issuer {
    /// Seconds since the Unix epoch; `None` if the list says nothing about the next one.
    current_until: Option<i64>,
    revoked: HashSet<Box<[u8]>>,
}

impl Revocations {
    /// Reads all lists of a PEM file, or one in DER.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn read(lists: &[u8], name: &'static str) -> Result<Self, MaterialError> {
        let mut all = Self {
            issuers: HashMap::new(),
            fingerprint: boring::sha::sha256(lists),
        };
        // A DER sequence begins with this byte, and no text does.
        if lists.first() == Some(&0x30) {
            all.add(lists).ok_or(MaterialError::BadRevocations(name))?;
        } else {
            for pem in Pem::iter_from_buffer(lists) {
                let pem = pem.map_err(|_| MaterialError::BadRevocations(name))?;
                all.add(&pem.contents)
                    .ok_or(MaterialError::BadRevocations(name))?;
            }
        }
        match all.issuers.is_empty() {
            true => Err(MaterialError::BadRevocations(name)),
            false => Ok(all),
        }
    }

    fn add(&mut self, der: &[u8]) -> Option<()> {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        let revoked = list.iter_revoked_certificates();
        let issuer = self
            .issuers
            .entry(list.issuer().as_raw().into())
            .or_default();
        issuer.current_until = list.next_update().map(|time| time.timestamp());
        issuer
            .revoked
            .extend(revoked.map(|revoked| revoked.raw_serial().into()));
        Some(())
    }

    /// Whether no certificate of a chain is revoked, as far as is known at a time since the Unix
    /// epoch. A root vouches for itself; no list can revoke it.
    pub fn allow_chain<'c>(
        &self,
        chain: impl IntoIterator<Item = &'c X509Ref>,
        now: Duration,
    ) -> bool {
        chain.into_iter().all(|certificate| {
            is_root(certificate) || certificate.to_der().is_ok_and(|der| self.allow(&der, now))
        })
    }

    /// Whether a certificate, as DER, is known not to be revoked at a time since the Unix epoch.
    pub fn allow(&self, certificate: &[u8], now: Duration) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let Some(issuer) = self.issuers.get(certificate.issuer().as_raw()) else {
            return false;
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        issuer.current_until.is_none_or(|until| now < until)
            && !issuer.revoked.contains(certificate.raw_serial())
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Revocations {}

impl Hash for Revocations {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("issuers", &self.issuers.len())
            .finish()
    }
}
