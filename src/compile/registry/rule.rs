//! DestinationRules by the host they speak about: merging, visibility and lookup.
//!
//! Lookup goes through three levels that never merge: the gateway's
//! namespace, the service's, the root. Within a level an exact host beats the longest wildcard.
//! Istio looks into a gateway namespace that is the root last, not first, except for rules private
//! to it: a mesh-wide rule must not hide the service's own from the gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use crate::base::{Code, Finding, Findings};
use crate::compile::Options;
use crate::compile::damage::Damage;
use crate::compile::version::Versions;
use crate::model::{FieldPath, Object, Spec, istio};
use crate::plan::Fence;

use super::broken;
use super::name;
use super::policy::{Layer, Store};

/// One DestinationRule, or several of the same host, namespace and visibility as one.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub host: Arc<str>,
    /// The oldest object; it owns the rule.
    pub object: &'a Object,
    /// The first top-level traffic policy.
    pub policy: Option<Layer<'a>>,
    pub subsets: HashMap<&'a str, Subset<'a>>,
    /// Set if something outside the subsets is broken: all traffic for the host is held back.
    pub fence: Option<Arc<Fence>>,
    /// Set if a subset is broken beyond reading even its name.
    pub nameless_fence: Option<Arc<Fence>>,
    others: Vec<&'a Object>,
    visible: bool,
    visibility: Visibility<'a>,
    /// What was found while it was made; told only if the gateway sees the rule.
    findings: Findings,
}

impl<'a> Rule<'a> {
    /// Every object the rule was made of.
    pub(super) fn objects(&self) -> impl Iterator<Item = &'a Object> {
        std::iter::once(self.object).chain(self.others.iter().copied())
    }
}

#[derive(Debug)]
pub(super) struct Subset<'a> {
    pub spec: &'a istio::destination_rule::Subset,
    pub object: &'a Object,
    /// Its place among the object's subsets.
    position: usize,
    pub fence: Option<Arc<Fence>>,
}

impl<'a> Subset<'a> {
    pub(super) fn path(&self) -> FieldPath {
        subset_path(self.position)
    }

    pub(super) fn policy(&self) -> Option<Layer<'a>> {
        let policy = self.spec.traffic_policy.as_deref()?;
        Some(Layer {
            policy,
            object: self.object,
            path: self.path().field("trafficPolicy"),
        })
    }
}

/// Who may see a rule; rules merge only if it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Visibility<'a> {
    export_to: BTreeSet<&'a str>,
    selector: Option<&'a istio::Labels>,
}

/// All DestinationRules.
#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    list: Vec<Rule<'a>>,
    /// Rules for the gateway's own namespace; of a root namespace only its private ones.
    local: HostIndex,
    /// Rules that other namespaces, or the root, export to the gateway.
    exported: HashMap<Arc<str>, HostIndex>,
    /// Every rule by host, for hints.
    all: HashMap<Arc<str>, Vec<usize>>,
}

/// Rules by host.
#[derive(Debug, Default)]
struct HostIndex {
    exact: HashMap<Arc<str>, Vec<usize>>,
    /// By what follows the star: `.example.com`, or nothing for `*`.
    wildcard: HashMap<Arc<str>, Vec<usize>>,
}

impl HostIndex {
    fn insert(&mut self, host: &Arc<str>, rule: usize) {
        let rules = match host.strip_prefix('*') {
            Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
            None => self.exact.entry(host.clone()).or_default(),
        };
        rules.push(rule);
    }

    /// The rules of the host itself, else of the longest wildcard that covers it.
    fn find(&self, host: &str) -> Option<&[usize]> {
        let suffixes = host.match_indices('.').filter_map(|(at, _)| host.get(at..));
        let wildcard = || {
            suffixes
                .chain([""])
                .find_map(|suffix| self.wildcard.get(suffix))
        };
        self.exact.get(host).or_else(wildcard).map(Vec::as_slice)
    }
}

impl<'a> Rules<'a> {
    /// Indexes the DestinationRules among the objects, which come oldest first.
    pub(super) fn index(versions: &'a Versions, store: Store<'_>, findings: &mut Findings) -> Self {
        let options = store.options;
        let mut rules = Self::default();
        for object in versions.others() {
            if let Spec::DestinationRule(spec) = &object.spec {
                rules.add(object, spec, versions.damage(&object.key), options);
            }
        }
        rules.publish(store, findings);
        rules
    }

    pub(super) fn get(&self, index: usize) -> Option<&Rule<'a>> {
        self.list.get(index)
    }

    /// The rule for a service's host, if any level has one.
    pub(super) fn find(&self, host: &str, namespace: &str, options: &Options) -> Option<usize> {
        let levels = [
            Some(&self.local),
            self.exported.get(namespace),
            self.exported.get(&options.root_namespace),
        ];
        let found = levels
            .into_iter()
            .flatten()
            .find_map(|level| level.find(host))?;
        // A rule for this workload beats those for all; of several for all the youngest holds.
        let selects = |index: &&usize| {
            self.list
                .get(**index)
                .is_some_and(|rule| rule.visibility.selector.is_some())
        };
        found.iter().find(selects).or(found.last()).copied()
    }

    /// All rules written for exactly this host, consulted or not.
    pub(super) fn written_for(&self, host: &str) -> impl Iterator<Item = &Rule<'a>> {
        let indexes = self.all.get(host).map(Vec::as_slice).unwrap_or_default();
        indexes.iter().filter_map(|index| self.list.get(*index))
    }

    /// Every rule the gateway can see, with its index.
    pub(super) fn visible(&self) -> impl Iterator<Item = (usize, &Rule<'a>)> {
        self.list
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.visible)
    }

    fn add(
        &mut self,
        object: &'a Object,
        spec: &'a istio::DestinationRule,
        damage: Option<&Damage>,
        options: &Options,
    ) {
        let whole = damage.and_then(|damage| damage.of_whole(&["spec.subsets"]));
        let fence = whole.map(|fault| broken::fence(object, fault));
        if spec.host.is_empty() {
            return;
        }
        let host: Arc<str> = name::expand(&spec.host, &object.key.namespace, &options.domain)
            .as_ref()
            .into();
        let selector = spec
            .workload_selector
            .as_ref()
            .map(|selector| &selector.match_labels);
        let export_to = match selector {
            Some(_) => BTreeSet::from(["."]),
            None => spec.export_to.iter().map(String::as_str).collect(),
        };
        let visibility = Visibility {
            export_to,
            selector,
        };
        let namespace = &object.key.namespace;
        let same = |rule: &Rule<'a>| {
            rule.object.key.namespace == *namespace && rule.visibility == visibility
        };
        let known = self.all.get(&host).map(Vec::as_slice).unwrap_or_default();
        let merged = known
            .iter()
            .copied()
            .find(|index| self.list.get(*index).is_some_and(same));
        let index = merged.unwrap_or(self.list.len());
        if merged.is_none() {
            self.all.entry(host.clone()).or_default().push(index);
            self.list.push(Rule {
                host,
                object,
                policy: None,
                subsets: HashMap::default(),
                fence: None,
                nameless_fence: None,
                others: Vec::new(),
                visible: false,
                visibility,
                findings: Findings::new(),
            });
        }
        if let Some(rule) = self.list.get_mut(index) {
            if merged.is_some() {
                rule.others.push(object);
            }
            if let Some(fence) = &fence {
                let traffic = format!("traffic for `{}`", rule.host);
                broken::report(fence, object, &traffic, &mut rule.findings);
            }
            rule.fence = rule.fence.take().or(fence);
            rule.absorb(object, spec, damage);
        }
    }

    /// Puts each rule on the levels where the gateway can see it.
    fn publish(&mut self, store: Store<'_>, findings: &mut Findings) {
        let options = store.options;
        let gateway = &options.namespace;
        for (index, rule) in self.list.iter_mut().enumerate() {
            let own = rule.object.key.namespace.clone();
            if let Some(why) = rule.not_for(options) {
                for object in rule.objects() {
                    findings.push(
                        Finding::new(Code::NOT_FOR_THIS_GATEWAY, why.clone())
                            .at(&object.origin)
                            .of(&object.key),
                    );
                }
                continue;
            }
            rule.visible = true;
            findings.append(&mut rule.findings);
            rule.report_unsupported(store, findings);
            let private = rule.visibility.is_private(&own, options);
            let level = if own == *gateway && (private || *gateway != options.root_namespace) {
                &mut self.local
            } else {
                self.exported.entry(own).or_default()
            };
            level.insert(&rule.host, index);
        }
    }
}

impl<'a> Visibility<'a> {
    fn is_private(&self, own: &str, options: &Options) -> bool {
        if self.export_to.is_empty() {
            return options
                .destination_rule_export_to
                .iter()
                .any(|entry| entry == ".");
        }
        self.export_to
            .iter()
            .all(|entry| *entry == "." || *entry == own)
    }
}

impl<'a> Rule<'a> {
    /// Why the gateway must not use the rule, if so.
    fn not_for(&self, options: &Options) -> Option<String> {
        let own = &self.object.key.namespace;
        if let Some(selector) = self.visibility.selector {
            let selected = own == &options.namespace
                && selector
                    .iter()
                    .all(|(name, value)| options.labels.get(name) == Some(value));
            return (!selected)
                .then(|| "its workloadSelector does not select this gateway".to_owned());
        }
        // A namespace always sees its own rules, unless they are for nobody.
        let listed = self.visibility.export_to.iter().copied();
        let defaults = &options.destination_rule_export_to;
        let visible = name::exported(listed, defaults, own, &options.namespace);
        (!visible).then(|| {
            format!(
                "it is not exported to the gateway's namespace `{}`",
                options.namespace
            )
        })
    }

    /// Says what of the rule's policies is not honoured, whether or not a route comes to need it.
    fn report_unsupported(&self, store: Store<'_>, findings: &mut Findings) {
        let detects = |layer: &Layer<'_>| layer.policy.outlier_detection.is_some();
        if let Some(policy) = &self.policy {
            let of_subsets = self.subsets.values().filter_map(Subset::policy);
            let detected = of_subsets.into_iter().any(|layer| detects(&layer));
            policy.report(&self.host, detected, store, findings);
        }
        let detected = self.policy.as_ref().is_some_and(detects);
        let mut subsets: Vec<&Subset<'a>> = self.subsets.values().collect();
        subsets.sort_by(|a, b| (&a.object.key, a.position).cmp(&(&b.object.key, b.position)));
        for policy in subsets.iter().filter_map(|subset| subset.policy()) {
            policy.report(&self.host, detected, store, findings);
        }
    }

    /// Adds an object's subsets, and its policy if none came before.
    fn absorb(
        &mut self,
        object: &'a Object,
        spec: &'a istio::DestinationRule,
        damage: Option<&Damage>,
    ) {
        if let Some(policy) = spec.traffic_policy.as_deref() {
            let path = FieldPath::spec().field("trafficPolicy");
            match &self.policy {
                Some(first) => {
                    let finding = shadowed(object, &path, "traffic policy", first.object);
                    self.findings.push(finding);
                }
                None => {
                    self.policy = Some(Layer {
                        policy,
                        object,
                        path,
                    });
                }
            }
        }
        for (position, slot) in spec.subsets.iter().enumerate() {
            match slot.good().filter(|subset| !subset.name.is_empty()) {
                Some(subset) => self.absorb_subset(object, subset, position, damage),
                None => {
                    let fence = subset_fence(object, position, damage);
                    if let Some(fence) = &fence {
                        let traffic =
                            format!("traffic for an unreadable subset of `{}`", self.host);
                        broken::report(fence, object, &traffic, &mut self.findings);
                    }
                    self.nameless_fence = self.nameless_fence.take().or(fence);
                }
            }
        }
    }

    fn absorb_subset(
        &mut self,
        object: &'a Object,
        subset: &'a istio::destination_rule::Subset,
        position: usize,
        damage: Option<&Damage>,
    ) {
        let name = subset.name.as_str();
        if let Some(first) = self.subsets.get(name) {
            // Within one object, validation says so.
            if first.object.key != object.key {
                let what = format!("subset `{name}`");
                let finding = shadowed(object, &subset_path(position), &what, first.object);
                self.findings.push(finding);
            }
            return;
        }
        let fence = subset_fence(object, position, damage);
        if let Some(fence) = &fence {
            let traffic = format!("traffic for the subset `{name}` of `{}`", self.host);
            broken::report(fence, object, &traffic, &mut self.findings);
        }
        let subset = Subset {
            spec: subset,
            object,
            position,
            fence,
        };
        self.subsets.insert(name, subset);
    }
}

fn subset_fence(object: &Object, position: usize, damage: Option<&Damage>) -> Option<Arc<Fence>> {
    let damage = damage?;
    let fault = damage.under(&subset_path(position).to_string()).next()?;
    Some(broken::fence(object, fault))
}

fn subset_path(position: usize) -> FieldPath {
    FieldPath::spec().field("subsets").index(position)
}

fn shadowed(object: &Object, path: &FieldPath, what: &str, first: &Object) -> Finding {
    let message = format!(
        "its {what} is not used: {} ({}) has the same host and namespace and is older",
        first.key, first.origin
    );
    Finding::new(Code::SHADOWED, message)
        .at(&object.origin_of(path))
        .of(&object.key)
        .path(path.to_string())
        .hint("keep one DestinationRule for each host and namespace")
}
