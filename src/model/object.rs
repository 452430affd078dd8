//! One object as written: identity, metadata, decoded spec, and what could not be decoded.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::base::tls_material::Credential;
use crate::base::{ObjectKey, Origin, Position};

use super::{Node, istio, kube, own};

/// A document of a kind Pingress reads.
#[derive(Debug)]
pub struct Object {
    pub key: ObjectKey,
    pub api_version: Arc<str>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// `metadata.creationTimestamp` in seconds since the epoch.
    pub created: Option<i64>,
    /// Where the document starts.
    pub origin: Origin,
    pub spec: Spec,
    /// What could not be decoded, by field. Empty for an error-free document.
    pub issues: Vec<Issue>,
    /// The shape of the document, for looking up the line of any field path. Its scalars are
    /// empty: what they say is in `spec`.
    pub node: Arc<Node>,
    /// Hash of kind, metadata that counts and spec, independent of place and layout.
    pub content: u64,
}

/// The decoded body, one variant per kind that means something to a gateway.
#[derive(Debug)]
pub enum Spec {
    Gateway(istio::Gateway),
    VirtualService(istio::VirtualService),
    DestinationRule(istio::DestinationRule),
    ServiceEntry(istio::ServiceEntry),
    WorkloadEntry(istio::WorkloadEntry),
    Service(kube::Service),
    Endpoints(kube::Endpoints),
    EndpointSlice(kube::EndpointSlice),
    Pod(kube::Pod),
    /// What a Secret or a ConfigMap holds for TLS; empty if it holds nothing of the kind.
    Secret(Credential),
    AuthorizationPolicy(istio::AuthorizationPolicy),
    RequestAuthentication(istio::RequestAuthentication),
    EnvoyFilter(istio::EnvoyFilter),
    Telemetry(istio::Telemetry),
    HealthCheckPolicy(own::HealthCheckPolicy),
    RateLimit(own::RateLimit),
    AccessList(own::AccessList),
    BodyLimit(own::BodyLimit),
    Compression(own::Compression),
    /// An Istio kind that Pingress knows by name only; `compile` reports it as unsupported.
    Unsupported,
}

impl Object {
    /// Istio's order of objects: the oldest first, those without age last; then by name,
    /// namespace, kind.
    pub fn stable_order(&self, other: &Self) -> Ordering {
        let age = |object: &Self| (object.created.is_none(), object.created);
        age(self)
            .cmp(&age(other))
            .then_with(|| self.key.name.cmp(&other.key.name))
            .then_with(|| self.key.namespace.cmp(&other.key.namespace))
            .then_with(|| self.key.kind.cmp(&other.key.kind))
    }

    /// Where the field at a path stands; the document's start if the path is not there.
    pub fn origin_of(&self, path: &FieldPath) -> Origin {
        match self.node.find(path) {
            Some(position) => self.origin.at(position),
            None => self.origin.clone(),
        }
    }

    /// Issues at or below a field.
    pub fn issues_under<'a>(&'a self, path: &'a FieldPath) -> impl Iterator<Item = &'a Issue> {
        self.issues
            .iter()
            .filter(move |issue| issue.path.starts_with(path))
    }
}

/// Something in a document that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    pub kind: IssueKind,
    pub path: FieldPath,
    pub position: Position,
    pub message: String,
    pub hint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueKind {
    /// The field is not in the kind's schema.
    UnknownField,
    /// The field has another type than the schema says, or a value its type cannot hold.
    WrongType,
}

/// The way to a field: `spec.http[2].match[0].uri`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(pub Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Field(Arc<str>),
    Index(u32),
}

impl FieldPath {
    /// The path `spec`.
    pub fn spec() -> Self {
        Self::default().field("spec")
    }

    pub fn field(&self, name: &str) -> Self {
        self.then(Step::Field(name.into()))
    }

    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    pub fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub fn starts_with(&self, prefix: &FieldPath) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if name.contains(['.', '/', '[']) => write!(f, "[{name}]")?,
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
