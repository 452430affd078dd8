//! The files that the `tls` of Gateways and DestinationRules names, as the objects they become.
//!
//! `source` reads each set into an object of its own, `compile` looks it up by the same key. So a
//! broken file keeps its last good version like any other object.

use std::path::Path;

use crate::base::{Kind, ObjectKey};

use super::istio::destination_rule::{ClientTls, DestinationRule, TrafficPolicy};
use super::istio::gateway::ServerTls;

/// Files that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFiles<'a> {
    /// A certificate and its key.
    Pair {
        side: Side,
        certificate: &'a str,
        key: &'a str,
    },
    /// `caCertificates`.
    Authorities(&'a str),
    /// `caCrl`.
    Revocations(&'a str),
}

/// Under which names a pair is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `serverCertificate` and `privateKey` of a Gateway.
    Server,
    /// `clientCertificate` and `privateKey` of a DestinationRule.
    Client,
    /// `certificate` and `privateKey` of the settings.
    Workload,
}

/// Where the mesh's certificates for this gateway are mounted (mode ISTIO_MUTUAL).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadFiles {
    pub certificate: Box<str>,
    pub key: Box<str>,
    pub authorities: Box<str>,
}

impl Default for WorkloadFiles {
    /// Istio's folder for them.
    fn default() -> Self {
        Self {
            certificate: "/etc/certs/cert-chain.pem".into(),
            key: "/etc/certs/key.pem".into(),
            authorities: "/etc/certs/root-cert.pem".into(),
        }
    }
}

impl WorkloadFiles {
    pub fn pair(&self) -> TlsFiles<'_> {
        TlsFiles::Pair {
            side: Side::Workload,
            certificate: &self.certificate,
            key: &self.key,
        }
    }

    pub fn authorities(&self) -> TlsFiles<'_> {
        TlsFiles::Authorities(&self.authorities)
    }
}

impl Side {
    /// The fields' names: of the certificate, and of the key.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Server => ("serverCertificate", "privateKey"),
            Self::Client => ("clientCertificate", "privateKey"),
            Self::Workload => (
                "gateway.workloadCertificates.certificate",
                "gateway.workloadCertificates.privateKey",
            ),
        }
    }
}

/// The `tls` blocks of a DestinationRule, wherever in it they stand.
pub fn client_tls(rule: &DestinationRule) -> impl Iterator<Item = &ClientTls> {
    let subsets = rule.subsets.iter().filter_map(|slot| slot.good());
    let of_subsets = subsets.filter_map(|subset| subset.traffic_policy.as_deref());
    let policies = rule.traffic_policy.as_deref().into_iter().chain(of_subsets);
    policies.flat_map(|policy: &TrafficPolicy| {
        let ports = policy.port_level_settings.iter();
        let of_ports = ports.filter_map(|slot| slot.good()?.tls.as_ref());
        policy.tls.iter().chain(of_ports)
    })
}

impl<'a> TlsFiles<'a> {
    /// All that a server names, unless a credential stands before them.
    pub fn of(tls: &'a ServerTls) -> impl Iterator<Item = Self> {
        let own = Self::pair(Side::Server, &tls.server_certificate, &tls.private_key);
        let listed = tls.tls_certificates.iter().filter_map(|slot| {
            let entry = slot.good()?;
            Self::pair(Side::Server, &entry.server_certificate, &entry.private_key)
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

    /// What a DestinationRule's `tls` needs of the files that it names.
    pub fn of_client(tls: &'a ClientTls) -> impl Iterator<Item = Self> {
        let mode = tls.mode.as_deref();
        let is_own = matches!(mode, Some("SIMPLE" | "MUTUAL"));
        let pair = Self::pair(Side::Client, &tls.client_certificate, &tls.private_key);
        let pair =
            pair.filter(|_| mode == Some("MUTUAL") && written(&tls.credential_name).is_none());
        let verifies = is_own && tls.insecure_skip_verify != Some(true);
        let authorities = written(&tls.ca_certificates)
            .filter(|_| verifies && written(&tls.credential_name).is_none());
        let revocations = written(&tls.ca_crl).filter(|_| verifies);
        pair.into_iter()
            .chain(authorities.map(Self::Authorities))
            .chain(revocations.map(Self::Revocations))
    }

    fn pair(side: Side, certificate: &'a Option<String>, key: &'a Option<String>) -> Option<Self> {
        Some(Self::Pair {
            side,
            certificate: written(certificate)?,
            key: written(key)?,
        })
    }

    /// The identity of the object that these files become.
    pub fn object_key(self) -> ObjectKey {
        let name = match self {
            Self::Pair {
                certificate, key, ..
            } => format!("{certificate},{key}").into(),
            Self::Authorities(path) | Self::Revocations(path) => path.into(),
        };
        ObjectKey {
            kind: Kind::TlsFiles,
            namespace: match self {
                Self::Pair { side, .. } => match side {
                    Side::Server => "",
                    Side::Client => "client",
                    Side::Workload => "workload",
                },
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
            Self::Pair {
                certificate, key, ..
            } => (certificate, Some(key)),
            Self::Authorities(path) | Self::Revocations(path) => (path, None),
        };
        std::iter::once(first).chain(second).map(Path::new)
    }
}

fn written(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}
