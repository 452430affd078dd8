//! What a Secret, or a ConfigMap with a CA, holds for TLS, under the keys Istio looks for.
//!
//! Certificates are parsed here, once for each version of a Secret; neither its other data nor
//! its text is kept.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::tls_material::{Authorities, Credential, KeyPair, MaterialError, Revocations};
use crate::model::Node;
use crate::model::kube::Secret;
use crate::model::object::{FieldPath, Issue, IssueKind};

/// The generic form first, as Istio looks it up.
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
const AUTHORITIES: [&str; 2] = ["cacert", "ca.crt"];
const REVOCATIONS: [&str; 2] = ["crl", "ca.crl"];
const STAPLE: &str = "tls.ocsp-staple";

/// Reads a Secret; values that are not base64 become issues.
pub(super) fn read(secret: &Secret, node: &Node, issues: &mut Vec<Issue>) -> Credential {
    let mut values = Values {
        secret,
        node,
        issues,
    };
    let pair = PAIRS
        .into_iter()
        .find(|(certificate, key)| values.has(certificate) || (values.has(key) && *key != "key"));
    let staple = values.get(STAPLE).map(|staple| Arc::from(&*staple));
    Credential {
        pair: pair.map(|names| {
            let certificate = values.get(names.0).ok_or(MaterialError::Missing(names.0))?;
            let key = values.get(names.1).ok_or(MaterialError::Missing(names.1))?;
            KeyPair::from_pem(&certificate, &key, names)
                .map(|pair| Arc::new(pair.with_staple(staple)))
        }),
        authorities: values
            .first(AUTHORITIES)
            .map(|(name, bundle)| Authorities::from_pem(&bundle, name).map(Arc::new)),
        revocations: values
            .first(REVOCATIONS)
            .map(|(name, list)| Revocations::read(&list, name).map(Arc::new)),
    }
}

/// Whether a document is a ConfigMap with a CA: others are nothing to a gateway.
pub(super) fn is_bundle(api_version: &str, kind: &str, node: &Node) -> bool {
    let has = |name| {
        node.get("data")
            .is_some_and(|data| data.get(name).is_some())
    };
    (api_version, kind) == ("v1", "ConfigMap") && AUTHORITIES.into_iter().any(has)
}

/// Reads a ConfigMap. Its values are written as they are.
pub(super) fn read_bundle(node: &Node) -> Credential {
    let first = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| {
            let value = node.get("data")?.get(name)?;
            // What is no text is no certificate either.
            Some((name, value.as_str().unwrap_or_default().as_bytes()))
        })
    };
    Credential {
        pair: None,
        authorities: first(AUTHORITIES)
            .map(|(name, bundle)| Authorities::from_pem(bundle, name).map(Arc::new)),
        revocations: first(REVOCATIONS)
            .map(|(name, list)| Revocations::read(list, name).map(Arc::new)),
    }
}

struct Values<'s, 'i> {
    secret: &'s Secret,
    node: &'s Node,
    issues: &'i mut Vec<Issue>,
}

impl<'s> Values<'s, '_> {
    fn has(&self, name: &str) -> bool {
        self.secret.data.contains_key(name) || self.secret.string_data.contains_key(name)
    }

    fn first(&mut self, names: [&'static str; 2]) -> Option<(&'static str, Cow<'s, [u8]>)> {
        names
            .into_iter()
            .find_map(|name| Some((name, self.get(name)?)))
    }

    fn get(&mut self, name: &str) -> Option<Cow<'s, [u8]>> {
        if let Some(text) = self.secret.string_data.get(name) {
            return Some(text.as_bytes().into());
        }
        let text = self.secret.data.get(name)?;
        // Exports and hand-written files break long values into lines.
        let packed: String = text.split_ascii_whitespace().collect();
        match STANDARD.decode(packed) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) => {
                let at = self.node.get("data").and_then(|data| data.get(name));
                self.issues.push(Issue {
                    kind: IssueKind::WrongType,
                    path: FieldPath::default().field("data").field(name),
                    position: at.map_or(self.node.position, |at| at.position),
                    message: format!("`{name}` is not base64: {error}"),
                    hint: "encode it, or write it as it is under `stringData`".to_owned(),
                });
                None
            }
        }
    }
}
