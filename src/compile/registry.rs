//! Services, their endpoints and the policies for them: what a destination means.
//!
//! Built once per compile from the chosen objects; the VirtualService translator then asks it for
//! every destination and takes the clusters and their endpoints at the end. Only destinations
//! that were asked for become clusters.

mod accounts;
mod apart;
mod broken;
mod cluster;
mod discovery;
mod entry;
mod health;
mod kubernetes;
mod locality;
mod mesh;
mod missing;
mod name;
mod near;
mod policy;
mod port;
mod report;
mod rule;
mod service;
pub(crate) mod slots;
#[cfg(test)]
mod tests;
mod workload;

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use crate::base::{Findings, ObjectKey, Origin};
use crate::model::FieldPath;
use crate::plan::{ClusterEndpoints, ClusterId, Clusters, EndpointTable, Fence};

use super::Options;
use super::gateway::tls::credentials::Credentials;
use super::version::Versions;
pub(crate) use apart::Apart;
use cluster::{Planned, Use};
use health::HealthChecks;
use missing::Missing;
use near::Nearest;
use policy::Store;
use rule::{Rule, Rules, Subset};
use service::{Backing, Services};
use slots::Slots;
use workload::Workloads;

/// How many ExternalName services may lead to each other.
const MAX_ALIASES: usize = 8;

/// Everything a destination can name.
#[derive(Debug)]
pub(crate) struct Registry<'a> {
    options: &'a Options,
    credentials: Credentials<'a>,
    services: Services<'a>,
    rules: Rules<'a>,
    /// The rule that holds for each service, by the service's index.
    rule_of: Vec<Option<usize>>,
    workloads: Workloads<'a>,
    health_checks: HealthChecks<'a>,
    clusters: Vec<Planned<'a>>,
    /// Clusters that are no destination of a service.
    apart: Vec<apart::Kept>,
    /// What each service and port came to, by subset.
    outcomes: HashMap<(usize, u16), Vec<SubsetOutcome>>,
    /// What AUTO_PASSTHROUGH servers lead to: by server name, the service and its subset.
    passed: HashMap<Arc<str>, (usize, Option<Arc<str>>)>,
    nearest: Nearest,
    /// Which id each cluster has.
    slots: Slots,
    /// What was asked since [`Registry::listen`], and whether all of it can be asked again.
    asked: Vec<Asked>,
    is_repeatable: bool,
    /// Missing references already reported: the same rule is compiled for several listeners.
    reported: HashSet<(ObjectKey, FieldPath, Arc<str>)>,
}

/// A destination as a rule writes it, with where it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DestinationRef<'r> {
    pub host: &'r str,
    pub subset: Option<&'r str>,
    pub port: Option<u32>,
    /// Declared port of the Gateway's server; stands in where a port is needed and not given.
    pub gateway_port: u16,
    /// Namespace of the config that writes it.
    pub namespace: &'r str,
    pub origin: &'r Origin,
    pub object: &'r ObjectKey,
    pub path: &'r FieldPath,
    /// What comes of its not being there: `its traffic answers 503`.
    pub consequence: &'static str,
}

/// What a destination came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Cluster(ClusterId),
    /// The host, port or subset does not exist; `name` is what Istio would call the cluster.
    Missing {
        name: Arc<str>,
        reason: Arc<str>,
    },
    /// It exists, but what defines or protects it is broken or cannot be enforced.
    Fenced(Arc<Fence>),
}

/// What identifies a destination, its host's name made full.
#[derive(Clone, Copy)]
struct Question<'q> {
    host: &'q str,
    subset: Option<&'q str>,
    port: Option<u32>,
    gateway_port: u16,
}

/// A destination that was asked for and is there, with what it came to. What was made of it holds
/// as long as asking again gives the same.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    host: Arc<str>,
    subset: Option<Arc<str>>,
    port: Option<u32>,
    gateway_port: u16,
    outcome: Outcome,
}

/// A subset, or none, with what it came to.
type SubsetOutcome = (Option<Arc<str>>, Outcome);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Cluster(ClusterId),
    Fenced(Arc<Fence>),
}

impl Asked {
    fn question(&self) -> Question<'_> {
        Question {
            host: &self.host,
            subset: self.subset.as_deref(),
            port: self.port,
            gateway_port: self.gateway_port,
        }
    }
}

impl<'a> Registry<'a> {
    /// Indexes the objects, which come oldest first.
    pub(crate) fn build(
        versions: &'a Versions,
        options: &'a Options,
        slots: Slots,
        findings: &mut Findings,
    ) -> Self {
        let all = versions.others().map(|object| &**object);
        let services = Services::index(versions, options, findings);
        let credentials = Credentials::index(versions, options);
        let store = Store {
            credentials: &credentials,
            options,
        };
        let rules = Rules::index(versions, store, findings);
        let rule_of = services
            .iter()
            .map(|service| rules.find(&service.host, service.namespace(), options))
            .collect();
        let health_checks = HealthChecks::index(versions, &services, options, findings);
        let registry = Self {
            options,
            credentials,
            health_checks,
            services,
            rules,
            rule_of,
            workloads: Workloads::index(all.clone()),
            clusters: Vec::new(),
            apart: Vec::new(),
            outcomes: HashMap::default(),
            passed: HashMap::default(),
            nearest: Nearest::new(),
            slots,
            asked: Vec::new(),
            is_repeatable: true,
            reported: HashSet::default(),
        };
        for object in all {
            entry::report(object, findings);
            kubernetes::report(object, findings);
        }
        registry
    }

    /// Finds or makes the cluster of a destination.
    pub(crate) fn resolve(
        &mut self,
        reference: &DestinationRef<'_>,
        findings: &mut Findings,
    ) -> Resolved {
        let host = name::expand(reference.host, reference.namespace, &self.options.domain);
        let question = Question {
            host: &host,
            subset: reference.subset.filter(|subset| !subset.is_empty()),
            port: reference.port,
            gateway_port: reference.gateway_port,
        };
        match self.find(&question) {
            Ok(outcome) => {
                self.note(&question, &outcome);
                match outcome {
                    Outcome::Cluster(id) => Resolved::Cluster(id),
                    Outcome::Fenced(fence) => Resolved::Fenced(fence),
                }
            }
            Err(missing) => {
                // The hint depends on everything that was asked before.
                self.is_repeatable = false;
                let reason: Arc<str> = missing.reason.as_str().into();
                let mark = (
                    reference.object.clone(),
                    reference.path.clone(),
                    reason.clone(),
                );
                if self.reported.insert(mark) {
                    findings.push(self.explain(&missing, reference));
                }
                Resolved::Missing {
                    name: missing.name.clone(),
                    reason,
                }
            }
        }
    }

    /// Begins a list of what is asked.
    pub(crate) fn listen(&mut self) {
        self.asked.clear();
        self.is_repeatable = true;
    }

    /// What was asked since [`Self::listen`]; `None` if asking again would not tell whether the
    /// same would be made of it.
    pub(crate) fn asked(&mut self) -> Option<Box<[Asked]>> {
        self.is_repeatable.then(|| self.asked.as_slice().into())
    }

    /// Asks again, in the same order; whether all comes to the same. Asking on after the first
    /// difference would be asking what a new translation need not ask.
    pub(crate) fn repeat(&mut self, asked: &[Asked]) -> bool {
        asked.iter().all(|asked| {
            self.find(&asked.question())
                .is_ok_and(|outcome| outcome == asked.outcome)
        })
    }

    fn note(&mut self, question: &Question<'_>, outcome: &Outcome) {
        let is_last = self.asked.last().is_some_and(|last| {
            let last = last.question();
            (last.host, last.subset, last.port) == (question.host, question.subset, question.port)
        });
        if is_last {
            return;
        }
        if let Some((_, service)) = self.services.find(question.host) {
            self.asked.push(Asked {
                host: service.host.clone(),
                subset: question.subset.map(Arc::from),
                port: question.port,
                gateway_port: question.gateway_port,
                outcome: outcome.clone(),
            });
        }
    }

    /// The clusters that were asked for, the endpoints of each, and the ids for the next time.
    pub(crate) fn finish(self, findings: &mut Findings) -> (Clusters, EndpointTable, Slots) {
        let mut table = EndpointTable::default();
        let mut unrecorded = HashSet::default();
        for planned in &self.clusters {
            let Some(discovery) = self.discover(planned) else {
                continue;
            };
            if unrecorded.insert(planned.service) {
                self.report_unrecorded(planned, &discovery, findings);
            }
            if discovery.is_empty() {
                findings.push(self.no_endpoints(planned, &discovery));
            }
            let endpoints = ClusterEndpoints::new(discovery.resolution);
            table
                .clusters
                .insert(planned.cluster.name.clone(), Arc::new(endpoints));
        }
        for kept in &self.apart {
            let endpoints = Arc::new(kept.endpoints.clone());
            table.clusters.insert(kept.cluster.name.clone(), endpoints);
        }
        table.seal();
        self.report_unused(findings);
        let unnamed = self.clusters.iter();
        findings.extend(unnamed.filter_map(accounts::any_workload));
        let planned = self.clusters.iter().map(|planned| &*planned.cluster);
        self.health_checks.report_unused(planned, findings);
        let mut clusters = Clusters::default();
        let apart = self.apart.into_iter().map(|kept| kept.cluster);
        let planned = self.clusters.into_iter().map(|planned| planned.cluster);
        for cluster in planned.chain(apart) {
            if let Some(id) = self.slots.get(&cluster.name) {
                clusters.insert(id, cluster);
            }
        }
        (clusters, table, self.slots)
    }

    fn find(&mut self, question: &Question<'_>) -> Result<Outcome, Box<Missing>> {
        let (index, number) = self.follow(question)?;
        let subset = question.subset;
        let Some(service) = self.services.get(index) else {
            return Err(missing::host(question.host, question));
        };
        if let Some(fence) = &service.fence {
            return Ok(Outcome::Fenced(fence.clone()));
        }
        let Some(port) = service.port(number) else {
            return Err(missing::port(service, number, question));
        };
        let known = self
            .outcomes
            .get(&(index, port.number))
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some((_, outcome)) = known.iter().find(|(name, _)| name.as_deref() == subset) {
            return Ok(outcome.clone());
        }
        let rule = self.rule(index);
        let chosen = match (subset, rule) {
            (None, _) => None,
            (Some(name), Some(rule)) => match (rule.subsets.get(name), &rule.nameless_fence) {
                (Some(chosen), _) => Some(chosen),
                (None, Some(fence)) => return Ok(Outcome::Fenced(fence.clone())),
                (None, None) => return Err(missing::subset(service, number, name, Some(rule))),
            },
            (Some(name), None) => return Err(missing::subset(service, number, name, None)),
        };
        let (outcome, planned) = match self.plan(index, service, port, rule, chosen, Use::Routed) {
            Ok(planned) => {
                let id = self.slots.take(&planned.cluster.name);
                (Outcome::Cluster(id), Some(planned))
            }
            Err(fence) => (Outcome::Fenced(fence), None),
        };
        let key = (index, port.number);
        self.clusters.extend(planned);
        let kept = (subset.map(Arc::from), outcome.clone());
        self.outcomes.entry(key).or_default().push(kept);
        Ok(outcome)
    }

    /// The service a host leads to, and the port number asked of it.
    fn follow(&self, question: &Question<'_>) -> Result<(usize, u32), Box<Missing>> {
        let mut number = question.port;
        let mut host = question.host;
        for _ in 0..MAX_ALIASES {
            let Some((index, service)) = self.services.find(host) else {
                return Err(missing::host(host, question));
            };
            // The port is settled by the service that was named: Istio looks at it alone.
            if let (None, [only]) = (number, service.ports.as_slice()) {
                number = Some(u32::from(only.number));
            }
            match &service.backing {
                Backing::Alias(target) if service.fence.is_none() => host = target,
                _ => return Ok((index, number.unwrap_or(u32::from(question.gateway_port)))),
            }
        }
        Err(missing::host(host, question))
    }

    fn rule(&self, service: usize) -> Option<&Rule<'a>> {
        self.rules.get((*self.rule_of.get(service)?)?)
    }

    fn subset_of(&self, planned: &Planned) -> Option<&Subset<'a>> {
        self.rule(planned.service)?
            .subsets
            .get(planned.cluster.subset.as_deref()?)
    }
}
