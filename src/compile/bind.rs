//! Which VirtualServices reach this gateway, through which Gateways, with which hosts.
//!
//! A VirtualService binds where one of its `gateways` is ours and one of the Gateway's servers
//! carries one of its hosts. The rest is reported here. Called by
//! `compile` before any rule is looked at.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Code, Finding, Findings, HostPattern, ObjectKey, Severity};
use crate::model::istio::VirtualService;
use crate::model::{FieldPath, Object};
use crate::plan::Fence;

use super::Options;
use super::damage::Fault;
use super::gateway::{Gateways, Named};
use super::memory::Kept;
use super::version::Versions;

/// A VirtualService bound to at least one of our Gateways.
#[derive(Debug)]
pub(crate) struct Bound<'a> {
    /// Its place among all objects.
    pub index: usize,
    pub object: &'a Object,
    pub spec: &'a VirtualService,
    pub place: Arc<Place>,
}

/// Where a VirtualService is bound. Depends on the object, the settings and the Gateways alone.
#[derive(Debug)]
pub(crate) struct Place {
    reach: Reach,
    /// Indexes of our Gateways that it names, each once.
    pub gateways: SmallVec<[usize; 2]>,
    pub hosts: SmallVec<[HostPattern; 1]>,
    /// Set when the whole object has errors: every rule answers 503.
    pub fence: Option<Arc<Fence>>,
}

/// A place, or none, and what was said about it.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    place: Option<Arc<Place>>,
    findings: Box<[Finding]>,
}

/// All VirtualServices, sorted into what they are.
#[derive(Debug, Default)]
pub(crate) struct Services<'a> {
    /// In the order their rules are merged: private ones before public ones, then by age.
    pub bound: Vec<Bound<'a>>,
    /// Those without hosts, by namespace and name.
    pub delegates: HashMap<(&'a str, &'a str), (&'a Arc<Object>, &'a VirtualService)>,
}

/// Who sees a VirtualService: the less it is exported, the earlier its rules come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Private,
    Exported,
    Public,
}

impl<'a> Services<'a> {
    /// `kept` is what is known of each object; it must hold for these settings and Gateways.
    pub(crate) fn read(
        versions: &'a Versions,
        kept: &mut [Kept],
        gateways: &Gateways<'_>,
        options: &Options,
        findings: &mut Findings,
    ) -> Self {
        let mut services = Self::default();
        for (index, object, spec) in versions.virtual_services() {
            let is_delegate = spec.hosts.is_empty() && {
                let damage = versions.damage(&object.key);
                damage.is_none_or(|damage| damage.under("spec.hosts").next().is_none())
            };
            if is_delegate {
                services
                    .delegates
                    .insert((&object.key.namespace, &object.key.name), (object, spec));
                continue;
            }
            let Some(kept) = kept.get_mut(index) else {
                continue;
            };
            let placed = kept.placed.get_or_insert_with(|| {
                let mut findings = Findings::new();
                let place = place(object, spec, versions, gateways, options, &mut findings);
                Placed {
                    place: place.map(Arc::new),
                    findings: findings.into(),
                }
            });
            findings.extend_from_slice(&placed.findings);
            if let Some(place) = &placed.place {
                services.bound.push(Bound {
                    index,
                    object,
                    spec,
                    place: place.clone(),
                });
            }
        }
        // Stable: within a reach, the inventory's order by age stays.
        services.bound.sort_by_key(|bound| bound.place.reach);
        services
    }
}

/// Where a VirtualService with hosts is bound, if anywhere.
fn place(
    object: &Object,
    spec: &VirtualService,
    versions: &Versions,
    gateways: &Gateways<'_>,
    options: &Options,
    findings: &mut Findings,
) -> Option<Place> {
    let Some(reach) = visible(&object.key, spec, options) else {
        let message = format!(
            "`exportTo` does not include this gateway's namespace `{}`",
            options.namespace
        );
        findings.push(foreign(object, "exportTo", message));
        return None;
    };
    let gateways = our_gateways(object, spec, gateways, findings)?;
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
        return None;
    }
    let damage = versions.damage(&object.key);
    let whole = damage.and_then(|damage| damage.of_whole(&["spec.http", "spec.tls", "spec.tcp"]));
    Some(Place {
        reach,
        gateways,
        hosts,
        fence: whole.map(Fault::fence),
    })
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
) -> Option<SmallVec<[usize; 2]>> {
    let path = || FieldPath::spec().field("gateways");
    let mut ours = SmallVec::new();
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
fn read_hosts(
    object: &Object,
    spec: &VirtualService,
    options: &Options,
) -> SmallVec<[HostPattern; 1]> {
    let mut hosts = SmallVec::with_capacity(spec.hosts.len());
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
