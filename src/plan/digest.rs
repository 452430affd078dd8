//! Same meaning, same digest: decides whether a reload is a swap at all.
//!
//! Everything that changes what a request meets, or what is said about it, counts: listeners,
//! hosts, routes in order with their names and owners, actions, fences, clusters, HTTP options.
//! Files and lines do not: an object that only moved in its file has the same meaning. `compile`
//! seals what it built. Digests are compared within one process, never between versions.

mod stream;

use std::fmt;
use std::hash::{Hash, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use super::endpoints::{ClusterEndpoints, EndpointTable, Resolution};
use super::predicate::{Predicate, StringMatch, UriMatch};
use super::route::{Action, Destination, Fence, Forward, Route, Target};
use super::table::{Listener, Plan, VirtualHost};
use super::{Cluster, Clusters, HealthCheck, Mirror, PlacedLimit, Policies};
use crate::policy::rewrite::spec::{PathRewrite, Rewrite};

use stream::{tcp_socket, tls_socket};

/// A 128-bit fingerprint of meaning. Origins (files, lines) do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Digest {
    /// The digest of anything that has a meaning.
    fn of(meaning: impl FnOnce(&mut Lanes)) -> Self {
        let mut lanes = Lanes::default();
        meaning(&mut lanes);
        lanes.digest()
    }

    /// The digest of a plan's meaning. Its own `digest` field does not count.
    pub fn of_plan(plan: &Plan) -> Self {
        let of_listener = |listener: &Listener| {
            let hosts = listener.virtual_hosts.iter();
            hosts
                .map(|host| Self::of_virtual_host(host, &plan.clusters))
                .collect()
        };
        let hosts: Vec<Vec<Self>> = plan.listeners.iter().map(of_listener).collect();
        Self::of_parts(plan, &hosts)
    }

    /// The same, from the digests of each listener's virtual hosts.
    pub fn of_parts(plan: &Plan, hosts: &[Vec<Self>]) -> Self {
        Self::of(|to| {
            let Plan {
                listeners,
                tls,
                tcp,
                clusters,
                limits,
                checks,
                http,
                tracing,
                digest: _,
            } = plan;
            listeners.len().hash(to);
            for (item, hosts) in listeners.iter().zip(hosts) {
                listener(item, hosts, to);
            }
            each(tls, to, |socket, to| tls_socket(socket, clusters, to));
            each(tcp, to, |socket, to| tcp_socket(socket, clusters, to));
            // A sum: ids are free to differ, so the order of clusters means nothing.
            let sum = clusters.iter().fold(0_u128, |sum, cluster| {
                sum.wrapping_add(Self::of_cluster(cluster).0)
            });
            (clusters.len(), sum).hash(to);
            each(limits, to, |limit, to| {
                let PlacedLimit {
                    policy,
                    origin: _,
                    origins: _,
                    // By name in the policy.
                    service: _,
                } = limit;
                policy.hash(to);
            });
            checks.hash(to);
            http.hash(to);
            tracing.hash(to);
        })
    }

    /// The digest of a virtual host whose routes lead to these clusters.
    pub fn of_virtual_host(host: &VirtualHost, clusters: &Clusters) -> Self {
        Self::of(|to| virtual_host(host, clusters, to))
    }

    /// The digest of one cluster's definition.
    pub fn of_cluster(definition: &Cluster) -> Self {
        Self::of(|to| cluster(definition, to))
    }

    /// The digest of one cluster's endpoints, in their order.
    pub fn of_endpoints(endpoints: &Resolution) -> Self {
        Self::of(|to| resolution(endpoints, to))
    }
}

impl Plan {
    /// Sets the digest. Call when the plan is complete.
    pub fn seal(&mut self) {
        self.digest = Digest::of_plan(self);
    }
}

impl ClusterEndpoints {
    /// Endpoints with their digest.
    pub fn new(resolution: Resolution) -> Self {
        let digest = Digest::of_endpoints(&resolution);
        Self { resolution, digest }
    }
}

impl EndpointTable {
    /// Sets the table's digest from those of its clusters. Call when the table is complete.
    pub fn seal(&mut self) {
        self.digest = Digest::of(|to| {
            for (name, endpoints) in &self.clusters {
                (name, endpoints.digest).hash(to);
            }
        });
    }
}

/// Collects the bytes of a meaning and fingerprints them in two independent ways.
///
/// Small values are collected first, because both ways are much faster on long runs.
struct Lanes {
    pending: Box<[u8; Self::RUN]>,
    len: usize,
    high: FoldHasher<'static>,
    low: FoldHasher<'static>,
}

/// Different in every word, so that what one lane overlooks the other sees.
static HIGH: SharedSeed = SharedSeed::from_u64(0x7069_6e67_7265_7373);
static LOW: SharedSeed = SharedSeed::from_u64(0x6d65_616e_696e_6773);

impl Lanes {
    const RUN: usize = 1024;

    fn flush(&mut self) {
        let pending = self.pending.get(..self.len).unwrap_or_default();
        self.high.write(pending);
        self.low.write(pending);
        self.len = 0;
    }

    /// Takes what does not fit behind what is pending.
    #[cold]
    fn write_anew(&mut self, bytes: &[u8]) {
        self.flush();
        for run in bytes.chunks(Self::RUN) {
            self.write(run);
            if self.len == Self::RUN {
                self.flush();
            }
        }
    }

    fn digest(mut self) -> Digest {
        self.flush();
        Digest(u128::from(self.high.finish()) << 64 | u128::from(self.low.finish()))
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            pending: Box::new([0; Self::RUN]),
            len: 0,
            high: FoldHasher::with_seed(1, &HIGH),
            low: FoldHasher::with_seed(2, &LOW),
        }
    }
}

impl Hasher for Lanes {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.pending.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.write_anew(bytes),
        }
    }

    fn finish(&self) -> u64 {
        self.high.finish()
    }
}

/// The length, then each item: lists that follow one another stay apart.
fn each<T>(items: &[T], to: &mut Lanes, mut one: impl FnMut(&T, &mut Lanes)) {
    items.len().hash(to);
    for item in items {
        one(item, to);
    }
}

fn maybe<T>(item: Option<&T>, to: &mut Lanes, one: impl FnOnce(&T, &mut Lanes)) {
    item.is_some().hash(to);
    if let Some(item) = item {
        one(item, to);
    }
}

fn listener(item: &Listener, digests: &[Digest], to: &mut Lanes) {
    // `hosts` is built from the virtual hosts, whose digests are given.
    let Listener {
        addr,
        declared_port,
        is_tls,
        grpc_web,
        origins: _,
        hosts: _,
        virtual_hosts: _,
        fence,
        guarding,
    } = item;
    (addr, declared_port, is_tls, grpc_web, guarding).hash(to);
    digests.hash(to);
    maybe(fence.as_deref(), to, fenced);
}

fn virtual_host(item: &VirtualHost, clusters: &Clusters, to: &mut Lanes) {
    // `paths` is built from the routes.
    let VirtualHost {
        name,
        host,
        routes,
        paths: _,
        https_redirect,
        fence,
    } = item;
    (name, host, https_redirect.is_some()).hash(to);
    each(routes, to, |item, to| route(item, clusters, to));
    maybe(fence.as_deref(), to, fenced);
}

fn fenced(item: &Fence, to: &mut Lanes) {
    let Fence { origin: _, reason } = item;
    reason.hash(to);
}

fn route(item: &Route, clusters: &Clusters, to: &mut Lanes) {
    let Route {
        name,
        object,
        path,
        // It says where policies apply, which the listener's guards tell.
        via: _,
        origin: _,
        uri,
        predicates,
        action: what,
    } = item;
    (name, object, path).hash(to);
    match uri {
        UriMatch::Any => 0_u8.hash(to),
        UriMatch::Exact { text, ignore_case } => (1_u8, text, ignore_case).hash(to),
        UriMatch::Prefix { text, ignore_case } => (2_u8, text, ignore_case).hash(to),
        UriMatch::Regex(regex) => (3_u8, regex.as_str()).hash(to),
    }
    each(predicates, to, predicate);
    action(what, clusters, to);
}

fn predicate(item: &Predicate, to: &mut Lanes) {
    let matcher = match item {
        Predicate::Method(method) => return (0_u8, method).hash(to),
        Predicate::Unreadable { text } => return (1_u8, text).hash(to),
        Predicate::MethodMatch(matcher) => {
            2_u8.hash(to);
            matcher
        }
        Predicate::Scheme(matcher) => {
            3_u8.hash(to);
            matcher
        }
        Predicate::Authority(matcher) => {
            4_u8.hash(to);
            matcher
        }
        Predicate::Target(matcher) => {
            9_u8.hash(to);
            matcher
        }
        Predicate::Header { name, matcher } => {
            (5_u8, name).hash(to);
            matcher
        }
        Predicate::WithoutHeader { name, matcher } => {
            (6_u8, name).hash(to);
            matcher
        }
        Predicate::Query { name, matcher } => {
            (7_u8, name).hash(to);
            matcher
        }
    };
    match matcher {
        StringMatch::Present => 0_u8.hash(to),
        StringMatch::Exact(text) => (1_u8, text).hash(to),
        StringMatch::Prefix(text) => (2_u8, text).hash(to),
        StringMatch::Regex(regex) => (3_u8, regex.as_str()).hash(to),
    }
}

fn action(item: &Action, clusters: &Clusters, to: &mut Lanes) {
    match item {
        Action::Forward(forward) => {
            0_u8.hash(to);
            forwarded(forward, clusters, to);
        }
        Action::Redirect { redirect, response } => (1_u8, redirect, response).hash(to),
        Action::Direct { response, edits } => (2_u8, response, edits).hash(to),
        Action::Fenced(fence) => {
            3_u8.hash(to);
            fenced(fence, to);
        }
    }
}

fn forwarded(item: &Forward, clusters: &Clusters, to: &mut Lanes) {
    // `total_weight` is the destinations' sum.
    let Forward {
        destinations,
        total_weight: _,
        rewrite,
        timeout,
        retry,
        policies,
    } = item;
    each(destinations, to, |item, to| destination(item, clusters, to));
    let Rewrite { path, authority } = rewrite;
    match path {
        None => 0_u8.hash(to),
        Some(PathRewrite::Prefix { length, with }) => (1_u8, length, with).hash(to),
        Some(PathRewrite::Full(whole)) => (2_u8, whole).hash(to),
        Some(PathRewrite::Regex { pattern, with }) => (3_u8, pattern.as_str(), with).hash(to),
    }
    (authority, timeout, retry).hash(to);
    let Policies {
        fault,
        cors,
        mirrors,
    } = policies;
    maybe(fault.as_deref(), to, |fault, to| fault.policy.hash(to));
    maybe(cors.as_deref(), to, |cors, to| cors.policy.hash(to));
    each(mirrors, to, |mirror, to| {
        let Mirror {
            target: who,
            share,
            origin: _,
        } = mirror;
        share.hash(to);
        target(who, clusters, to);
    });
}

fn destination(item: &Destination, clusters: &Clusters, to: &mut Lanes) {
    let Destination {
        target: who,
        weight,
        request,
        response,
        authority,
        origin: _,
    } = item;
    target(who, clusters, to);
    (weight, request, response, authority).hash(to);
}

fn target(item: &Target, clusters: &Clusters, to: &mut Lanes) {
    match item {
        // The same cluster may have another id in another plan.
        Target::Cluster(id) => match clusters.get(*id) {
            Some(cluster) => (0_u8, &cluster.name).hash(to),
            None => (2_u8, id).hash(to),
        },
        Target::Missing { name, reason } => (1_u8, name, reason).hash(to),
    }
}

fn cluster(item: &Cluster, to: &mut Lanes) {
    let Cluster {
        name,
        host,
        port,
        subset,
        service_name,
        service_namespace,
        protocol,
        balancing,
        pool,
        tls,
        proxy_protocol,
        outlier,
        health_check,
        origin: _,
        policy_origin: _,
    } = item;
    (name, host, port, subset, service_name, service_namespace).hash(to);
    (protocol, balancing, pool, tls, proxy_protocol, outlier).hash(to);
    maybe(health_check.as_ref(), to, health_checked);
}

fn health_checked(item: &HealthCheck, to: &mut Lanes) {
    let HealthCheck {
        probe,
        object,
        origin: _,
    } = item;
    (probe, object).hash(to);
}

fn resolution(item: &Resolution, to: &mut Lanes) {
    match item {
        Resolution::Static(endpoints) => {
            0_u8.hash(to);
            each(endpoints, to, |endpoint, to| {
                (endpoint.addr, endpoint.weight, &endpoint.place).hash(to)
            });
        }
        Resolution::Dns { names, single } => {
            (1_u8, single).hash(to);
            each(names, to, |name, to| {
                (&name.name, name.port, name.weight, &name.place).hash(to)
            });
        }
    }
}

#[cfg(test)]
mod tests;
