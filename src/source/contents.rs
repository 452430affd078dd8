//! Documents to objects: identity, metadata, decoded spec, and what is not an object at all.

mod content_hash;
mod secret;
mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::base::{Code, Finding, Kind, ObjectKey, Origin};
use crate::model::Node;
use crate::model::decode::{UnknownFields, decode};
use crate::model::node::Value;
use crate::model::object::{FieldPath, Issue, IssueKind, Object, Spec};

use super::kinds::{Meaning, meaning};
use super::yaml::KeyNames;

/// The annotation in which `kubectl apply` keeps a whole copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) objects: Vec<Arc<Object>>,
    /// Kinds that are nothing to a gateway, with their place.
    pub(super) foreign: Vec<(String, Origin)>,
    pub(super) findings: Vec<Finding>,
    /// Documents that should have been objects and are not.
    pub(super) lost: usize,
}

/// Reads the objects of one file's documents.
pub(super) fn read(
    documents: Vec<Node>,
    file: &Arc<str>,
    namespace: &Arc<str>,
    names: &mut KeyNames,
) -> Contents {
    let mut reader = Reader {
        namespace,
        names,
        contents: Contents::default(),
    };
    for (index, node) in documents.into_iter().enumerate() {
        let document = u32::try_from(index).unwrap_or(u32::MAX);
        let origin = Origin::new(file.clone(), node.position, document);
        reader.document(node, &origin, None);
    }
    reader.contents
}

/// What the items of a typed list (`VirtualServiceList`) leave to their list.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    api_version: &'a str,
    kind: &'a str,
}

struct Reader<'a> {
    namespace: &'a Arc<str>,
    names: &'a mut KeyNames,
    contents: Contents,
}

impl Reader<'_> {
    fn document(&mut self, node: Node, origin: &Origin, inherited: Option<Inherited<'_>>) {
        let Value::Map(_) = node.value else {
            let message = format!("the document is {}, not an object", node.kind());
            return self.lose(Code::NOT_AN_OBJECT, origin, message, NOT_A_MANIFEST);
        };
        let text = |key: &str| {
            node.get(key)
                .and_then(Node::as_str)
                .filter(|text| !text.is_empty())
        };
        let api_version = text("apiVersion").or(inherited.map(|from| from.api_version));
        let kind = text("kind").or(inherited.map(|from| from.kind));
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            let missing = if api_version.is_none() {
                "apiVersion"
            } else {
                "kind"
            };
            let message = format!("the document has no `{missing}`, so it is not an object");
            return self.lose(Code::NOT_AN_OBJECT, origin, message, NOT_A_MANIFEST);
        };
        if let Some(item_kind) = kind.strip_suffix("List")
            && matches!(
                node.get("items"),
                Some(Node {
                    value: Value::Sequence(_),
                    ..
                })
            )
        {
            let (api_version, item_kind) = (api_version.to_owned(), item_kind.to_owned());
            let typed = Inherited {
                api_version: &api_version,
                kind: &item_kind,
            };
            let inherited = (!item_kind.is_empty()).then_some(typed);
            for item in take_items(node) {
                let origin = origin.at(item.position);
                self.document(item, &origin, inherited);
            }
            return;
        }
        let meaning = match meaning(api_version, kind) {
            Meaning::Foreign if secret::is_bundle(api_version, kind, &node) => {
                Meaning::Read(Kind::ConfigMap)
            }
            meaning => meaning,
        };
        match meaning {
            Meaning::Read(kind) => {
                let api_version = self.names.shared(api_version);
                self.object(kind, true, api_version, node, origin);
            }
            Meaning::Unsupported(kind) => {
                let api_version = self.names.shared(api_version);
                self.object(kind, false, api_version, node, origin);
            }
            Meaning::UnknownVersion { known } => {
                let message = format!("there is no {kind} of apiVersion `{api_version}`");
                let hint = format!("use `{}`", with_version(api_version, known));
                self.lose(Code::UNKNOWN_API_VERSION, origin, message, &hint);
            }
            Meaning::UnknownKind { known } => {
                let message = format!("there is no {kind} of apiVersion `{api_version}`");
                let hint = format!("the group has {known}");
                self.lose(Code::UNKNOWN_API_VERSION, origin, message, &hint);
            }
            Meaning::Foreign => {
                self.contents
                    .foreign
                    .push((foreign_name(api_version, kind), origin.clone()));
            }
        }
    }

    fn object(
        &mut self,
        kind: Kind,
        decoded: bool,
        api_version: Arc<str>,
        node: Node,
        origin: &Origin,
    ) {
        let (metadata, mut issues) = match node.get("metadata") {
            Some(metadata) => {
                let path = FieldPath::default().field("metadata");
                decode::<Metadata>(metadata, &path, UnknownFields::Ignore)
            }
            None => (Metadata::default(), Vec::new()),
        };
        // Under another namespace or name than the one meant, it would do harm elsewhere.
        let unclear = issues.iter().find(|issue| is_identity(&issue.path));
        if let Some(Issue {
            path,
            message,
            hint,
            ..
        }) = unclear
        {
            let message = format!("the {kind} has no identity: `{path}` {message}");
            let hint = hint.clone();
            return self.lose(Code::NOT_AN_OBJECT, origin, message, &hint);
        }
        let Some(name) = metadata.name.filter(|name| !name.is_empty()) else {
            let message = format!("the {kind} has no `metadata.name`");
            return self.lose(
                Code::NOT_AN_OBJECT,
                origin,
                message,
                "give it a name of its own",
            );
        };
        let namespace = match metadata.namespace {
            Some(namespace) if !namespace.is_empty() => self.names.shared(&namespace),
            _ => self.namespace.clone(),
        };
        let key = ObjectKey {
            kind,
            namespace,
            name: name.into(),
        };
        let created = created(metadata.creation_timestamp.as_deref(), &node, &mut issues);
        let spec = match decoded {
            true => spec::read(&key.kind, &node, &mut issues),
            false => Spec::Unsupported,
        };
        let labels = shared(metadata.labels);
        let mut annotations = shared(metadata.annotations);
        annotations.remove(LAST_APPLIED);
        issues.sort_by_key(|issue| issue.position);
        let mut object = Object {
            key,
            api_version,
            labels,
            annotations,
            created,
            origin: origin.clone(),
            spec,
            issues,
            node: Arc::new(node),
            content: 0,
        };
        object.content = content_hash::of(&object);
        if let Some(node) = Arc::get_mut(&mut object.node) {
            forget_reports(node);
            node.keep_places();
        }
        self.contents.objects.push(Arc::new(object));
    }

    fn lose(&mut self, code: Code, origin: &Origin, message: String, hint: &str) {
        self.contents.lost += 1;
        self.contents
            .findings
            .push(Finding::new(code, message).at(origin).hint(hint));
    }
}

const NOT_A_MANIFEST: &str =
    "begin it with `apiVersion` and `kind`, or keep the file out of the folder";

/// Only the part of Kubernetes' ObjectMeta that counts here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    creation_timestamp: Option<String>,
}

fn shared(texts: BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
    texts
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// Drops what the API server notes down for itself; an export of a cluster is mostly that.
fn forget_reports(node: &mut Node) {
    let Value::Map(entries) = &mut node.value else {
        return;
    };
    for entry in entries {
        match &*entry.key {
            "status" => entry.value.value = Value::Null,
            "metadata" => {
                let Value::Map(metadata) = &mut entry.value.value else {
                    continue;
                };
                let reports = metadata
                    .iter_mut()
                    .filter(|entry| &*entry.key == "managedFields");
                reports.for_each(|entry| entry.value.value = Value::Null);
            }
            _ => {}
        }
    }
}

fn is_identity(path: &FieldPath) -> bool {
    let metadata = FieldPath::default().field("metadata");
    *path == metadata
        || ["name", "namespace"]
            .iter()
            .any(|key| *path == metadata.field(key))
}

fn created(text: Option<&str>, node: &Node, issues: &mut Vec<Issue>) -> Option<i64> {
    let text = text?;
    match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => Some(timestamp.as_second()),
        Err(_) => {
            let path = FieldPath::default()
                .field("metadata")
                .field("creationTimestamp");
            let position = node.find(&path).unwrap_or_default();
            issues.push(Issue {
                kind: IssueKind::WrongType,
                path,
                position,
                message: format!("`{text}` is not a timestamp"),
                hint: "write it as `2024-01-31T12:00:00Z`, or leave it out".to_owned(),
            });
            None
        }
    }
}

fn take_items(node: Node) -> Vec<Node> {
    let Value::Map(entries) = node.value else {
        return Vec::new();
    };
    let items = entries
        .into_vec()
        .into_iter()
        .find(|entry| &*entry.key == "items");
    match items.map(|entry| entry.value.value) {
        Some(Value::Sequence(items)) => items.into_vec(),
        _ => Vec::new(),
    }
}

/// The group is named where the kind alone could be taken for one of ours.
fn foreign_name(api_version: &str, kind: &str) -> String {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match kind {
        "Gateway" | "Service" | "VirtualService" | "AuthorizationPolicy" => {
            format!("{kind} ({group})")
        }
        _ => kind.to_owned(),
    }
}

fn with_version(api_version: &str, known: &str) -> String {
    match api_version.split_once('/') {
        Some((group, _)) if !known.contains('/') => format!("{group}/{known}"),
        _ => known.to_owned(),
    }
}
