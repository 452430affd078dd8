//! The conservation law, checked from outside: what became of everything that went in.
//!
//! Given an inventory and what it compiled to, [`account`] names every object, server, rule,
//! match and subset with its fate, taken from the plan where it serves and from the findings where
//! it does not. Something without a fate disappeared without a record, which is a bug.
//! Tests call it on examples, generated input and public samples.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::base::{Code, Finding, ObjectKey, Origin, Position};
use crate::model::{Inventory, Object, Spec, istio};
use crate::plan::{Action, StreamAction};

use super::Compiled;

/// What became of one thing that a user wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It takes part in serving requests.
    Serving,
    /// Something earlier takes its requests, or an earlier version of it serves.
    Shadowed,
    /// It answers 503, or is kept from serving, because something is wrong.
    Fenced,
    /// Pingress does not do this yet.
    Unsupported,
    /// It concerns another gateway, or nothing refers to it.
    NotForThisGateway,
    /// It left no trace: a bug.
    Lost,
}

/// One thing and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub object: ObjectKey,
    /// Field path inside the object, empty for the object itself.
    pub path: String,
    pub fate: Fate,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {:?}", self.object, self.path, self.fate)
    }
}

/// Accounts for everything in an inventory, in its order.
#[must_use]
pub fn account(inventory: &Inventory, compiled: &Compiled) -> Vec<Entry> {
    let mut books = Books::default();
    for finding in &compiled.findings {
        if let Some(object) = &finding.object {
            books.findings.entry(object).or_default().push(finding);
        }
    }
    for listener in &compiled.plan.listeners {
        books.servers.extend(&listener.origins);
        for host in &listener.virtual_hosts {
            books.servers.extend(&host.https_redirect);
            let is_fenced = listener.fence.is_some() || host.fence.is_some();
            for route in &host.routes {
                let is_fenced = is_fenced || matches!(*route.action, Action::Fenced(_));
                let fate = if is_fenced {
                    Fate::Fenced
                } else {
                    Fate::Serving
                };
                let routes = books
                    .routes
                    .entry((&route.object, &route.path))
                    .or_default();
                routes.push((&route.origin, fate));
            }
        }
    }
    for (_, route) in compiled.plan.stream_routes() {
        let fate = match route.action {
            StreamAction::Forward(_) => Fate::Serving,
            StreamAction::Fenced(_) => Fate::Fenced,
        };
        let routes = books.routes.entry((&route.object, &route.path));
        routes.or_default().push((&route.origin, fate));
    }
    let tcp = compiled.plan.tcp.iter().map(|socket| &socket.server);
    books.servers.extend(tcp);
    for server in compiled.plan.tls.iter().flat_map(|socket| &socket.servers) {
        books
            .servers
            .extend(server.service.route().map(|_| &server.origin));
    }
    for limit in &compiled.plan.limits {
        books
            .policies
            .insert((&limit.origin.file, limit.origin.document));
    }
    let checks = &compiled.plan.checks;
    let access = checks.access.iter().map(|policy| &policy.origin);
    let bodies = checks.bodies.iter().map(|policy| &policy.origin);
    let compression = checks.compression.iter().map(|policy| &policy.origin);
    for origin in access.chain(bodies).chain(compression) {
        books.policies.insert((&origin.file, origin.document));
    }
    for cluster in compiled.plan.clusters.iter() {
        if let (Some(subset), Some(origin)) = (&cluster.subset, &cluster.policy_origin) {
            books
                .subsets
                .insert((&origin.file, origin.document, subset));
        }
    }
    inventory
        .objects
        .iter()
        .flat_map(|object| books.object(object))
        .collect()
}

/// What the plan and the findings say, by object.
#[derive(Default)]
struct Books<'c> {
    findings: HashMap<&'c ObjectKey, Vec<&'c Finding>>,
    servers: BTreeSet<&'c Origin>,
    routes: HashMap<(&'c ObjectKey, &'c str), Vec<(&'c Origin, Fate)>>,
    /// File, document and name of the subsets that clusters were made of.
    subsets: BTreeSet<(&'c str, u32, &'c str)>,
    /// File and document of the policies in force.
    policies: BTreeSet<(&'c str, u32)>,
}

impl Books<'_> {
    fn object(&self, object: &Object) -> Vec<Entry> {
        let mut parts = Vec::new();
        match &object.spec {
            Spec::Gateway(spec) => self.gateway(object, spec, &mut parts),
            Spec::VirtualService(spec) => self.virtual_service(object, spec, &mut parts),
            Spec::DestinationRule(spec) => {
                for (index, slot) in spec.subsets.iter().enumerate() {
                    let name = slot.good().map_or("", |subset| subset.name.as_str());
                    let path = format!("spec.subsets[{index}]");
                    let origin = &object.origin;
                    let serves = self
                        .subsets
                        .contains(&(&*origin.file, origin.document, name));
                    let fate = if serves {
                        Fate::Serving
                    } else {
                        self.told(object, &path)
                    };
                    parts.push((path, fate));
                }
            }
            _ => {}
        }
        let own = match &object.spec {
            // A directory to look things up in: that nothing looks a name up is no loss.
            Spec::Service(_)
            | Spec::ServiceEntry(_)
            | Spec::WorkloadEntry(_)
            | Spec::Endpoints(_)
            | Spec::EndpointSlice(_)
            | Spec::Pod(_) => Fate::Serving,
            // A rule for traffic without subsets shows only where its policy differs.
            // Certificates are looked up too, but one that cannot be used has a finding.
            Spec::DestinationRule(_)
            | Spec::HealthCheckPolicy(_)
            | Spec::Secret(_)
            | Spec::Telemetry(_) => match self.told(object, "") {
                Fate::Lost => Fate::Serving,
                fate => fate,
            },
            Spec::RateLimit(_)
            | Spec::AccessList(_)
            | Spec::BodyLimit(_)
            | Spec::Compression(_)
            | Spec::EnvoyFilter(_)
                if self
                    .policies
                    .contains(&(&*object.origin.file, object.origin.document)) =>
            {
                Fate::Serving
            }
            // A patch for a filter that nothing inserts does nothing in Envoy either.
            Spec::EnvoyFilter(_) => match self.told(object, "") {
                Fate::Lost if self.is_inert(object) => Fate::NotForThisGateway,
                fate => fate,
            },
            _ => self.told(object, ""),
        };
        let best = parts.iter().map(|(_, fate)| *fate).min();
        let fate = best.map_or(own, |best| best.min(own));
        let entry = |path: String, fate: Fate| Entry {
            object: object.key.clone(),
            path,
            fate,
        };
        let mut entries = vec![entry(String::new(), fate)];
        entries.extend(parts.into_iter().map(|(path, fate)| entry(path, fate)));
        entries
    }

    fn is_inert(&self, object: &Object) -> bool {
        let findings = self.findings.get(&object.key).into_iter().flatten();
        findings
            .into_iter()
            .any(|finding| finding.code == Code::INERT_FIELD)
    }

    fn gateway(&self, object: &Object, spec: &istio::Gateway, parts: &mut Vec<(String, Fate)>) {
        for (index, slot) in spec.servers.iter().enumerate() {
            let path = format!("spec.servers[{index}]");
            let serves = self.servers.contains(&object.origin.at(slot.position));
            let told = self.told(object, &path);
            let fate = match (serves, told) {
                (true, Fate::Fenced) => Fate::Fenced,
                (true, _) => Fate::Serving,
                (false, told) => told,
            };
            parts.push((path, fate));
        }
    }

    fn virtual_service(
        &self,
        object: &Object,
        spec: &istio::VirtualService,
        parts: &mut Vec<(String, Fate)>,
    ) {
        for (index, slot) in spec.http.iter().enumerate() {
            let path = format!("spec.http[{index}]");
            let mut matches = Vec::new();
            let rule = slot.good();
            let written = rule
                .into_iter()
                .flat_map(|rule| rule.matches.iter().enumerate());
            for (number, slot) in written {
                let own = format!("{path}.match[{number}]");
                let origin = object.origin.at(slot.position);
                let fate = self
                    .routed(object, &path, Some(&origin))
                    .unwrap_or_else(|| self.told(object, &own));
                matches.push((own, fate));
            }
            let delegate = rule.and_then(|rule| rule.delegate.as_deref());
            let fate = match delegate {
                // The delegate's rules stand in the delegate's own account.
                Some(_) => match self.told(object, &path) {
                    Fate::Lost => Fate::Serving,
                    fate => fate,
                },
                None => {
                    let own = self
                        .routed(object, &path, None)
                        .unwrap_or_else(|| self.told(object, &path));
                    matches
                        .iter()
                        .map(|(_, fate)| *fate)
                        .min()
                        .map_or(own, |best| best.min(own))
                }
            };
            if delegate.is_some() {
                matches.iter_mut().for_each(|(_, own)| *own = fate);
            }
            parts.push((path, fate));
            parts.append(&mut matches);
        }
        for (index, slot) in spec.tls.iter().enumerate() {
            let matches = slot.good().map(|rule| &rule.matches).into_iter().flatten();
            let positions = matches.map(|slot| slot.position).collect();
            self.connections(object, format!("spec.tls[{index}]"), positions, parts);
        }
        for (index, slot) in spec.tcp.iter().enumerate() {
            let matches = slot.good().map(|rule| &rule.matches).into_iter().flatten();
            let positions = matches.map(|slot| slot.position).collect();
            self.connections(object, format!("spec.tcp[{index}]"), positions, parts);
        }
    }

    /// A rule for connections, with its matches.
    fn connections(
        &self,
        object: &Object,
        path: String,
        matches: Vec<Position>,
        parts: &mut Vec<(String, Fate)>,
    ) {
        let whole = self.routed(object, &path, None);
        let mut fates: Vec<(String, Fate)> = Vec::with_capacity(matches.len());
        for (number, position) in matches.into_iter().enumerate() {
            let own = format!("{path}.match[{number}]");
            let origin = object.origin.at(position);
            let fate = self.routed(object, &path, Some(&origin));
            let fate = fate.unwrap_or_else(|| self.told(object, &own));
            fates.push((own, fate));
        }
        let best = fates.iter().map(|(_, fate)| *fate).min();
        let fate = whole.or(best);
        let fate = fate.unwrap_or_else(|| self.told(object, &path));
        parts.push((path, fate));
        parts.append(&mut fates);
    }

    /// The fate of a rule's routes, or of those at one place.
    fn routed(&self, object: &Object, path: &str, origin: Option<&Origin>) -> Option<Fate> {
        let routes = self.routes.get(&(&object.key, path))?;
        let own = routes
            .iter()
            .filter(|(place, _)| origin.is_none_or(|origin| *place == origin));
        let fate = own.map(|(_, fate)| *fate).min()?;
        let is_dead = |finding: &&&Finding| {
            fate_of(finding.code) == Fate::Shadowed
                && finding.path == path
                && origin.is_some()
                && finding.origin.as_ref() == origin
        };
        let findings = self
            .findings
            .get(&object.key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        Some(if findings.iter().any(|finding| is_dead(&finding)) {
            Fate::Shadowed
        } else {
            fate
        })
    }

    /// The fate that the findings tell: about the thing, about what holds it, or about the
    /// object as a whole.
    fn told(&self, object: &Object, path: &str) -> Fate {
        const LISTS: [&str; 5] = [
            "spec.http",
            "spec.tls",
            "spec.tcp",
            "spec.servers",
            "spec.subsets",
        ];
        let concerns = |finding: &&&Finding| {
            let about = finding.path.as_str();
            is_under(path, about)
                || is_under(about, path)
                || !LISTS.iter().any(|list| is_under(about, list))
        };
        let findings = self
            .findings
            .get(&object.key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        findings
            .iter()
            .filter(concerns)
            .map(|finding| fate_of(finding.code))
            .min()
            .unwrap_or(Fate::Lost)
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What a finding means for the thing it is about.
fn fate_of(code: Code) -> Fate {
    let codes = [
        (Code::SHADOWED, Fate::Shadowed),
        (Code::UNREACHABLE_RULE, Fate::Shadowed),
        (Code::INEFFECTIVE_MATCH, Fate::Shadowed),
        (Code::SERVES_PREVIOUS_VERSION, Fate::Shadowed),
        (Code::PORT_CONFLICT, Fate::Shadowed),
        (Code::CONFLICTING_GATEWAYS, Fate::Shadowed),
        (Code::UNSUPPORTED, Fate::Unsupported),
        (Code::UNENFORCED_PROTECTION, Fate::Unsupported),
        (Code::ACCEPTED_UNENFORCED, Fate::Unsupported),
        (Code::NOT_FOR_THIS_GATEWAY, Fate::NotForThisGateway),
        (Code::UNUSED_OBJECT, Fate::NotForThisGateway),
        (Code::HOST_NOT_FOUND_IN_GATEWAY, Fate::NotForThisGateway),
        (Code::REFERENCED_RESOURCE_NOT_FOUND, Fate::NotForThisGateway),
        (Code::UNROUTED_HOST, Fate::NotForThisGateway),
        (Code::INERT_FIELD, Fate::Lost),
        (Code::LINEAR_RULES, Fate::Lost),
        (Code::UNVERIFIED_ORIGIN, Fate::Lost),
    ];
    let known = codes.iter().find(|(known, _)| *known == code);
    known.map_or(Fate::Fenced, |(_, fate)| *fate)
}
