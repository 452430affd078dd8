//! The `tls` block: TLS to the endpoints, with the certificates and authorities it names.
//!
//! What it names and cannot be had fences the traffic it protects: nothing goes out in plain text,
//! or to an origin that was not verified, because a file is missing.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::tls_material::{KeyPair, MaterialError};
use crate::compile::Options;
use crate::compile::gateway::tls::credentials::{
    Credentials, Missing, Trust, places_of_authorities, trust,
};
use crate::model::FieldPath;
use crate::model::istio::destination_rule::ClientTls;
use crate::model::tls_files::{Side, TlsFiles};
use crate::plan::{OriginRules, OriginTls, ServerName};

/// Where a block's credentials are looked up.
#[derive(Clone, Copy, Debug)]
pub(in crate::compile::registry) struct Store<'s> {
    pub credentials: &'s Credentials<'s>,
    pub options: &'s Options,
}

/// The cluster that a block is for.
#[derive(Clone, Copy, Debug)]
pub(in crate::compile::registry) struct Site<'s> {
    pub host: &'s str,
    pub port: u16,
    pub subset: Option<&'s str>,
    /// Names that the service itself says its endpoints have.
    pub names: &'s [String],
    /// Names that the mesh gives the accounts under which its endpoints run.
    pub accounts: &'s [String],
}

/// What a block needs beside its own words.
#[derive(Debug)]
pub(super) struct Material {
    certificate: Option<Arc<KeyPair>>,
    /// `None` accepts every certificate.
    trust: Option<Trust>,
}

/// The mode, if it is one that protects. Unset means `DISABLE`.
pub(super) fn mode(tls: &ClientTls) -> Option<&str> {
    tls.mode.as_deref().filter(|mode| *mode != "DISABLE")
}

/// What a block comes to for a cluster; nothing if it asks for plain text.
pub(super) fn read(
    tls: &ClientTls,
    path: &FieldPath,
    store: Store<'_>,
    site: Site<'_>,
) -> Result<Option<OriginTls>, Missing> {
    let Some(Material { certificate, trust }) = material(tls, path, store)? else {
        return Ok(None);
    };
    let is_mesh = mode(tls) == Some("ISTIO_MUTUAL");
    let written = set(&tls.sni);
    let server_name = match written {
        Some(name) => ServerName::Fixed(name.into()),
        None if is_mesh => ServerName::Fixed(mesh_name(site).into()),
        None => ServerName::OfRequest,
    };
    // Of the mesh's own origins, those that run as the service's accounts.
    let accounts = match tls.subject_alt_names.is_empty() && is_mesh {
        true => site.accounts,
        false => &[],
    };
    let names = match tls.subject_alt_names.as_slice() {
        [] => site.names,
        own => own,
    };
    let names = names.iter().chain(accounts);
    Ok(Some(OriginTls {
        certificate,
        server_name,
        verify: trust.map(|trust| OriginRules {
            authorities: trust.authorities,
            revocations: trust.revocations,
            names: names.map(|name| name.as_str().into()).collect(),
            // Beside the names of a ServiceEntry, as in Istio.
            request_host: !is_mesh && written.is_none() && tls.subject_alt_names.is_empty(),
        }),
    }))
}

/// The certificates and authorities of a block; nothing if it asks for plain text.
pub(super) fn material(
    tls: &ClientTls,
    path: &FieldPath,
    store: Store<'_>,
) -> Result<Option<Material>, Missing> {
    let credentials = store.credentials;
    let is_mutual = match mode(tls) {
        None => return Ok(None),
        Some("SIMPLE") => false,
        Some("MUTUAL") => true,
        Some("ISTIO_MUTUAL") => {
            return Ok(Some(Material {
                certificate: Some(credentials.mesh_pair(path)?),
                trust: Some(credentials.mesh_trust(path)?),
            }));
        }
        Some(other) => {
            return Err(Missing {
                path: path.field("mode"),
                message: format!("the mode `{other}` is not known"),
                is_unknown: false,
            });
        }
    };
    let credential = set(&tls.credential_name);
    let certificate = match (is_mutual, credential) {
        (false, _) => None,
        (true, Some(name)) => Some(credentials.secret_pair(name, path.field("credentialName"))?),
        (true, None) => Some(pair_of_files(tls, path, credentials)?),
    };
    if tls.insecure_skip_verify == Some(true) {
        return Ok(Some(Material {
            certificate,
            trust: None,
        }));
    }
    let lists = set(&tls.ca_crl).map(|file| {
        let read = credentials.of_files(TlsFiles::Revocations(file));
        let read = read.and_then(|credential| credential.revocations.clone());
        read.unwrap_or(Err(MaterialError::Missing("caCrl")))
    });
    let trust = match (credential, set(&tls.ca_certificates)) {
        (Some(name), _) => {
            let path = path.field("credentialName");
            credentials.secret_trust(&places_of_authorities(name), lists.as_ref(), &path)?
        }
        (None, Some(file)) => {
            let read = credentials.of_files(TlsFiles::Authorities(file));
            let read = read.and_then(|credential| credential.authorities.clone());
            let read = read.unwrap_or(Err(MaterialError::Missing("caCertificates")));
            trust(&read, lists.as_ref()).map_err(|error| unusable(path, &error))?
        }
        (None, None) => Trust {
            authorities: None,
            revocations: lists
                .transpose()
                .map_err(|error| unusable(&path.field("caCrl"), &error))?,
        },
    };
    Ok(Some(Material {
        certificate,
        trust: Some(trust),
    }))
}

fn pair_of_files(
    tls: &ClientTls,
    path: &FieldPath,
    credentials: &Credentials<'_>,
) -> Result<Arc<KeyPair>, Missing> {
    let missing = |field: &'static str| unusable(path, &MaterialError::Missing(field));
    let certificate = set(&tls.client_certificate).ok_or_else(|| missing("clientCertificate"))?;
    let key = set(&tls.private_key).ok_or_else(|| missing("privateKey"))?;
    let files = TlsFiles::Pair {
        side: Side::Client,
        certificate,
        key,
    };
    let read = credentials.of_files(files);
    let pair = read.and_then(|credential| credential.pair.clone());
    pair.unwrap_or(Err(MaterialError::Missing("clientCertificate")))
        .map_err(|error| unusable(&path.field("clientCertificate"), &error))
}

fn unusable(path: &FieldPath, error: &MaterialError) -> Missing {
    Missing {
        path: path.clone(),
        message: error.to_string(),
        is_unknown: false,
    }
}

/// Istio's name of a cluster in SNI, by which a sidecar or an east-west gateway knows the port.
fn mesh_name(site: Site<'_>) -> String {
    let subset = site.subset.unwrap_or_default();
    format!("outbound_.{}_.{subset}_.{}", site.port, site.host)
}

/// Fields that are set and have no effect, and why not.
pub(super) fn inert(tls: &ClientTls) -> Vec<(&'static str, &'static str)> {
    let mode = tls.mode.as_deref().unwrap_or("DISABLE");
    let is_own = matches!(mode, "SIMPLE" | "MUTUAL");
    let skips = tls.insecure_skip_verify == Some(true);
    let verifies = is_own && !skips;
    let is_mutual = mode == "MUTUAL";
    let named = !tls.subject_alt_names.is_empty();
    let fields = [
        (
            "clientCertificate",
            set(&tls.client_certificate).is_some(),
            is_mutual,
        ),
        ("privateKey", set(&tls.private_key).is_some(), is_mutual),
        (
            "caCertificates",
            set(&tls.ca_certificates).is_some(),
            verifies,
        ),
        ("caCrl", set(&tls.ca_crl).is_some(), verifies),
        (
            "credentialName",
            set(&tls.credential_name).is_some(),
            is_mutual || verifies,
        ),
        ("subjectAltNames", named, verifies || mode == "ISTIO_MUTUAL"),
        ("sni", set(&tls.sni).is_some(), mode != "DISABLE"),
        ("insecureSkipVerify", skips, is_own),
    ];
    let idle = fields
        .into_iter()
        .filter(|(_, is_set, counts)| *is_set && !counts);
    let why = |name: &str| match mode {
        "DISABLE" => "mode DISABLE sends plain text",
        "ISTIO_MUTUAL" => "mode ISTIO_MUTUAL uses the mesh's certificates",
        _ if matches!(name, "clientCertificate" | "privateKey") => {
            "mode SIMPLE shows no client certificate"
        }
        _ => "insecureSkipVerify accepts every certificate",
    };
    idle.map(|(name, ..)| (name, why(name))).collect()
}

/// What of an origin is not verified although it could be, and what to add.
pub(super) fn unverified(tls: &ClientTls) -> Option<(&'static str, &'static str, &'static str)> {
    match mode(tls)? {
        "SIMPLE" | "MUTUAL" if tls.insecure_skip_verify == Some(true) => Some((
            "insecureSkipVerify",
            "every certificate is accepted, so whoever answers at the address is trusted",
            "name the origin's CA with caCertificates or credentialName, and remove it",
        )),
        "SIMPLE" | "MUTUAL"
            if set(&tls.sni).is_some_and(|name| name.parse::<IpAddr>().is_err())
                && tls.subject_alt_names.is_empty() =>
        {
            Some((
                "sni",
                "with `sni` and no `subjectAltNames`, a certificate for any name is accepted, as in Istio",
                "add the origin's name to subjectAltNames",
            ))
        }
        _ => None,
    }
}

fn set(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}
