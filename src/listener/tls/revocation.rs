//! Certificate revocation lists, as BoringSSL's own check would apply them, which its Rust
//! binding does not offer: with lists given, every certificate's issuer must have one that is
//! current, and none of them may name the certificate (Envoy's `crl`).

use std::collections::{HashMap, HashSet};

use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::base::clock;

/// Revoked serial numbers by issuer. The lists come from the operator; their signatures are
/// not checked.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    issuers: HashMap<Box<[u8]>, Issuer>,
}

#[derive(Debug, Default)]
struct Issuer {
    /// Seconds since the Unix epoch; `None` if the list says nothing about the next one.
    current_until: Option<i64>,
    revoked: HashSet<Box<[u8]>>,
}

#[derive(Debug, Error)]
#[error("the certificate revocation list cannot be read; it must be PEM or DER")]
pub(super) struct RevocationError;

impl Revocations {
    /// Reads all lists of a PEM file, or one in DER.
    pub fn read(lists: &[u8]) -> Result<Self, RevocationError> {
        let mut all = Self::default();
        if lists.starts_with(b"-----") || !lists.starts_with(&[0x30]) {
            for pem in Pem::iter_from_buffer(lists) {
                let pem = pem.map_err(|_| RevocationError)?;
                all.add(&pem.contents)?;
            }
        } else {
            all.add(lists)?;
        }
        match all.issuers.is_empty() {
            true => Err(RevocationError),
            false => Ok(all),
        }
    }

    fn add(&mut self, der: &[u8]) -> Result<(), RevocationError> {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| RevocationError)?;
        let revoked = list.iter_revoked_certificates();
        let issuer = self
            .issuers
            .entry(list.issuer().as_raw().into())
            .or_default();
        issuer.current_until = list.next_update().map(|time| time.timestamp());
        issuer
            .revoked
            .extend(revoked.map(|revoked| revoked.raw_serial().into()));
        Ok(())
    }

    /// Whether a certificate, as DER, is known not to be revoked.
    pub fn allow(&self, certificate: &[u8]) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let Some(issuer) = self.issuers.get(certificate.issuer().as_raw()) else {
            return false;
        };
        let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
        issuer.current_until.is_none_or(|until| now < until)
            && !issuer.revoked.contains(certificate.raw_serial())
    }
}
