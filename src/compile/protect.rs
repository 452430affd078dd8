//! Puts policies that protect in front of what they protect; one that cannot be enforced fences it,
//! so that nothing fails open.
//!
//! Rate limits become guards of listeners, hosts and rules. What authorizes or authenticates, and
//! a limit that cannot be read, has what it covers answer 503 until the operator names it in
//! `gateway.acceptUnenforced`. Kinds without protection are reported as unsupported, or as not
//! meant for a gateway. Called by `compile` after the listeners are built.

mod compression;
mod envoy_filter;
mod own;
mod rate_limit;
mod scope;
mod sheet;
mod streams;
mod target;

use std::collections::BTreeMap;

use crate::base::{Code, Finding, Findings, ObjectKey, Origin, Severity};
use crate::model::istio::{Items, TargetRef};
use crate::model::own::PolicyTarget;
use crate::model::{FieldPath, Object, Spec};
use crate::plan::{Checks, Fence, LimitId, Listener, PlacedLimit};

use super::Options;
use super::gateway::{Gateways, selects, show_labels};
use super::pattern::Patterns;
use super::registry::Registry;
use super::version::Versions;

use scope::Scope;
use sheet::{Sheets, Spot};
pub(crate) use streams::protect_streams;
use target::{Found, Targets};

/// Gives the listeners their guards and fences. Gives the policies among the guards.
pub(crate) fn protect(
    versions: &Versions,
    options: &Options,
    gateways: &Gateways<'_>,
    patterns: &Patterns,
    registry: &mut Registry<'_>,
    listeners: &mut [Listener],
    findings: &mut Findings,
) -> (Vec<PlacedLimit>, Checks) {
    let mut targets = Targets::new(versions, gateways);
    let mut sheets = Sheets::default();
    let mut limits = Vec::new();
    let mut checks = Checks::default();
    let mut patches = Vec::new();
    let Some(object) = versions.others().next() else {
        return (limits, checks);
    };
    let mut guard = Guard {
        versions,
        options,
        patterns,
        targets: &mut targets,
        sheets: &mut sheets,
        limits: &mut limits,
        checks: &mut checks,
        listeners,
        findings,
        object,
    };
    for object in versions.others() {
        guard.object = object;
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
                    envoy_filter::read(&mut guard, spec, &mut patches);
                }
            }
            Spec::RateLimit(spec) => rate_limit::read(&mut guard, registry, spec),
            Spec::AccessList(spec) => own::read_access(&mut guard, spec),
            Spec::BodyLimit(spec) => own::read_body(&mut guard, spec),
            Spec::Unsupported => guard.unsupported(),
            _ => {}
        }
    }
    if let Some(first) = patches.first() {
        guard.object = first.object();
        envoy_filter::put_in_force(&mut guard, registry, patches);
    }
    let mut turns = compression::Turns::default();
    for (object, spec, turn) in compression::by_turns(versions.others()) {
        guard.object = object;
        turns.read(&mut guard, spec, turn);
    }
    sheets.hand_out(listeners);
    (limits, checks)
}

/// One object that may protect, and what it may fence.
struct Guard<'g, 'a> {
    versions: &'a Versions,
    options: &'g Options,
    patterns: &'g Patterns,
    targets: &'g mut Targets<'a>,
    sheets: &'g mut Sheets,
    limits: &'g mut Vec<PlacedLimit>,
    checks: &'g mut Checks,
    listeners: &'g mut [Listener],
    findings: &'g mut Findings,
    object: &'a Object,
}

impl Guard<'_, '_> {
    /// Gives a limit its number.
    fn limit(&mut self, limit: PlacedLimit) -> LimitId {
        let id = LimitId(u32::try_from(self.limits.len()).unwrap_or(u32::MAX));
        self.limits.push(limit);
        id
    }

    /// Whether the object selects this gateway; a finding if not. What cannot be read selects.
    fn is_ours(
        &mut self,
        labels: Option<&BTreeMap<String, String>>,
        has_target: bool,
        targets: &Items<TargetRef>,
    ) -> bool {
        match elsewhere(
            self.object,
            self.options,
            labels,
            has_target || !targets.is_empty(),
        ) {
            None => true,
            Some((path, message)) => {
                self.note(Code::NOT_FOR_THIS_GATEWAY, path, message, "");
                false
            }
        }
    }

    /// Where the policy's target is served. `None`, and a finding, if it is not in force there: what
    /// it is for is fenced if the policy has errors.
    fn spots(&mut self, target: &PolicyTarget) -> Option<Vec<Spot>> {
        let key = Targets::key(self.object, target);
        let section = target.section_name.as_deref();
        let is_damaged = self.versions.damage(&self.object.key).is_some();
        if is_damaged && self.is_damaged("spec.targetRef") {
            self.protect(
                &Scope::All,
                "spec.targetRef",
                "cannot be read, and may protect",
            );
            return None;
        }
        let (code, message) = match self.targets.find(&key, section, self.listeners) {
            Found::Spots(spots) if is_damaged => {
                let name = match section {
                    Some(section) => format!("what the rule `{section}` of {key} serves"),
                    None => format!("what {key} serves"),
                };
                let scope = Scope::Target { spots, name };
                self.protect(&scope, "", "has errors and is not enforced");
                return None;
            }
            Found::Spots(spots) => return Some(spots),
            Found::Foreign(message) => (Code::NOT_FOR_THIS_GATEWAY, message),
            Found::Missing(message) => (Code::REFERENCED_RESOURCE_NOT_FOUND, message),
        };
        let hint = "correct the target's name or namespace; nothing is protected by this policy";
        self.note(code, "spec.targetRef", message, hint);
        None
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
    fn origin_of(&self, path: &str) -> Origin {
        self.object.origin_of(&steps(path))
    }

    /// Whether a part of the object cannot be read, so that its absence says nothing.
    fn is_damaged(&self, path: &str) -> bool {
        self.versions
            .damage(&self.object.key)
            .is_some_and(|damage| damage.under(path).next().is_some())
    }
}

/// A path that was printed.
fn steps(path: &str) -> FieldPath {
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
    steps
}

/// Why an object is not for this gateway, with the field that says so; `None` if it is.
pub(crate) fn elsewhere(
    object: &Object,
    options: &Options,
    labels: Option<&BTreeMap<String, String>>,
    has_target: bool,
) -> Option<(&'static str, String)> {
    let namespace = &object.key.namespace;
    if has_target {
        return Some((
            "spec.targetRefs",
            "`targetRefs` concern gateways of the Kubernetes Gateway API".to_owned(),
        ));
    }
    if *namespace != options.namespace && *namespace != options.root_namespace {
        let message = format!(
            "it applies to the namespace `{namespace}`; this gateway is in `{}`, the root namespace is `{}`",
            options.namespace, options.root_namespace
        );
        return Some(("metadata.namespace", message));
    }
    let labels = labels.filter(|labels| !selects(labels, &options.labels))?;
    let message = format!(
        "the selector {} does not select this gateway, whose labels are {}",
        show_labels(labels),
        show_labels(&options.labels)
    );
    Some(("spec.selector", message))
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
