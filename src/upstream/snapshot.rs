//! The immutable picture of a cluster that a pick reads.
//!
//! `cluster` keeps it behind an atomic pointer and replaces it as a whole when membership,
//! balance or somebody's health changes, and in steps while endpoints warm up. An address that
//! stays keeps its [`EndpointState`], and with it its counters.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::plan::endpoints::Place;
use crate::plan::{Balance, Balancing};

use super::EndpointState;
use super::dns::Name;
use super::group::Group;
use super::membership::{Membership, Source};
use super::outlier::Detector;
use super::pick::Ask;
use super::priority::{Fitness, Load, loads};
use super::warmup::{factor, is_cold};

/// Envoy looks five times more for an endpoint that was not tried yet.
const DRAWS: usize = 6;

/// One percent of the traffic, in the unit of a group's load.
const PERCENT: f64 = 1_000_000.0;

/// The members of a cluster, ready to be picked.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Those that take traffic first, by address; then those of weight 0.
    members: Arc<[Member]>,
    /// Most wanted first; none has no endpoints.
    groups: Box<[Group]>,
    /// The sum of their loads.
    total: u64,
    keyed: bool,
    /// Whether an endpoint had less than its weight when this was built.
    pub(super) warming: bool,
    /// The names this cluster is resolved from.
    pub(super) names: Arc<[Arc<Name>]>,
}

/// An address of a cluster with its part.
#[derive(Clone, Debug)]
struct Member {
    endpoint: Arc<EndpointState>,
    role: Role,
}

/// What an address is to this cluster.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) weight: u32,
    pub(super) place: Place,
    pub(super) source: Source,
}

/// What members are looked at by when a snapshot is built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'t> {
    pub(super) balancing: &'t Balancing,
    /// Percent of a priority's endpoints below which their health stops to count; 0 for never.
    pub(super) panic_threshold: u32,
    pub(super) now: Instant,
}

impl Snapshot {
    /// A cluster nobody has published yet.
    pub(super) fn empty() -> Self {
        Self {
            members: Arc::default(),
            groups: Box::default(),
            total: 0,
            keyed: false,
            warming: false,
            names: Arc::default(),
        }
    }

    /// Requests in flight to all members.
    pub(super) fn active(&self) -> usize {
        let active = self.members().map(|(endpoint, _)| &endpoint.active);
        active.map(|active| active.load(Ordering::Relaxed)).sum()
    }

    /// What `membership` says, with the endpoint states of `self` for addresses that stay.
    pub(super) fn succeeded_by(
        &self,
        membership: Membership,
        detector: &Arc<Detector>,
        terms: &Terms<'_>,
    ) -> Self {
        let known: HashMap<SocketAddr, &Arc<EndpointState>> = self
            .members
            .iter()
            .map(|member| (member.endpoint.addr, &member.endpoint))
            .collect();
        let members = membership.entries().map(|(addr, role)| Member {
            endpoint: match known.get(&addr) {
                Some(endpoint) => Arc::clone(endpoint),
                None => Arc::new(EndpointState::new(addr, detector, terms.now)),
            },
            role,
        });
        let (mut members, idle): (Vec<_>, Vec<_>) =
            members.partition(|member| member.role.weight > 0);
        members.extend(idle);
        Self::build(members.into(), membership.names.into(), terms)
    }

    /// The same members, looked at again.
    pub(super) fn rebuilt(&self, terms: &Terms<'_>) -> Self {
        Self::build(self.members.clone(), self.names.clone(), terms)
    }

    fn build(members: Arc<[Member]>, names: Arc<[Arc<Name>]>, terms: &Terms<'_>) -> Self {
        let groups = groups(&members, terms);
        let is_cold = |member: &Member| {
            let warm_up = terms.balancing.warm_up.as_ref();
            warm_up.is_some_and(|warm_up| is_cold(warm_up, member.endpoint.created, terms.now))
        };
        Self {
            total: groups.iter().map(|group| group.load).sum(),
            groups: groups.into(),
            keyed: matches!(terms.balancing.policy, Balance::Hash(_)),
            warming: members.iter().any(is_cold),
            members,
            names,
        }
    }

    /// The endpoint for an attempt; fit at this very moment. `None` if there is none.
    pub(super) fn next(
        &self,
        ask: &Ask<'_>,
        mut random: impl FnMut() -> u64,
    ) -> Option<&Arc<EndpointState>> {
        let found = if self.keyed {
            // Tried or not: the key's endpoint is the only right one, as in Istio.
            let key = ask.hash.unwrap_or_else(&mut random);
            self.group(key % self.total.max(1))?.of_key(key)
        } else {
            let mut draws = (0..DRAWS).filter_map(|_| self.draw(&mut random));
            draws.find(|endpoint| !ask.tried.contains(&endpoint.addr))
        };
        found.or_else(|| self.search(ask, random()))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&EndpointState, &Role)> {
        let members = self.members.iter();
        members.map(|member| (&*member.endpoint, &member.role))
    }

    fn draw(&self, mut random: impl FnMut() -> u64) -> Option<&Arc<EndpointState>> {
        let group = match &*self.groups {
            [only] => only,
            _ => {
                let point = u128::from(random()) * u128::from(self.total);
                self.group((point >> 64) as u64)?
            }
        };
        group.next(random).filter(|endpoint| group.admits(endpoint))
    }

    /// The group at a point of the total load.
    fn group(&self, mut point: u64) -> Option<&Group> {
        self.groups.iter().find(|group| {
            let here = point < group.load;
            point = point.saturating_sub(group.load);
            here
        })
    }

    /// When draws found nobody: because most were tried, or because health changed since the
    /// snapshot was built. Then groups without load stand in as well.
    fn search(&self, ask: &Ask<'_>, random: u64) -> Option<&Arc<EndpointState>> {
        let in_use = || self.groups.iter().filter(|group| group.load > 0);
        let untried = |endpoint: &EndpointState| !ask.tried.contains(&endpoint.addr);
        in_use()
            .find_map(|group| group.any(random, untried))
            .or_else(|| in_use().find_map(|group| group.any(random, |_| true)))
            .or_else(|| {
                let groups = &mut self.groups.iter();
                groups.find_map(|group| group.any(random, |_| true))
            })
    }
}

/// The groups of all members that take traffic.
fn groups(members: &[Member], terms: &Terms<'_>) -> Vec<Group> {
    let mut priorities: BTreeMap<u32, Vec<&Member>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.role.weight > 0) {
        let priority = member.role.place.priority;
        priorities.entry(priority).or_default().push(member);
    }
    let fitness: Vec<Fitness> = priorities.values().map(|all| fitness(all)).collect();
    let loads = loads(&fitness, terms.panic_threshold);
    let levels = priorities.into_values().zip(loads);
    levels
        .flat_map(|(members, load)| level(members, load, terms))
        .collect()
}

fn fitness(members: &[&Member]) -> Fitness {
    let usable = members.iter().filter(|member| member.is_fit());
    Fitness {
        usable: usable.count(),
        total: members.len(),
    }
}

/// The groups of one priority.
fn level(mut members: Vec<&Member>, load: Load, terms: &Terms<'_>) -> Vec<Group> {
    let Load { percent, panics } = load;
    if panics {
        return vec![group(members, |_| 1.0, f64::from(percent), true, terms)];
    }
    let shared = members
        .iter()
        .any(|member| member.role.place.share.is_some());
    if !shared {
        members.retain(|member| member.is_fit());
        if members.is_empty() {
            return Vec::new();
        }
        return vec![group(members, |_| 1.0, f64::from(percent), false, terms)];
    }
    let mut localities: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in members {
        let locality = localities.entry(&member.role.place.locality).or_default();
        locality.push(member);
    }
    let localities: Vec<Locality<'_>> =
        localities.into_values().filter_map(Locality::new).collect();
    if let Balance::Hash(_) = terms.balancing.policy {
        return in_one(localities, percent, terms);
    }
    let sum: f64 = localities.iter().map(|locality| locality.effective).sum();
    localities
        .into_iter()
        .map(|locality| {
            let part = f64::from(percent) * locality.effective / sum;
            group(locality.members, |_| 1.0, part, false, terms)
        })
        .collect()
}

/// The fit members of a locality that has a share.
struct Locality<'m> {
    members: Vec<&'m Member>,
    /// As written.
    share: f64,
    /// What it can take of it: less where many are not fit.
    effective: f64,
}

impl<'m> Locality<'m> {
    /// `None` if nobody there is fit.
    fn new(mut members: Vec<&'m Member>) -> Option<Self> {
        let fitness = fitness(&members);
        let share = f64::from(members.first()?.role.place.share.unwrap_or(1));
        members.retain(|member| member.is_fit());
        (fitness.usable > 0).then(|| Self {
            members,
            share,
            effective: share * fitness.effective(),
        })
    }
}

/// Envoy's consistent hashing does not choose a locality first: shares make the places of its
/// table.
fn in_one(localities: Vec<Locality<'_>>, percent: u32, terms: &Terms<'_>) -> Vec<Group> {
    let mut parts: HashMap<SocketAddr, f64> = HashMap::new();
    let mut members = Vec::new();
    for locality in localities {
        let weights = locality.members.iter();
        let weight: f64 = weights.map(|member| f64::from(member.role.weight)).sum();
        for member in &locality.members {
            parts.insert(member.endpoint.addr, locality.share / weight);
        }
        members.extend(locality.members);
    }
    if members.is_empty() {
        return Vec::new();
    }
    let part = |member: &Member| parts.get(&member.endpoint.addr).copied().unwrap_or(1.0);
    vec![group(members, part, f64::from(percent), false, terms)]
}

fn group(
    members: Vec<&Member>,
    part: impl Fn(&Member) -> f64,
    percent: f64,
    panics: bool,
    terms: &Terms<'_>,
) -> Group {
    let weights: Vec<f64> = members
        .iter()
        .map(|member| member.weight(terms) * part(member))
        .collect();
    let endpoints = members.iter().map(|member| member.endpoint.clone());
    // By percent where a key chooses, so that it does as in Envoy: `key % 100`.
    let unit = match terms.balancing.policy {
        Balance::Hash(_) => 1.0,
        _ => PERCENT,
    };
    let load = (percent * unit).round() as u64;
    Group::new(
        terms.balancing.policy,
        endpoints.collect(),
        &weights,
        load,
        panics,
    )
}

impl Member {
    fn is_fit(&self) -> bool {
        self.endpoint.health.is_usable()
    }

    /// What is written, or the part of it that a new endpoint has.
    fn weight(&self, terms: &Terms<'_>) -> f64 {
        let weight = f64::from(self.role.weight);
        match (&terms.balancing.warm_up, terms.balancing.policy) {
            (Some(warm_up), Balance::LeastRequest | Balance::RoundRobin) => {
                let age = terms.now.saturating_duration_since(self.endpoint.created);
                weight * factor(warm_up, age)
            }
            _ => weight,
        }
    }
}

#[cfg(test)]
mod tests;
