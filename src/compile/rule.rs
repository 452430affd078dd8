//! Turns the rules of one VirtualService into routes, ready to be merged into virtual hosts.
//!
//! [`Translator::branches`] gives one [`Branch`] per match of each `http` rule, delegates
//! resolved. Who may use a branch (port, Gateway) is kept beside its route; `hosts` decides and
//! merges. A rule that cannot be read answers 503 on what it may have matched (design 4.3).

mod action;
pub(crate) mod answer;
mod delegate;
pub(crate) mod headers;
pub(crate) mod matching;
pub(crate) mod retry;
mod rewrite;
mod unsupported;

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Code, Finding, Findings, Position};
use crate::model::istio::virtual_service::{HttpMatch, HttpRoute};
use crate::model::{FieldPath, Object};
use crate::plan::predicate::{Predicate, UriMatch};
use crate::plan::{Action, Fence, Route};

use super::Options;
use super::bind::{Bound, Services};
use super::damage::{Damage, Fault};
use super::gateway::{Gateways, Named};
use super::pattern::Patterns;
use super::registry::Registry;
use super::version::Versions;

use matching::Conditions;

/// A match of a rule as a route, with the conditions that are settled when it is merged.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    pub route: Route,
    /// The only declared port it applies to.
    pub port: Option<u32>,
    /// The only Gateways of ours it applies to.
    pub gateways: Option<Box<[usize]>>,
    /// Why it never applies to this gateway, whatever the port.
    pub foreign: Option<&'static str>,
    /// Whether it matches every request, as Istio tells.
    pub catch_all: bool,
    /// The field path of the match, or of its rule if it has none.
    pub index: Option<usize>,
}

impl Branch {
    pub(crate) fn applies(&self, gateway: usize, port: u16) -> bool {
        self.foreign.is_none()
            && self.port.is_none_or(|only| only == u32::from(port))
            && self
                .gateways
                .as_ref()
                .is_none_or(|only| only.contains(&gateway))
    }

    /// The field path as findings print it.
    pub(crate) fn printed_path(&self) -> String {
        match self.index {
            Some(index) => format!("{}.match[{index}]", self.route.path),
            None => self.route.path.to_string(),
        }
    }
}

/// Everything that rules are translated with.
pub(crate) struct Translator<'a, 'c> {
    options: &'c Options,
    versions: &'a Versions,
    gateways: &'c Gateways<'a>,
    services: &'c Services<'a>,
    patterns: &'c Patterns,
    registry: &'c mut Registry<'a>,
    findings: &'c mut Findings,
    /// Namespace and name of the delegates that rules handed over to.
    pub delegates: HashSet<(&'a str, &'a str)>,
    unnamed: Arc<str>,
    /// A match without conditions.
    everything: Rc<HttpMatch>,
    /// `spec.http[0]`, `spec.http[1]`, … shared by all objects.
    paths: Vec<Arc<str>>,
    /// `spec.http[_].route[_].destination`, whose indexes are set for each use.
    destination_path: FieldPath,
}

/// One rule about to be translated.
struct Rule<'r> {
    object: &'r Object,
    index: usize,
    position: Position,
    spec: &'r HttpRoute,
    /// Where each of `spec.matches` stands in the object, if not in the same place.
    matches: Option<Vec<Option<usize>>>,
    damage: Option<&'r Damage>,
    fence: Option<Arc<Fence>>,
}

impl<'a, 'c> Translator<'a, 'c> {
    pub(crate) fn new(
        options: &'c Options,
        versions: &'a Versions,
        gateways: &'c Gateways<'a>,
        services: &'c Services<'a>,
        patterns: &'c Patterns,
        registry: &'c mut Registry<'a>,
        findings: &'c mut Findings,
    ) -> Self {
        let rule = FieldPath::spec().field("http").index(0);
        Self {
            options,
            versions,
            gateways,
            services,
            patterns,
            registry,
            findings,
            delegates: HashSet::new(),
            unnamed: "default".into(),
            everything: Rc::default(),
            paths: Vec::new(),
            destination_path: rule.field("route").index(0).field("destination"),
        }
    }

    pub(crate) fn findings(&mut self) -> &mut Findings {
        self.findings
    }

    /// Every match of every rule, in order, for a server that declares `port`. Which branches
    /// there are, and in which order, does not depend on the port.
    pub(crate) fn branches(&mut self, bound: &Bound<'a>, port: u16) -> Vec<Branch> {
        let damage = self.versions.damage(&bound.object.key);
        unsupported::connections(bound.object, bound.spec, self.findings);
        let mut branches = Vec::with_capacity(bound.spec.http.len());
        for (index, slot) in bound.spec.http.iter().enumerate() {
            let Some(spec) = slot.good() else {
                branches.push(self.unreadable(bound.object, index, slot.position, damage));
                continue;
            };
            unsupported::rule(bound.object, index, slot.position, spec, self.findings);
            let rule = Rule {
                object: bound.object,
                index,
                position: slot.position,
                spec,
                matches: None,
                damage,
                fence: bound.fence.clone(),
            };
            if spec.delegate.is_some() {
                self.delegated(&rule, port, &mut branches);
            } else {
                self.rule(&rule, port, &mut branches);
            }
        }
        branches
    }

    fn rule(&mut self, rule: &Rule<'_>, port: u16, branches: &mut Vec<Branch>) {
        let printed = self.path(rule.index);
        let everything = self.everything.clone();
        let place = |number: usize| match &rule.matches {
            Some(places) => places.get(number).copied().flatten(),
            None => Some(number),
        };
        let matches = || {
            let written = rule.spec.matches.iter().enumerate().map(|(number, slot)| {
                let spec = slot.good().unwrap_or(&everything);
                (slot.position, spec, place(number))
            });
            // No match at all is one that everything satisfies.
            let is_empty = rule.spec.matches.is_empty();
            written.chain(is_empty.then_some((rule.position, &*everything, None)))
        };
        let conditions: SmallVec<[Conditions; 2]> = matches()
            .map(|(_, spec, index)| self.conditions(rule, &printed, index, spec))
            .collect();
        let fence = rule
            .fence
            .clone()
            .or_else(|| Some(rule.damage?.under(&printed).next()?.fence()))
            .or_else(|| {
                conditions
                    .iter()
                    .find_map(|conditions| conditions.fence.clone())
            });
        if let Some(fence) = &fence {
            self.report_fence(rule.object, &printed, rule.position, fence);
        }
        if fence.is_none() {
            retry::report(rule, &printed, self.findings);
        }
        let mut shared: Option<(Option<usize>, Arc<Action>)> = None;
        for ((position, spec, index), conditions) in matches().zip(conditions) {
            let prefix = rewrite::needs_prefix(rule.spec)
                .then(|| matching::prefix_length(spec))
                .flatten();
            let action = match &shared {
                Some((known, action)) if *known == prefix => action.clone(),
                _ => {
                    let action = Arc::new(self.action(rule, &printed, prefix, port, fence.clone()));
                    shared = Some((prefix, action.clone()));
                    action
                }
            };
            let route = Route {
                name: self.name(rule.spec.name.as_deref(), spec.name.as_deref()),
                object: rule.object.key.clone(),
                path: printed.clone(),
                origin: rule.object.origin.at(position),
                uri: conditions.uri,
                predicates: conditions.predicates.into_boxed_slice(),
                action,
            };
            branches.push(Branch {
                catch_all: matching::is_catch_all(&route),
                route,
                port: spec.port.filter(|port| *port != 0),
                gateways: (!spec.gateways.is_empty())
                    .then(|| self.our_gateways(&spec.gateways, rule.object)),
                foreign: self.foreign(spec),
                index,
            });
        }
    }

    /// A rule of which nothing can be read may have matched anything.
    fn unreadable(
        &mut self,
        object: &Object,
        index: usize,
        position: Position,
        damage: Option<&Damage>,
    ) -> Branch {
        let printed = self.path(index);
        let origin = object.origin.at(position);
        let fence = damage
            .and_then(|damage| damage.under(&printed).next())
            .map_or_else(
                || {
                    Arc::new(Fence {
                        origin: origin.clone(),
                        reason: "the rule cannot be read".into(),
                    })
                },
                Fault::fence,
            );
        self.report_fence(object, &printed, position, &fence);
        let route = Route {
            name: self.unnamed.clone(),
            object: object.key.clone(),
            path: printed.clone(),
            origin,
            uri: UriMatch::Any,
            predicates: Box::new([Predicate::Unreadable {
                text: (*printed).into(),
            }]),
            action: Arc::new(Action::Fenced(fence)),
        };
        Branch {
            route,
            port: None,
            gateways: None,
            foreign: None,
            catch_all: false,
            index: None,
        }
    }

    fn report_fence(&mut self, object: &Object, printed: &str, position: Position, fence: &Fence) {
        let message = format!("this rule answers 503: {}", fence.reason);
        self.findings.push(
            Finding::new(Code::FENCED, message)
                .at(&object.origin.at(position))
                .of(&object.key)
                .path(printed),
        );
    }

    /// `rule.match`, as Istio names routes.
    fn name(&self, rule: Option<&str>, matched: Option<&str>) -> Arc<str> {
        let rule = rule.unwrap_or_default();
        match matched.filter(|name| !name.is_empty()) {
            Some(matched) => format!("{rule}.{matched}").into(),
            None if rule.is_empty() => self.unnamed.clone(),
            None => rule.into(),
        }
    }

    /// Our Gateways among those that a match names.
    fn our_gateways(&self, names: &[String], object: &Object) -> Box<[usize]> {
        let ours =
            names.iter().filter_map(
                |name| match self.gateways.find(name, &object.key.namespace) {
                    Named::Ours(gateway) if name != "mesh" => Some(gateway),
                    _ => None,
                },
            );
        ours.collect()
    }

    /// Source conditions compare to the gateway's own pod, and only where no `gateways` are named
    /// (istio.md section 3, Binding).
    fn foreign(&self, spec: &HttpMatch) -> Option<&'static str> {
        if !spec.gateways.is_empty() {
            return None;
        }
        if !super::gateway::selects(&spec.source_labels, &self.options.labels) {
            return Some("`sourceLabels` are not this gateway's");
        }
        let namespace = spec
            .source_namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty());
        namespace
            .is_some_and(|namespace| *namespace != *self.options.namespace)
            .then_some("`sourceNamespace` is not this gateway's")
    }

    /// `spec.http[index]`, printed once for all objects.
    fn path(&mut self, index: usize) -> Arc<str> {
        while self.paths.len() <= index {
            self.paths
                .push(format!("spec.http[{}]", self.paths.len()).into());
        }
        self.paths
            .get(index)
            .cloned()
            .unwrap_or_else(|| format!("spec.http[{index}]").into())
    }
}
