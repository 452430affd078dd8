//! Turns the rules of one VirtualService into routes, ready to be merged into virtual hosts.
//!
//! [`Translator::branches`] gives one [`Branch`] per match of each `http` rule, delegates
//! resolved. Who may use a branch (port, Gateway) is kept beside its route; `hosts` decides and
//! merges. A rule that cannot be read answers 503 on what it may have matched.

mod action;
pub(crate) mod answer;
mod cors;
mod delegate;
pub(crate) mod fault;
pub(crate) mod headers;
pub(crate) mod matching;
mod mirror;
mod policies;
pub(crate) mod retry;
mod rewrite;

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
use super::registry::{Asked, Registry};
use super::version::Versions;

use delegate::{Handed, Inherited};
use matching::Conditions;

/// The branches of a VirtualService for one declared port, with what they were made from beside
/// the object, the settings and the Gateways.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    pub list: Box<[Branch]>,
    /// What was said on the way.
    findings: Box<[Finding]>,
    /// `None` if they must be made anew each time.
    asked: Option<Box<[Asked]>>,
    handed: Box<[Handed]>,
}

/// A match of a rule as a route, with the conditions that are settled when it is merged.
#[derive(Debug)]
pub(crate) struct Branch {
    pub route: Arc<Route>,
    /// Most branches apply to all that their object applies to.
    pub limits: Option<Box<Limits>>,
    /// Whether it matches every request, as Istio tells.
    pub catch_all: bool,
    /// The place of the match in its rule; `None` if the rule has none.
    index: Option<u32>,
}

/// What a branch applies to.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// The only declared port.
    pub port: Option<u32>,
    /// The only Gateways of ours.
    gateways: Option<Box<[usize]>>,
    /// Why it never applies to this gateway, whatever the port.
    pub foreign: Option<&'static str>,
}

/// Texts that many routes share.
#[derive(Debug)]
pub(crate) struct Words {
    /// The name of routes without one.
    unnamed: Arc<str>,
    /// `spec.http[0]`, `spec.http[1]`, …
    paths: Vec<Arc<str>>,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            unnamed: "default".into(),
            paths: Vec::new(),
        }
    }
}

impl Branch {
    pub(crate) fn applies(&self, gateway: usize, port: u16) -> bool {
        self.limits.as_ref().is_none_or(|limits| {
            let gateways = limits.gateways.as_ref();
            limits.foreign.is_none()
                && limits.port.is_none_or(|only| only == u32::from(port))
                && gateways.is_none_or(|only| only.contains(&gateway))
        })
    }

    /// The field path as findings print it.
    pub(crate) fn printed_path(&self) -> String {
        match self.index {
            Some(index) => format!("{}.match[{index}]", self.route.path),
            None => self.route.path.to_string(),
        }
    }
}

/// What the whole inventory says about each rule.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a, 'c> {
    pub options: &'c Options,
    pub versions: &'a Versions,
    pub gateways: &'c Gateways<'a>,
    pub services: &'c Services<'a>,
    pub patterns: &'c Patterns,
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
    /// The delegates that the object under way named.
    handed: Vec<Handed>,
    words: &'c mut Words,
    /// A match without conditions.
    everything: Rc<HttpMatch>,
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
    /// What a delegate's rule has from the one that delegates to it.
    inherited: Option<Inherited<'r>>,
}

impl<'a, 'c> Translator<'a, 'c> {
    pub(crate) fn new(
        given: Given<'a, 'c>,
        registry: &'c mut Registry<'a>,
        words: &'c mut Words,
        findings: &'c mut Findings,
    ) -> Self {
        let Given {
            options,
            versions,
            gateways,
            services,
            patterns,
        } = given;
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
            handed: Vec::new(),
            words,
            everything: Rc::default(),
            destination_path: rule.field("route").index(0).field("destination"),
        }
    }

    pub(crate) fn findings(&mut self) -> &mut Findings {
        self.findings
    }

    /// Every match of every rule, in order, for a server that declares `port`. Which branches
    /// there are, and in which order, does not depend on the port. `known` are those of an earlier
    /// compile, for the same object and port; they are taken over if they hold.
    pub(crate) fn branches(
        &mut self,
        bound: &Bound<'a>,
        port: u16,
        known: Option<Arc<Branches>>,
    ) -> Arc<Branches> {
        if let Some(known) = known.filter(|known| self.holds(known)) {
            self.findings.extend_from_slice(&known.findings);
            return known;
        }
        self.registry.listen();
        self.handed.clear();
        let before = self.findings.len();
        let list = self.translate(bound, port).into();
        let findings = self.findings.get(before..).unwrap_or_default().into();
        Arc::new(Branches {
            list,
            findings,
            asked: self.registry.asked(),
            handed: self.handed.as_slice().into(),
        })
    }

    /// Whether translating again would give the same. If so, the registry and the delegates have
    /// been asked as by translating.
    fn holds(&mut self, known: &Branches) -> bool {
        let Some(asked) = &known.asked else {
            return false;
        };
        if !known.handed.iter().all(|handed| self.leads_on(handed)) || !self.registry.repeat(asked)
        {
            return false;
        }
        for handed in &known.handed {
            self.use_delegate(handed);
        }
        true
    }

    fn translate(&mut self, bound: &Bound<'a>, port: u16) -> Vec<Branch> {
        let damage = self.versions.damage(&bound.object.key);
        let mut branches = Vec::with_capacity(bound.spec.http.len());
        for (index, slot) in bound.spec.http.iter().enumerate() {
            let Some(spec) = slot.good() else {
                branches.push(self.unreadable(bound.object, index, slot.position, damage));
                continue;
            };
            let rule = Rule {
                object: bound.object,
                index,
                position: slot.position,
                spec,
                matches: None,
                damage,
                fence: bound.place.fence.clone(),
                inherited: None,
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
            policies::report(rule, &printed, self.findings);
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
                via: rule
                    .inherited
                    .as_ref()
                    .map(|root| Box::new(root.rule.clone())),
                origin: rule.object.origin.at(position),
                uri: conditions.uri,
                predicates: conditions.predicates.into_boxed_slice(),
                action,
            };
            branches.push(Branch {
                catch_all: matching::is_catch_all(&route),
                route: Arc::new(route),
                limits: self.limits(spec, rule.object),
                index: index.and_then(|index| u32::try_from(index).ok()),
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
            name: self.words.unnamed.clone(),
            object: object.key.clone(),
            path: printed.clone(),
            via: None,
            origin,
            uri: UriMatch::Any,
            predicates: Box::new([Predicate::Unreadable {
                text: (*printed).into(),
            }]),
            action: Arc::new(Action::Fenced(fence)),
        };
        Branch {
            route: Arc::new(route),
            limits: None,
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
            None if rule.is_empty() => self.words.unnamed.clone(),
            None => rule.into(),
        }
    }

    fn limits(&self, spec: &HttpMatch, object: &Object) -> Option<Box<Limits>> {
        let limits = Limits {
            port: spec.port.filter(|port| *port != 0),
            gateways: (!spec.gateways.is_empty())
                .then(|| self.our_gateways(&spec.gateways, object)),
            foreign: self.foreign(spec),
        };
        let is_limited =
            limits.port.is_some() || limits.gateways.is_some() || limits.foreign.is_some();
        is_limited.then(|| Box::new(limits))
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

    /// Source conditions compare to the gateway's own pod, and only where no `gateways` are named.
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
        let paths = &mut self.words.paths;
        while paths.len() <= index {
            paths.push(format!("spec.http[{}]", paths.len()).into());
        }
        paths
            .get(index)
            .cloned()
            .unwrap_or_else(|| format!("spec.http[{index}]").into())
    }
}
