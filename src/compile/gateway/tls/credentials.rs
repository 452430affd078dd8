//! Where certificates and authorities come from: Secrets in the gateway's own namespace, ConfigMaps
//! for authorities alone, or files.
//! The registry asks here for those of connections to origins.

use std::sync::Arc;

use foldhash::HashMap;

use crate::base::tls_material::{Authorities, Credential, KeyPair, MaterialError, Revocations};
use crate::base::{Kind, ObjectKey};
use crate::compile::Options;
use crate::compile::version::Versions;
use crate::model::istio::gateway::ServerTls;
use crate::model::tls_files::{TlsFiles, WorkloadFiles};
use crate::model::{FieldPath, Object, Spec};

/// Scheme of a CA that lies in a ConfigMap: `configmap://namespace/name`.
pub(crate) const CONFIG_MAP: &str = "configmap://";

/// All credentials by identity.
#[derive(Debug)]
pub(crate) struct Credentials<'a> {
    all: HashMap<&'a ObjectKey, (&'a Object, &'a Credential)>,
    namespace: Arc<str>,
    workload: WorkloadFiles,
}

/// Something that was named and cannot be had.
#[derive(Debug)]
pub(crate) struct Missing {
    pub path: FieldPath,
    pub message: String,
    /// Whether nothing of the name exists.
    pub is_unknown: bool,
}

/// Whom certificates must come from, and which of these are revoked.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    pub authorities: Option<Arc<Authorities>>,
    pub revocations: Option<Arc<Revocations>>,
}

impl<'a> Credentials<'a> {
    pub fn index(versions: &'a Versions, options: &Options) -> Self {
        let all = versions.objects.iter().filter_map(|object| {
            let Spec::Secret(credential) = &object.spec else {
                return None;
            };
            Some((&object.key, (&**object, credential)))
        });
        Self {
            all: all.collect(),
            namespace: options.namespace.clone(),
            workload: options.workload.clone(),
        }
    }

    /// The certificates a server names, in order, and what of them cannot be had.
    pub fn pairs(&self, tls: &ServerTls, path: &FieldPath) -> Vec<Result<Arc<KeyPair>, Missing>> {
        if is_mesh(tls) {
            return vec![self.mesh_pair(path)];
        }
        if let Some(name) = written(&tls.credential_name) {
            return vec![self.secret_pair(name, path.field("credentialName"))];
        }
        if !tls.credential_names.is_empty() {
            let path = path.field("credentialNames");
            let names = tls.credential_names.iter().enumerate();
            return names
                .map(|(index, name)| self.secret_pair(name, path.index(index)))
                .collect();
        }
        let mut listed = 0;
        let mut pairs = Vec::new();
        for files in TlsFiles::of(tls) {
            let TlsFiles::Pair { certificate, .. } = files else {
                continue;
            };
            let path = match tls.server_certificate.as_deref() == Some(certificate) {
                true => path.field("serverCertificate"),
                false => {
                    listed += 1;
                    path.field("tlsCertificates").index(listed - 1)
                }
            };
            let credential = self.all.get(&files.object_key());
            let read = credential.and_then(|(_, credential)| credential.pair.clone());
            pairs.push(
                read.unwrap_or(Err(MaterialError::Missing("serverCertificate")))
                    .map_err(|error| Missing {
                        path,
                        message: error.to_string(),
                        is_unknown: false,
                    }),
            );
        }
        pairs
    }

    /// The certificate and key of a Secret.
    pub fn secret_pair(&self, name: &str, path: FieldPath) -> Result<Arc<KeyPair>, Missing> {
        let Some((object, credential)) = self.secret(name) else {
            return Err(Missing {
                path,
                message: format!(
                    "there is no Secret `{}` in the namespace `{}`",
                    bare(name),
                    self.namespace
                ),
                is_unknown: true,
            });
        };
        let problem = match &credential.pair {
            Some(Ok(pair)) => return Ok(pair.clone()),
            Some(Err(error)) => error.to_string(),
            None => "it holds no certificate (`tls.crt` and `tls.key`, or `cert` and `key`)".into(),
        };
        Err(Missing {
            path,
            message: format!("{} cannot be used: {problem}", object.key),
            is_unknown: false,
        })
    }

    fn secret(&self, name: &str) -> Option<&(&'a Object, &'a Credential)> {
        let key = match name.strip_prefix(CONFIG_MAP) {
            Some(place) => {
                let (namespace, name) = place.split_once('/')?;
                ObjectKey {
                    kind: Kind::ConfigMap,
                    namespace: namespace.into(),
                    name: name.into(),
                }
            }
            None => ObjectKey {
                kind: Kind::Secret,
                namespace: self.namespace.clone(),
                name: self.own(bare(name)).into(),
            },
        };
        self.all.get(&key)
    }

    /// A Secret's name without the gateway's own namespace; no other one's Secrets are read.
    fn own<'n>(&self, name: &'n str) -> &'n str {
        let rest = name.strip_prefix(&*self.namespace);
        rest.and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
    }

    /// The CA: `caCertCredentialName`, else the `-cacert` companion, else the credential itself;
    /// without a credential, files.
    pub fn trust(&self, tls: &ServerTls, path: &FieldPath) -> Result<Trust, Missing> {
        if is_mesh(tls) {
            return self.mesh_trust(path);
        }
        let pair = written(&tls.credential_name)
            .or_else(|| tls.credential_names.first().map(String::as_str));
        let places = match (written(&tls.ca_cert_credential_name), pair) {
            (Some(named), _) => vec![named.to_owned()],
            (None, Some(name)) => places_of_authorities(name),
            (None, None) => return self.trusted_files(tls, path),
        };
        self.secret_trust(&places, self.revocation_file(tls), path)
    }

    /// The CA of the first of some Secrets that holds one. Lists in a file hold in place of its
    /// own: what revokes is never left out.
    pub fn secret_trust(
        &self,
        places: &[String],
        lists: Option<&Result<Arc<Revocations>, MaterialError>>,
        path: &FieldPath,
    ) -> Result<Trust, Missing> {
        for (object, credential) in places.iter().filter_map(|name| self.secret(name)) {
            let Some(read) = &credential.authorities else {
                continue;
            };
            let revocations = lists.or(credential.revocations.as_ref());
            return trust(read, revocations).map_err(|error| Missing {
                path: path.clone(),
                message: format!("{} cannot be used: {error}", object.key),
                is_unknown: false,
            });
        }
        let names: Vec<String> = places
            .iter()
            .map(|name| format!("`{}`", bare(name)))
            .collect();
        let map = places
            .first()
            .and_then(|name| name.strip_prefix(CONFIG_MAP));
        let message = match map {
            Some(map) => format!("no ConfigMap `{map}` holds a CA (`cacert` or `ca.crt`)"),
            None => format!(
                "no Secret {} in the namespace `{}` holds a CA (`cacert` or `ca.crt`)",
                names.join(" or "),
                self.namespace
            ),
        };
        Err(Missing {
            path: path.clone(),
            message,
            is_unknown: true,
        })
    }

    /// The mesh's certificate for this gateway, mounted where the settings say.
    pub fn mesh_pair(&self, path: &FieldPath) -> Result<Arc<KeyPair>, Missing> {
        let read = self.of_files(self.workload.pair());
        let read = read.and_then(|credential| credential.pair.clone());
        read.unwrap_or(Err(MaterialError::Missing("certificate")))
            .map_err(|error| unusable_mesh(path, &error))
    }

    /// The mesh's roots.
    pub fn mesh_trust(&self, path: &FieldPath) -> Result<Trust, Missing> {
        let read = self.of_files(self.workload.authorities());
        let read = read.and_then(|credential| credential.authorities.clone());
        read.unwrap_or(Err(MaterialError::Missing("caCertificates")))
            .and_then(|authorities| trust(&Ok(authorities), None))
            .map_err(|error| unusable_mesh(path, &error))
    }

    /// What files hold that were read together.
    pub fn of_files(&self, files: TlsFiles<'_>) -> Option<&'a Credential> {
        let (_, credential) = self.all.get(&files.object_key())?;
        Some(credential)
    }

    /// What the files that a server names hold.
    fn files<'t>(&'t self, tls: &'t ServerTls) -> impl Iterator<Item = &'t Credential> {
        let found = TlsFiles::of(tls).filter_map(|files| self.all.get(&files.object_key()));
        found.map(|(_, credential)| *credential)
    }

    /// `caCrl`.
    fn revocation_file<'t>(
        &'t self,
        tls: &'t ServerTls,
    ) -> Option<&'t Result<Arc<Revocations>, MaterialError>> {
        self.files(tls)
            .find_map(|credential| credential.revocations.as_ref())
    }

    fn trusted_files(&self, tls: &ServerTls, path: &FieldPath) -> Result<Trust, Missing> {
        let authorities = self
            .files(tls)
            .find_map(|credential| credential.authorities.as_ref());
        // Validation has said that there is none, and the server is fenced.
        let Some(authorities) = authorities else {
            return Ok(Trust::default());
        };
        trust(authorities, self.revocation_file(tls)).map_err(|error| Missing {
            path: path.field("caCertificates"),
            message: error.to_string(),
            is_unknown: false,
        })
    }
}

/// Both or neither: without its revocation lists, trust would be wider than it was meant.
pub(crate) fn trust(
    authorities: &Result<Arc<Authorities>, MaterialError>,
    revocations: Option<&Result<Arc<Revocations>, MaterialError>>,
) -> Result<Trust, MaterialError> {
    Ok(Trust {
        authorities: Some(authorities.clone()?),
        revocations: revocations.cloned().transpose()?,
    })
}

fn is_mesh(tls: &ServerTls) -> bool {
    tls.mode.as_deref() == Some("ISTIO_MUTUAL")
}

fn unusable_mesh(path: &FieldPath, error: &MaterialError) -> Missing {
    Missing {
        path: path.field("mode"),
        message: format!(
            "the mesh's certificates (gateway.workloadCertificates) cannot be used: {error}"
        ),
        is_unknown: false,
    }
}

/// Where the CA that belongs to a credential is looked for: the `-cacert` companion, else itself.
pub(crate) fn places_of_authorities(name: &str) -> Vec<String> {
    match name.starts_with(CONFIG_MAP) {
        true => vec![name.to_owned()],
        false => vec![format!("{}-cacert", bare(name)), name.to_owned()],
    }
}

/// The scheme is optional.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix("kubernetes://").unwrap_or(name)
}

fn written(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}
