//! The files that Gateways and DestinationRules name for TLS, and the mesh's own certificates where
//! they are asked for, read as objects beside the manifests'.
//!
//! They may lie anywhere; a relative path counts from the working directory, as for Envoy. Files
//! are read again when they change; the watcher follows them (`Loader::certificate_files`).

use std::collections::BTreeMap;
use std::fs;
use std::hash::BuildHasher;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::quality::FixedState;

use crate::base::tls_material::{Authorities, Credential, KeyPair, MaterialError, Revocations};
use crate::base::{ObjectKey, Origin, Position};
use crate::model::node::{Node, Value};
use crate::model::tls_files::{TlsFiles, WorkloadFiles, client_tls};
use crate::model::{Object, Spec};

use super::walk::Stamp;

/// Far above any bundle of authorities.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// What was read, by identity.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    known: BTreeMap<ObjectKey, Entry>,
}

#[derive(Debug)]
struct Entry {
    paths: Vec<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    object: Arc<Object>,
}

impl Certificates {
    /// Looks at the files that these objects name; whether anything changed.
    pub fn refresh(&mut self, objects: &[Arc<Object>], workload: &WorkloadFiles) -> bool {
        let mut next = BTreeMap::new();
        let mut is_changed = false;
        for object in objects {
            for files in named(object, workload) {
                let key = files.object_key();
                if next.contains_key(&key) {
                    continue;
                }
                let stamps: Vec<_> = files.paths().map(stamp).collect();
                let entry = match self.known.remove(&key) {
                    Some(known) if known.stamps == stamps => known,
                    _ => {
                        is_changed = true;
                        Entry {
                            paths: files.paths().map(Path::to_path_buf).collect(),
                            stamps,
                            object: Arc::new(read(files, &key)),
                        }
                    }
                };
                next.insert(key, entry);
            }
        }
        is_changed |= !self.known.is_empty();
        self.known = next;
        is_changed
    }

    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.known
            .values()
            .map(|entry| entry.object.clone())
            .collect()
    }

    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.known.values().flat_map(|entry| &entry.paths)
    }
}

/// The files that an object names.
fn named<'o>(object: &'o Object, workload: &'o WorkloadFiles) -> Vec<TlsFiles<'o>> {
    let (mut files, is_mesh): (Vec<TlsFiles<'o>>, bool) = match &object.spec {
        Spec::Gateway(gateway) => {
            let servers = gateway.servers.iter().filter_map(|slot| slot.good());
            let blocks = servers.filter_map(|server| server.tls.as_deref());
            let is_mesh = blocks
                .clone()
                .any(|tls| tls.mode.as_deref() == Some("ISTIO_MUTUAL"));
            (blocks.flat_map(TlsFiles::of).collect(), is_mesh)
        }
        Spec::DestinationRule(rule) => {
            let is_mesh = client_tls(rule).any(|tls| tls.mode.as_deref() == Some("ISTIO_MUTUAL"));
            let files = client_tls(rule).flat_map(TlsFiles::of_client);
            (files.collect(), is_mesh)
        }
        _ => return Vec::new(),
    };
    if is_mesh {
        files.extend([workload.pair(), workload.authorities()]);
    }
    files
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}

fn read(files: TlsFiles<'_>, key: &ObjectKey) -> Object {
    let credential = match files {
        TlsFiles::Pair {
            side,
            certificate: certificate_path,
            key: key_path,
        } => {
            let names = side.names();
            let pair = contents(certificate_path, names.0).and_then(|certificate| {
                let key = contents(key_path, names.1)?;
                KeyPair::from_pem(&certificate, &key, names).map(Arc::new)
            });
            Credential {
                pair: Some(pair),
                ..Credential::default()
            }
        }
        TlsFiles::Authorities(path) => {
            let name = "caCertificates";
            let read = contents(path, name).and_then(|pem| Authorities::from_pem(&pem, name));
            Credential {
                authorities: Some(read.map(Arc::new)),
                ..Credential::default()
            }
        }
        TlsFiles::Revocations(path) => {
            let name = "caCrl";
            let read = contents(path, name).and_then(|list| Revocations::read(&list, name));
            Credential {
                revocations: Some(read.map(Arc::new)),
                ..Credential::default()
            }
        }
    };
    let content = FixedState::default().hash_one((key, &credential));
    let file = files.paths().next().unwrap_or(Path::new(""));
    Object {
        key: key.clone(),
        api_version: "".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        created: None,
        origin: Origin::new(file.to_string_lossy().into(), Position::default(), 0),
        spec: Spec::Secret(credential),
        issues: Vec::new(),
        node: Arc::new(Node {
            position: Position::default(),
            value: Value::Null,
        }),
        content,
    }
}

fn contents(path: &str, name: &'static str) -> Result<Vec<u8>, MaterialError> {
    let unreadable = |error: std::io::Error| MaterialError::Unreadable {
        name,
        path: path.into(),
        reason: error.to_string().into(),
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}
