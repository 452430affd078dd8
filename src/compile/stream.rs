//! Which routes take the connections of TCP, TLS and passthrough servers.
//!
//! At a gateway the first `tcp` rule that holds for a server takes all its connections, and a
//! passthrough server gets the names of all `tls` rules that hold for it. Of
//! their matches only `port`, `gateways` and `sniHosts` count. Called by `compile` when requests
//! are routed; every rule that serves nothing is reported here.

mod list;
mod report;
mod rule;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{Code, Finding, Findings, HostPattern, Origin};
use crate::plan::{Fence, StreamAction, StreamRoute};

use super::Options;
use super::bind::{Bound, Services};
use super::gateway::listen::Sockets;
use super::gateway::reach::Reach;
use super::gateway::{Gateways, Role, Server};
use super::registry::Registry;
use super::version::Versions;

use list::List;
use report::{Book, Fate};
use rule::Match;

/// The routes of connections, for the sockets that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// By server: of plain TCP, or inside TLS that ends here.
    pub tcp: HashMap<usize, Arc<StreamRoute>>,
    /// By socket and passthrough server.
    pub passthrough: HashMap<(SocketAddr, usize), Vec<Chain>>,
}

/// A route with the names that lead to it.
#[derive(Debug)]
pub(crate) struct Chain {
    pub names: Vec<HostPattern>,
    pub route: Arc<StreamRoute>,
    /// Only for clients that offer Istio's mutual TLS.
    pub mesh_only: bool,
}

/// What routes are made of.
pub(crate) struct Streaming<'a, 'c> {
    pub options: &'c Options,
    pub versions: &'a Versions,
    pub gateways: &'c Gateways<'a>,
    pub services: &'c Services<'a>,
    pub registry: &'c mut Registry<'a>,
    pub findings: &'c mut Findings,
}

impl<'a> Streaming<'a, '_> {
    /// The routes of all servers that take connections.
    pub(crate) fn routes(mut self, sockets: &Sockets) -> Streams {
        let mut streams = Streams::default();
        let mut book = Book::default();
        let reached = self.reached();
        let none = Vec::new();
        let all = |index: usize| reached.get(&index).unwrap_or(&none);
        let ends = |server: &Server<'_>| matches!(server.role(), Role::Tcp | Role::TlsTcp);
        for (index, server) in self.gateways.servers.iter().enumerate() {
            if !server.serves || !ends(server) {
                continue;
            }
            match self.first_rule(server, index, all(index), &mut book) {
                Some(route) => {
                    streams.tcp.insert(index, Arc::new(route));
                }
                None => self.unrouted(server),
            }
        }
        for (addr, servers) in &sockets.tls {
            let mut taken = self.names_taken(servers, &streams);
            for index in servers {
                let Some(server) = self.gateways.servers.get(*index) else {
                    continue;
                };
                let chains = match server.role() {
                    Role::Passthrough => {
                        self.named_rules(server, *index, all(*index), &mut taken, &mut book)
                    }
                    Role::AutoPassthrough => self.mesh(server, &mut taken),
                    _ => continue,
                };
                if chains.is_empty() {
                    self.unrouted(server);
                }
                streams.passthrough.insert((*addr, *index), chains);
            }
        }
        book.report(self.services, self.findings);
        streams
    }

    /// The VirtualServices with rules for connections that each server of connections carries a
    /// host of, in the order in which they are asked.
    fn reached(&self) -> HashMap<usize, Vec<usize>> {
        let mut reached: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut reaches: HashMap<usize, Reach<'_>> = HashMap::new();
        let takes = |server: &Server<'_>| server.serves && !server.is_http();
        for (index, gateway) in self.gateways.gateways.iter().enumerate() {
            let servers = self.gateways.servers.get(gateway.servers.clone());
            let servers = servers.unwrap_or_default();
            if servers.iter().any(takes) {
                reaches.insert(index, Reach::new(servers, gateway.servers.start));
            }
        }
        if reaches.is_empty() {
            return reached;
        }
        for (service, bound) in self.services.bound.iter().enumerate() {
            if bound.spec.tls.is_empty() && bound.spec.tcp.is_empty() {
                continue;
            }
            for gateway in &bound.place.gateways {
                let Some(reach) = reaches.get(gateway) else {
                    continue;
                };
                for host in &bound.place.hosts {
                    reach.find(host, &bound.object.key.namespace, |server, _| {
                        let list = reached.entry(server).or_default();
                        if list.last() != Some(&service) {
                            list.push(service);
                        }
                    });
                }
            }
        }
        reached
    }

    /// The first `tcp` rule that holds for a server.
    fn first_rule(
        &mut self,
        server: &Server<'_>,
        index: usize,
        services: &[usize],
        book: &mut Book,
    ) -> Option<StreamRoute> {
        let mut first: Option<StreamRoute> = None;
        for service in services {
            let Some(bound) = self.services.bound.get(*service) else {
                continue;
            };
            for (rule, slot) in bound.spec.tcp.iter().enumerate() {
                for matched in Match::of(bound.object, slot) {
                    if !self.holds(&matched, bound, server, index) {
                        continue;
                    }
                    let place = (*service, List::Tcp, rule, matched.number);
                    if let Some(first) = &first {
                        book.note(place, Fate::Behind(first.origin.clone()));
                        continue;
                    }
                    book.note(place, Fate::Served);
                    let written = self.written(bound, rule, slot);
                    first = Some(self.route(&written, matched.origin, server));
                }
            }
        }
        first
    }

    /// The `tls` rules that hold for a passthrough server, with their names. A match of which one
    /// name is taken already is left out as a whole, as in Istio.
    fn named_rules(
        &mut self,
        server: &Server<'_>,
        index: usize,
        services: &[usize],
        taken: &mut BTreeMap<HostPattern, Origin>,
        book: &mut Book,
    ) -> Vec<Chain> {
        let mut chains = Vec::new();
        for service in services {
            let Some(bound) = self.services.bound.get(*service) else {
                continue;
            };
            for (rule, slot) in bound.spec.tls.iter().enumerate() {
                let written = self.written(bound, rule, slot);
                for matched in Match::of(bound.object, slot) {
                    if !self.holds(&matched, bound, server, index) {
                        continue;
                    }
                    let place = (*service, List::Tls, rule, matched.number);
                    let names = self.names(&matched, bound, server, rule);
                    if names.is_empty() {
                        continue;
                    }
                    if let Some(holder) = names.iter().find_map(|name| taken.get(name)) {
                        book.note(place, Fate::Behind(holder.clone()));
                        continue;
                    }
                    book.note(place, Fate::Served);
                    taken.extend(names.iter().cloned().map(|it| (it, matched.origin.clone())));
                    let route = self.route(&written, matched.origin, server);
                    chains.push(Chain {
                        names,
                        route: Arc::new(route),
                        mesh_only: false,
                    });
                }
            }
        }
        chains
    }

    /// The names that a match claims. Istio's default takes them as written once one host of the
    /// object is the server's; those beyond the server's hosts are reported, and left out under
    /// the edge profile. Where they cannot be read, the object's own hosts stand for them.
    fn names(
        &mut self,
        matched: &Match<'_>,
        bound: &Bound<'_>,
        server: &Server<'_>,
        rule: usize,
    ) -> Vec<HostPattern> {
        let hosts = &bound.place.hosts;
        let own = &*bound.object.key.namespace;
        let carried = |name: &HostPattern| {
            let hosts = server.hosts.iter();
            let mut hosts = hosts.filter(|it| it.namespace.as_deref().is_none_or(|it| it == own));
            hosts.any(|host| host.pattern.covers(name))
        };
        let Some(written) = matched.names else {
            return hosts.iter().filter(|it| carried(it)).cloned().collect();
        };
        let mut names: Vec<HostPattern> = Vec::with_capacity(written.len());
        let parsed = written.iter().filter_map(|name| HostPattern::parse(name));
        for name in parsed.filter(|name| hosts.iter().any(|host| host.covers(name))) {
            if names.contains(&name) {
                continue;
            }
            if !carried(&name) {
                let is_edge = self.options.http.edge;
                let so = match is_edge {
                    true => "it is not served under the edge profile",
                    false => "it is served all the same, as by Istio",
                };
                let message = format!(
                    "no host of the server ({}) covers the server name `{name}`; {so}",
                    server.origin
                );
                let path = format!("spec.tls[{rule}].match[{}].sniHosts", matched.number);
                self.findings.push(
                    Finding::new(Code::HOST_NOT_FOUND_IN_GATEWAY, message)
                        .at(&matched.origin)
                        .of(&bound.object.key)
                        .path(path)
                        .hint("add the name to the hosts of the Gateway's server"),
                );
                if is_edge {
                    continue;
                }
            }
            names.push(name);
        }
        names
    }

    /// Every cluster of the mesh that the server carries, by its own name.
    fn mesh(
        &mut self,
        server: &Server<'_>,
        taken: &mut BTreeMap<HostPattern, Origin>,
    ) -> Vec<Chain> {
        let hosts = server.hosts.iter();
        let hosts: Vec<&HostPattern> = hosts.map(|host| &host.pattern).collect();
        let all = self
            .registry
            .passed_through(|host| hosts.iter().any(|pattern| pattern.covers(host)));
        let path: Arc<str> = format!("spec.servers[{}]", server.index).into();
        let mut chains = Vec::with_capacity(all.len());
        for (name, resolved) in all {
            let name = HostPattern::Exact(name);
            if taken.contains_key(&name) {
                continue;
            }
            taken.insert(name.clone(), server.origin.clone());
            let action = match &server.fence {
                Some(fence) => StreamAction::Fenced(fence.clone()),
                None => rule::only(resolved, &server.origin),
            };
            chains.push(Chain {
                names: vec![name],
                route: Arc::new(StreamRoute {
                    object: server.object.key.clone(),
                    path: path.clone(),
                    origin: server.origin.clone(),
                    access: Vec::new(),
                    action,
                }),
                mesh_only: true,
            });
        }
        chains
    }

    /// The names that servers have which end TLS, or claim names without serving them.
    fn names_taken(&self, servers: &[usize], streams: &Streams) -> BTreeMap<HostPattern, Origin> {
        let all = servers.iter();
        let all = all.filter_map(|index| Some((*index, self.gateways.servers.get(*index)?)));
        let holders = all.filter(|(index, server)| match server.role() {
            Role::Passthrough | Role::AutoPassthrough => false,
            Role::TlsTcp => streams.tcp.contains_key(index),
            _ => true,
        });
        holders
            .flat_map(|(_, server)| {
                let hosts = server.hosts.iter();
                hosts.map(|host| (host.pattern.clone(), server.origin.clone()))
            })
            .collect()
    }

    fn unrouted(&mut self, server: &Server<'_>) {
        let (what, hint) = match server.role() {
            Role::Tcp => (
                "no `tcp` rule of a VirtualService holds for this server; its port is not opened",
                "bind a VirtualService with a `tcp` rule to this Gateway",
            ),
            Role::TlsTcp => (
                "no `tcp` rule of a VirtualService holds for this server; its names are not served",
                "bind a VirtualService with a `tcp` rule to this Gateway",
            ),
            Role::AutoPassthrough => (
                "no service of the mesh has a host of this server; no connection is taken",
                "list the hosts of services; ServiceEntries need `location: MESH_INTERNAL`",
            ),
            _ => (
                "no `tls` rule of a VirtualService holds for this server; no connection is taken",
                "bind a VirtualService with a `tls` rule to this Gateway",
            ),
        };
        self.findings.push(
            Finding::new(Code::UNROUTED_HOST, what)
                .at(&server.origin)
                .of(&server.object.key)
                .path(format!("spec.servers[{}]", server.index))
                .hint(hint),
        );
    }

    fn report_fence(&mut self, route: &StreamRoute, fence: &Fence) {
        let message = format!("connections of this rule are closed: {}", fence.reason);
        self.findings.push(
            Finding::new(Code::FENCED, message)
                .at(&route.origin)
                .of(&route.object)
                .path(&*route.path),
        );
    }
}
