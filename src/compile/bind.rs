//! Which VirtualServices reach this gateway, through which Gateways, with which hosts.
//!
//! A VirtualService binds where one of its `gateways` is ours and one of the Gateway's servers
//! carries one of its hosts (istio.md section 3, Binding). The rest is reported here. Called by
//! `compile` before any rule is looked at.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::{Code, Finding, Findings, HostPattern, ObjectKey, Severity};
use crate::model::istio::VirtualService;
use crate::model::{FieldPath, Object, Spec};
use crate::plan::Fence;

use super::Options;
use super::damage::Fault;
use super::gateway::{Gateways, Named};
use super::version::Versions;

/// A VirtualService bound to at least one of our Gateways.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    pub object: &'a Object,
    pub spec: &'a VirtualService,
    /// Indexes of our Gateways that it names, each once.
    pub gateways: Vec<usize>,
    pub hosts: Vec<HostPattern>,
    /// Set when the whole object has errors: every rule answers 503.
    pub fence: Option<Arc<Fence>>,
}

/// All VirtualServices, sorted into what they are.
#[derive(Debug, Default)]
pub(crate) struct Services<'a> {
    /// In the order their rules are merged: private ones before public ones, then by age.
    pub bound: Vec<Bound<'a>>,
    /// Those without hosts, by namespace and name.
    pub delegates: HashMap<(&'a str, &'a str), (&'a Object, &'a VirtualService)>,
}

/// Who sees a VirtualService: the less it is exported, the earlier its rules come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Private,
    Exported,
    Public,
}

impl<'a> Services<'a> {
    pub(crate) fn read(
        versions: &'a Versions,
        gateways: &Gateways<'_>,
        options: &Options,
        findings: &mut Findings,
    ) -> Self {
        let mut services = Self::default();
        let mut reached: Vec<(Reach, Bound<'a>)> = Vec::new();
        for object in &versions.objects {
            let Spec::VirtualService(spec) = &object.spec else {
                continue;
            };
            let damage = versions.damage(&object.key);
            let hosts_broken =
                damage.is_some_and(|damage| damage.under("spec.hosts").next().is_some());
            if spec.hosts.is_empty() && !hosts_broken {
                services
                    .delegates
                    .insert((&object.key.namespace, &object.key.name), (object, spec));
                continue;
            }
            let Some(reach) = visible(&object.key, spec, options) else {
                let message = format!(
                    "`exportTo` does not include this gateway's namespace `{}`",
                    options.namespace
                );
                findings.push(foreign(object, "exportTo", message));
                continue;
            };
            let Some(ours) = our_gateways(object, spec, gateways, findings) else {
                continue;
            };
            let hosts = read_hosts(object, spec, options);
            if hosts.is_empty() {
                let message = "no host can be read, so no request reaches this object's rules";
                let path = FieldPath::spec().field("hosts");
                findings.push(
                    Finding::new(Code::FENCED, message)
                        .at(&object.origin_of(&path))
                        .of(&object.key)
                        .path(path.to_string()),
                );
                continue;
            }
            let whole =
                damage.and_then(|damage| damage.of_whole(&["spec.http", "spec.tls", "spec.tcp"]));
            let fence = whole.map(Fault::fence);
            reached.push((
                reach,
                Bound {
                    object,
                    spec,
                    gateways: ours,
                    hosts,
                    fence,
                },
            ));
        }
        // Stable: within a reach, the inventory's order by age stays.
        reached.sort_by_key(|(reach, _)| *reach);
        services.bound = reached.into_iter().map(|(_, bound)| bound).collect();
        services
    }
}

impl Services<'_> {
    /// Reports the delegates that take no part in routing: `used` holds the namespace and name of
    /// those that do.
    pub(crate) fn report(&self, used: &HashSet<(&str, &str)>, findings: &mut Findings) {
        let unused = self
            .delegates
            .iter()
            .filter(|(name, _)| !used.contains(*name));
        for (_, (object, _)) in unused {
            let message = "no rule that this gateway serves delegates to it";
            findings.push(
                Finding::new(Code::UNUSED_OBJECT, message)
                    .at(&object.origin)
                    .of(&object.key)
                    .hint("name it as the `delegate` of a rule, or give it `hosts` and `gateways`"),
            );
        }
    }
}

fn visible(key: &ObjectKey, spec: &VirtualService, options: &Options) -> Option<Reach> {
    let defaults = &options.virtual_service_export_to;
    let export_to = if spec.export_to.is_empty() {
        defaults
    } else {
        &spec.export_to
    };
    if export_to.is_empty() || export_to.iter().any(|entry| entry == "*") {
        return Some(Reach::Public);
    }
    if export_to.iter().any(|entry| entry == "~") {
        return None;
    }
    let own = key.namespace == options.namespace;
    let named = export_to.iter().any(|entry| **entry == *options.namespace);
    match export_to.iter().any(|entry| entry == ".") && own {
        true => Some(Reach::Private),
        false if named && own => Some(Reach::Private),
        false => named.then_some(Reach::Exported),
    }
}

/// The Gateways of ours that a VirtualService names; `None`, and a finding, if there are none.
fn our_gateways(
    object: &Object,
    spec: &VirtualService,
    gateways: &Gateways<'_>,
    findings: &mut Findings,
) -> Option<Vec<usize>> {
    let path = || FieldPath::spec().field("gateways");
    let mut ours = Vec::new();
    let mut elsewhere = Vec::new();
    for (index, name) in spec.gateways.iter().enumerate() {
        if name == "mesh" {
            continue;
        }
        let place = |finding: Finding| {
            let path = path().index(index);
            finding
                .at(&object.origin_of(&path))
                .of(&object.key)
                .path(path.to_string())
        };
        if !name.contains('/') && name.contains('.') {
            let (namespace, short) = super::gateway::split_name(name, &object.key.namespace);
            let message = format!("`{name}` is the old form of a Gateway's name");
            let finding =
                Finding::new(Code::SCHEMA_VALIDATION, message).severity(Severity::Warning);
            findings.push(place(finding.hint(format!("write `{namespace}/{short}`"))));
        }
        match gateways.find(name, &object.key.namespace) {
            Named::Ours(gateway) if !ours.contains(&gateway) => ours.push(gateway),
            Named::Ours(_) => {}
            Named::Other => elsewhere.push(name.as_str()),
            Named::Missing => {
                let message = format!("the Gateway `{name}` does not exist");
                let hint = "write `namespace/name` of an existing Gateway; a bare name means this object's namespace";
                findings.push(place(
                    Finding::new(Code::REFERENCED_RESOURCE_NOT_FOUND, message).hint(hint),
                ));
            }
        }
    }
    if !ours.is_empty() {
        return Some(ours);
    }
    let message = if !elsewhere.is_empty() {
        format!(
            "the Gateway `{}` is not this gateway's",
            elsewhere.join("`, `")
        )
    } else if spec.gateways.iter().all(|name| name == "mesh") {
        "`gateways` is unset or `mesh`, which means sidecars only".to_owned()
    } else {
        "no Gateway that it names exists".to_owned()
    };
    findings.push(
        foreign(object, "gateways", message)
            .hint("name a Gateway in `spec.gateways` to route its traffic"),
    );
    None
}

fn foreign(object: &Object, field: &str, message: String) -> Finding {
    let path = FieldPath::spec().field(field);
    Finding::new(Code::NOT_FOR_THIS_GATEWAY, message)
        .at(&object.origin_of(&path))
        .of(&object.key)
        .path(path.to_string())
}

/// The hosts that can be read, with short names made full.
fn read_hosts(object: &Object, spec: &VirtualService, options: &Options) -> Vec<HostPattern> {
    let mut hosts = Vec::with_capacity(spec.hosts.len());
    for text in &spec.hosts {
        let is_short = !text.contains(['.', ':', '*']);
        let pattern = if is_short && !text.is_empty() {
            HostPattern::parse(&format!(
                "{text}.{}.svc.{}",
                object.key.namespace, options.domain
            ))
        } else {
            HostPattern::parse(text)
        };
        hosts.extend(pattern);
    }
    hosts
}
