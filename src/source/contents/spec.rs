//! The body of a document, decoded by its kind.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::base::Kind;
use crate::model::decode::{UnknownFields, decode};
use crate::model::object::{FieldPath, Issue, Spec};
use crate::model::{Node, kube};

use super::secret;

/// Decodes a document; its mistakes are added to `issues`.
pub(super) fn read(kind: &Kind, node: &Node, issues: &mut Vec<Issue>) -> Spec {
    match kind {
        Kind::Gateway => Spec::Gateway(strict_spec(node, issues)),
        Kind::VirtualService => Spec::VirtualService(strict_spec(node, issues)),
        Kind::DestinationRule => Spec::DestinationRule(strict_spec(node, issues)),
        Kind::ServiceEntry => Spec::ServiceEntry(strict_spec(node, issues)),
        Kind::WorkloadEntry => Spec::WorkloadEntry(strict_spec(node, issues)),
        Kind::AuthorizationPolicy => Spec::AuthorizationPolicy(strict_spec(node, issues)),
        Kind::RequestAuthentication => Spec::RequestAuthentication(strict_spec(node, issues)),
        Kind::EnvoyFilter => Spec::EnvoyFilter(strict_spec(node, issues)),
        Kind::Telemetry => Spec::Telemetry(strict_spec(node, issues)),
        Kind::HealthCheckPolicy => Spec::HealthCheckPolicy(strict_spec(node, issues)),
        Kind::RateLimit => Spec::RateLimit(strict_spec(node, issues)),
        Kind::AccessList => Spec::AccessList(strict_spec(node, issues)),
        Kind::BodyLimit => Spec::BodyLimit(strict_spec(node, issues)),
        Kind::Compression => Spec::Compression(strict_spec(node, issues)),
        Kind::Service => {
            let document: WithSpec<kube::Service> = kube_document(node, issues);
            Spec::Service(document.spec)
        }
        Kind::Endpoints => Spec::Endpoints(kube_document(node, issues)),
        Kind::EndpointSlice => Spec::EndpointSlice(kube_document(node, issues)),
        Kind::Pod => Spec::Pod(kube_document(node, issues)),
        Kind::Secret => {
            let document: kube::Secret = kube_document(node, issues);
            Spec::Secret(secret::read(&document, node, issues))
        }
        Kind::ConfigMap => Spec::Secret(secret::read_bundle(node)),
        Kind::TlsFiles | Kind::Other(_) => Spec::Unsupported,
    }
}

/// A whole document of Istio's or of ours: what stands beside `spec` is anyone's, other keys are mistakes.
#[derive(Deserialize)]
#[serde(
    default,
    rename_all = "camelCase",
    bound = "T: Deserialize<'de> + Default"
)]
struct StrictDocument<T> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    spec: T,
    #[serde(rename = "status")]
    _status: IgnoredAny,
}

impl<T: Default> Default for StrictDocument<T> {
    fn default() -> Self {
        Self {
            _api_version: IgnoredAny,
            _kind: IgnoredAny,
            _metadata: IgnoredAny,
            spec: T::default(),
            _status: IgnoredAny,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, bound = "T: Deserialize<'de> + Default")]
struct WithSpec<T> {
    spec: T,
}

fn strict_spec<T: DeserializeOwned + Default>(node: &Node, issues: &mut Vec<Issue>) -> T {
    let (document, found): (StrictDocument<T>, _) =
        decode(node, &FieldPath::default(), UnknownFields::Report);
    issues.extend(found);
    document.spec
}

fn kube_document<T: DeserializeOwned + Default>(node: &Node, issues: &mut Vec<Issue>) -> T {
    let (document, found) = decode(node, &FieldPath::default(), UnknownFields::Ignore);
    issues.extend(found);
    document
}
