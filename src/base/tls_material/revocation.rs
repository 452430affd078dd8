//! Certificate revocation lists, applied as BoringSSL's own check would, which its Rust binding
//! does not offer: with lists given, every certificate's issuer must have one that is current
//! and signed by it, and none of them may name the certificate (Envoy's `crl`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::time::Duration;

use boring::error::ErrorStack;
use boring::hash::MessageDigest;
use boring::rsa::Padding;
use boring::sign::{RsaPssSaltlen, Verifier};
use boring::x509::X509Ref;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::AlgorithmIdentifier;

use super::{Fingerprint, MaterialError, certificate_hash, is_root};

/// Revoked serial numbers by issuer.
pub struct Revocations {
    issuers: HashMap<Box<[u8]>, Vec<List>>,
    count: usize,
    fingerprint: Fingerprint,
}

/// Who is known to have signed some lists. One for each use of them, so that they stay the same to
/// whoever compares them.
#[derive(Debug)]
pub struct Signers {
    /// By the number of the list: the certificate whose key was first found to have signed it. A
    /// list has no more as a rule.
    known: Box<[OnceLock<Fingerprint>]>,
}

struct List {
    /// Seconds since the Unix epoch.
    from: i64,
    /// `None` if the list says nothing about the next one.
    until: Option<i64>,
    revoked: HashSet<Box<[u8]>>,
    /// What is signed.
    content: Box<[u8]>,
    signature: Box<[u8]>,
    scheme: Scheme,
    /// Counted over all lists.
    number: usize,
}

#[derive(Clone, Copy)]
enum Scheme {
    /// RSA (PKCS #1) or ECDSA, whichever the key is for.
    Hashed(MessageDigest),
    /// RSA (PSS).
    Salted {
        content: MessageDigest,
        mask: MessageDigest,
        salt: i32,
    },
    Ed25519,
}

impl Revocations {
    /// Reads all lists of a PEM file, or one in DER.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn read(lists: &[u8], name: &'static str) -> Result<Self, MaterialError> {
        let mut all = Self {
            issuers: HashMap::new(),
            count: 0,
            fingerprint: boring::sha::sha256(lists),
        };
        // A DER sequence begins with this byte, and no text does.
        if lists.first() == Some(&0x30) {
            all.add(lists, name)?;
        } else {
            for pem in Pem::iter_from_buffer(lists) {
                let pem = pem.map_err(|_| MaterialError::BadRevocations(name))?;
                all.add(&pem.contents, name)?;
            }
        }
        match all.issuers.is_empty() {
            true => Err(MaterialError::BadRevocations(name)),
            false => Ok(all),
        }
    }

    fn add(&mut self, der: &[u8], name: &'static str) -> Result<(), MaterialError> {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|_| MaterialError::BadRevocations(name))?;
        let revoked = list.iter_revoked_certificates();
        let read = List {
            from: list.last_update().timestamp(),
            until: list.next_update().map(|time| time.timestamp()),
            revoked: revoked.map(|revoked| revoked.raw_serial().into()).collect(),
            content: list.tbs_cert_list.as_ref().into(),
            signature: list.signature_value.data.as_ref().into(),
            scheme: Scheme::of(&list.signature_algorithm)
                .ok_or(MaterialError::UnknownSignature(name))?,
            number: self.count,
        };
        self.count += 1;
        let issuer = list.issuer().as_raw().into();
        self.issuers.entry(issuer).or_default().push(read);
        Ok(())
    }

    /// Nobody is known yet to have signed these lists.
    pub fn signers(&self) -> Signers {
        Signers {
            known: (0..self.count).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Whether no certificate of a chain, the first's issuer after it, is revoked, as far as is
    /// known at a time since the Unix epoch. A root vouches for itself; no list can revoke it.
    /// `signers` are of these lists.
    pub fn allow_chain<'c>(
        &self,
        chain: impl IntoIterator<Item = &'c X509Ref>,
        now: Duration,
        signers: &Signers,
    ) -> bool {
        let mut chain = chain.into_iter().peekable();
        while let Some(certificate) = chain.next() {
            let issuer = chain.peek().copied();
            if !is_root(certificate) && !self.allow(certificate, issuer, now, signers) {
                return false;
            }
        }
        true
    }

    /// Whether a certificate is known not to be revoked. The issuer of one that is trusted by itself
    /// is not known; nor is then who signed a list of that name.
    fn allow(
        &self,
        certificate: &X509Ref,
        issuer: Option<&X509Ref>,
        now: Duration,
        signers: &Signers,
    ) -> bool {
        let Ok(der) = certificate.to_der() else {
            return false;
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
            return false;
        };
        let Some(lists) = self.issuers.get(certificate.issuer().as_raw()) else {
            return false;
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let signed = lists
            .iter()
            .filter(|list| issuer.is_none_or(|issuer| list.is_of(issuer, signers)));
        let mut is_known = false;
        for list in signed {
            if list.revoked.contains(certificate.raw_serial()) {
                return false;
            }
            is_known |= list.from <= now && list.until.is_none_or(|until| now < until);
        }
        is_known
    }
}

impl List {
    /// Whether a certificate's key signed it. Found out once: clients come with the same issuer.
    /// Who did not is not remembered, as there is no end of them.
    fn is_of(&self, issuer: &X509Ref, signers: &Signers) -> bool {
        let Some(hash) = certificate_hash(issuer) else {
            return false;
        };
        let known = signers.known.get(self.number);
        if known.and_then(OnceLock::get) == Some(&hash) {
            return true;
        }
        let is_of = self.verify(issuer).unwrap_or(false);
        if let (true, Some(known)) = (is_of, known) {
            let _ = known.set(hash);
        }
        is_of
    }

    fn verify(&self, issuer: &X509Ref) -> Result<bool, ErrorStack> {
        let key = issuer.public_key()?;
        match self.scheme {
            Scheme::Hashed(hash) => {
                let mut verifier = Verifier::new(hash, &key)?;
                verifier.update(&self.content)?;
                verifier.verify(&self.signature)
            }
            Scheme::Salted {
                content,
                mask,
                salt,
            } => {
                let mut verifier = Verifier::new(content, &key)?;
                verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                verifier.set_rsa_mgf1_md(mask)?;
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(salt))?;
                verifier.update(&self.content)?;
                verifier.verify(&self.signature)
            }
            Scheme::Ed25519 => {
                Verifier::new_without_digest(&key)?.verify_oneshot(&self.signature, &self.content)
            }
        }
    }
}

impl Scheme {
    /// By the identifier of the algorithm (RFC 4055, 5758, 8410).
    fn of(algorithm: &AlgorithmIdentifier<'_>) -> Option<Self> {
        if let Ok(SignatureAlgorithm::RSASSA_PSS(terms)) = algorithm.try_into() {
            let mask = terms.mask_gen_algorithm().ok()?;
            return Some(Self::Salted {
                content: hash(&terms.hash_algorithm_oid().to_id_string())?,
                mask: hash(&mask.hash.to_id_string())?,
                salt: i32::try_from(terms.salt_length()).ok()?,
            });
        }
        let hash = match algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => MessageDigest::sha1(),
            "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => MessageDigest::sha256(),
            "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => MessageDigest::sha384(),
            "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => MessageDigest::sha512(),
            "1.3.101.112" => return Some(Self::Ed25519),
            _ => return None,
        };
        Some(Self::Hashed(hash))
    }
}

/// By the identifier of a hash (RFC 4055 section 2.1).
fn hash(algorithm: &str) -> Option<MessageDigest> {
    Some(match algorithm {
        "1.3.14.3.2.26" => MessageDigest::sha1(),
        "2.16.840.1.101.3.4.2.1" => MessageDigest::sha256(),
        "2.16.840.1.101.3.4.2.2" => MessageDigest::sha384(),
        "2.16.840.1.101.3.4.2.3" => MessageDigest::sha512(),
        _ => return None,
    })
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

#[cfg(test)]
mod tests;
