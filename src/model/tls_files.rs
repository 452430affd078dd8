//! The files that a Gateway's `tls` names, as the objects they become.
//!
//! `source` reads each set into an object of its own, `compile` looks it up by the same key. So a
//! broken file keeps its last good version like any other object.

use std::path::Path;

use crate::base::{Kind, ObjectKey};

use super::istio::gateway::ServerTls;

/// Files that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFiles<'a> {
    /// `serverCertificate` and `privateKey`.
    Pair { certificate: &'a str, key: &'a str },
    /// `caCertificates`.
    Authorities(&'a str),
    /// `caCrl`.
    Revocations(&'a str),
}

impl<'a> TlsFiles<'a> {
    /// All that a server names, unless a credential stands before them.
    pub fn of(tls: &'a ServerTls) -> impl Iterator<Item = Self> {
        let own = Self::pair(&tls.server_certificate, &tls.private_key);
        let listed = tls.tls_certificates.iter().filter_map(|slot| {
            let entry = slot.good()?;
            Self::pair(&entry.server_certificate, &entry.private_key)
        });
        let lists = tls
            .tls_certificates
            .iter()
            .filter_map(|slot| written(&slot.good()?.ca_certificates).map(Self::Authorities));
        let authorities = written(&tls.ca_certificates).map(Self::Authorities);
        let revocations = written(&tls.ca_crl).map(Self::Revocations);
        own.into_iter()
            .chain(listed)
            .chain(authorities)
            .chain(lists)
            .chain(revocations)
    }

    fn pair(certificate: &'a Option<String>, key: &'a Option<String>) -> Option<Self> {
        Some(Self::Pair {
            certificate: written(certificate)?,
            key: written(key)?,
        })
    }

    /// The identity of the object that these files become.
    pub fn object_key(self) -> ObjectKey {
        let name = match self {
            Self::Pair { certificate, key } => format!("{certificate},{key}").into(),
            Self::Authorities(path) | Self::Revocations(path) => path.into(),
        };
        ObjectKey {
            kind: Kind::TlsFiles,
            namespace: match self {
                Self::Pair { .. } => "",
                Self::Authorities(_) => "ca",
                Self::Revocations(_) => "crl",
            }
            .into(),
            name,
        }
    }

    /// The files themselves.
    pub fn paths(self) -> impl Iterator<Item = &'a Path> {
        let (first, second) = match self {
            Self::Pair { certificate, key } => (certificate, Some(key)),
            Self::Authorities(path) | Self::Revocations(path) => (path, None),
        };
        std::iter::once(first).chain(second).map(Path::new)
    }
}

fn written(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}
