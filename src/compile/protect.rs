//! Protections that are not enforced yet fence what they protect: nothing fails open (design 4.3).
//!
//! Authorization, authentication and rate limits that select this gateway are found here, and
//! the listeners or virtual hosts they cover answer 503 until the operator names them in
//! `gateway.acceptUnenforced`. Kinds without protection are reported as unsupported, or as not
//! meant for a gateway. Called by `compile` after the listeners are built.

mod envoy_filter;
mod scope;
mod streams;

use std::collections::BTreeMap;

use crate::base::{Code, Finding, Findings, ObjectKey, Severity};
use crate::model::istio::{Items, TargetRef};
use crate::model::{FieldPath, Object, Spec};
use crate::plan::{Fence, Listener};

use super::Options;
use super::gateway::{selects, show_labels};
use super::version::Versions;

use scope::Scope;
pub(crate) use streams::fence_streams;

/// Puts up a fence for every protection that is not enforced.
pub(crate) fn fence(
    versions: &Versions,
    options: &Options,
    listeners: &mut [Listener],
    findings: &mut Findings,
) {
    for object in versions.others() {
        let mut guard = Guard {
            versions,
            options,
            listeners,
            findings,
            object,
        };
        match &object.spec {
            Spec::AuthorizationPolicy(spec) => {
                let labels = spec
                    .selector
                    .as_ref()
                    .map(|selector| &selector.match_labels);
                if guard.is_ours(labels, spec.target_ref.is_some(), &spec.target_refs) {
                    guard.authorization(spec.action.as_deref());
                }
            }
            Spec::RequestAuthentication(spec) => {
                let labels = spec
                    .selector
                    .as_ref()
                    .map(|selector| &selector.match_labels);
                if guard.is_ours(labels, spec.target_ref.is_some(), &spec.target_refs) {
                    guard.protect(&Scope::All, "", "is not enforced yet");
                }
            }
            Spec::EnvoyFilter(spec) => {
                let labels = spec
                    .workload_selector
                    .as_ref()
                    .map(|selector| &selector.labels);
                if guard.is_ours(labels, false, &spec.target_refs) {
                    envoy_filter::read(&mut guard, spec);
                }
            }
            Spec::Unsupported => guard.unsupported(),
            _ => {}
        }
    }
}

/// One object that may protect, and what it may fence.
struct Guard<'g> {
    versions: &'g Versions,
    options: &'g Options,
    listeners: &'g mut [Listener],
    findings: &'g mut Findings,
    object: &'g Object,
}

impl Guard<'_> {
    /// Whether the object selects this gateway; a finding if not. What cannot be read selects.
    fn is_ours(
        &mut self,
        labels: Option<&BTreeMap<String, String>>,
        has_target: bool,
        targets: &Items<TargetRef>,
    ) -> bool {
        let namespace = &self.object.key.namespace;
        let (path, message) = if has_target || !targets.is_empty() {
            (
                "spec.targetRefs",
                "`targetRefs` concern gateways of the Kubernetes Gateway API".to_owned(),
            )
        } else if *namespace != self.options.namespace && *namespace != self.options.root_namespace
        {
            let message = format!(
                "it applies to the namespace `{namespace}`; this gateway is in `{}`, the root namespace is `{}`",
                self.options.namespace, self.options.root_namespace
            );
            ("metadata.namespace", message)
        } else if let Some(labels) = labels.filter(|labels| !selects(labels, &self.options.labels))
        {
            let message = format!(
                "the selector {} does not select this gateway, whose labels are {}",
                show_labels(labels),
                show_labels(&self.options.labels)
            );
            ("spec.selector", message)
        } else {
            return true;
        };
        self.note(Code::NOT_FOR_THIS_GATEWAY, path, message, "");
        false
    }

    fn authorization(&mut self, action: Option<&str>) {
        let is_trial = self
            .object
            .annotations
            .get("istio.io/dry-run")
            .is_some_and(|value| **value == *"true");
        if is_trial || action == Some("AUDIT") {
            let message =
                "it only records and is not supported yet; no request is refused by it".to_owned();
            let finding = self
                .finding(Code::UNSUPPORTED, "", message)
                .severity(Severity::Warning);
            self.findings.push(finding);
            return;
        }
        self.protect(&Scope::All, "", "is not enforced yet");
    }

    /// Fences what the object protects, unless the operator accepts that it goes unprotected.
    fn protect(&mut self, scope: &Scope, path: &str, what: &str) {
        let key = &self.object.key;
        let name = format!("{}/{}/{}", key.kind, key.namespace, key.name);
        if is_accepted(key, &self.options.accept_unenforced) {
            let message = format!(
                "it {what}; the settings accept that, so what it protects is served without it"
            );
            self.note(Code::ACCEPTED_UNENFORCED, path, message, "");
            return;
        }
        let reason = format!("{key} {what}");
        let origin = match path {
            "" => self.object.origin.clone(),
            _ => self.origin_of(path),
        };
        let count = scope.fence(
            self.listeners,
            &Fence {
                origin,
                reason: reason.into(),
            },
        );
        let message = match count {
            0 => format!("it {what}; nothing that is served now is covered by it"),
            _ => format!("it {what}, so {} answers 503", scope.show()),
        };
        let hint = format!(
            "to serve without this protection, put `{name}` into `gateway.acceptUnenforced`"
        );
        self.note(Code::UNENFORCED_PROTECTION, path, message, &hint);
    }

    /// A kind known by name only.
    fn unsupported(&mut self) {
        let kind = self.object.key.kind.as_str();
        if matches!(kind, "Sidecar" | "PeerAuthentication" | "WorkloadGroup") {
            self.note(
                Code::NOT_FOR_THIS_GATEWAY,
                "",
                format!("a {kind} does not concern gateways"),
                "",
            );
            return;
        }
        let path = ["selector", "matchLabels"];
        let spec = self.object.node.get("spec");
        let labels = path
            .iter()
            .try_fold(spec, |node, step| Some(node?.get(step)))
            .flatten()
            .map(|node| {
                let pairs = node.entries().iter();
                pairs
                    .map(|entry| {
                        (
                            entry.key.to_string(),
                            entry.value.as_str().unwrap_or_default().to_owned(),
                        )
                    })
                    .collect()
            });
        let has_target = spec.is_some_and(|spec| {
            spec.get("targetRefs")
                .or_else(|| spec.get("targetRef"))
                .is_some()
        });
        if self.is_ours(labels.as_ref(), has_target, &Vec::new()) {
            self.note(
                Code::UNSUPPORTED,
                "",
                format!("a {kind} is not supported yet and has no effect"),
                "remove it to accept this",
            );
        }
    }

    fn note(&mut self, code: Code, path: &str, message: String, hint: &str) {
        let finding = self.finding(code, path, message).hint(hint);
        self.findings.push(finding);
    }

    fn finding(&self, code: Code, path: &str, message: String) -> Finding {
        let origin = match path {
            "" => self.object.origin.clone(),
            _ => self.origin_of(path),
        };
        Finding::new(code, message)
            .at(&origin)
            .of(&self.object.key)
            .path(path)
    }

    /// The line of a printed path.
    fn origin_of(&self, path: &str) -> crate::base::Origin {
        let mut steps = FieldPath::default();
        for part in path.split('.') {
            let (name, index) = match part.split_once('[') {
                Some((name, rest)) => (
                    name,
                    rest.strip_suffix(']').and_then(|index| index.parse().ok()),
                ),
                None => (part, None),
            };
            steps = steps.field(name);
            if let Some(index) = index {
                steps = steps.index(index);
            }
        }
        self.object.origin_of(&steps)
    }

    /// Whether a part of the object cannot be read, so that its absence says nothing.
    fn is_damaged(&self, path: &str) -> bool {
        self.versions
            .damage(&self.object.key)
            .is_some_and(|damage| damage.under(path).next().is_some())
    }
}

/// Whether the settings name a protection: `Kind` or `Kind/namespace/name`.
fn is_accepted(key: &ObjectKey, accepted: &[String]) -> bool {
    accepted.iter().any(|entry| {
        let mut parts = entry.splitn(3, '/');
        parts.next() == Some(key.kind.as_str())
            && match (parts.next(), parts.next()) {
                (None, _) => true,
                (Some(namespace), Some(name)) => *namespace == *key.namespace && *name == *key.name,
                (Some(_), None) => false,
            }
    })
}
