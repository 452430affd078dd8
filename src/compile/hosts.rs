//! Merges the rules of all VirtualServices into virtual hosts, per socket and host.
//!
//! A host's routes are those of each VirtualService bound to it, in order, each cut after its
//! first catch-all; then all catch-alls move to the end, keeping their order (istio.md section 3).
//! What is cut, never applies, or stands behind an equal condition is reported.

mod shadow;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::base::{Code, Finding, HostPattern, Origin};
use crate::plan::hosts::HostIndex;
use crate::plan::paths::PathIndex;
use crate::plan::{Action, Listener, Route, VirtualHost};

use super::bind::{Bound, Services};
use super::gateway::listen::Socket;
use super::gateway::reach::Reach;
use super::gateway::{Gateways, Server};
use super::rule::{Branch, Translator};

/// The virtual hosts of one socket.
type Drafts = HashMap<HostPattern, Draft, foldhash::fast::RandomState>;

/// What a virtual host is made of.
#[derive(Default)]
struct Draft {
    entries: Vec<Entry>,
    https_redirect: Option<Origin>,
}

/// One VirtualService through one server.
#[derive(Clone, Copy)]
struct Entry {
    /// Servers with errors come last, so that a sound one decides for the same rules.
    fenced: bool,
    server: usize,
    service: usize,
    gateway: usize,
}

/// What became of the branches of a VirtualService that several virtual hosts share.
#[derive(Default)]
struct Fate {
    served: Vec<bool>,
    cut: Vec<bool>,
    /// Branches of any one port, for reporting.
    branches: Option<Rc<Vec<Branch>>>,
}

/// Builds the listeners of all sockets.
pub(crate) fn listeners<'a>(
    sockets: &[Socket],
    gateways: &Gateways<'a>,
    services: &Services<'a>,
    translator: &mut Translator<'a, '_>,
) -> Vec<Listener> {
    let mut uses = vec![0; services.bound.len()];
    let drafts = draft(sockets, gateways, services, &mut uses, translator);
    let mut merge = Merge {
        uses,
        gateways,
        services,
        translator,
        branches: HashMap::default(),
        fates: HashMap::default(),
        shadows: shadow::Shadows::default(),
    };
    let mut listeners = Vec::with_capacity(sockets.len());
    for (socket, drafts) in sockets.iter().zip(drafts) {
        let first = socket
            .servers
            .first()
            .and_then(|server| gateways.servers.get(*server));
        let declared_port = first.map_or(socket.addr.port(), |server| server.declared_port);
        let mut hosts = HostIndex::default();
        let mut virtual_hosts = Vec::with_capacity(drafts.len());
        let mut drafts: Vec<(HostPattern, Draft)> = drafts.into_iter().collect();
        drafts.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (host, draft) in drafts {
            let virtual_host = merge.virtual_host(host, draft, declared_port);
            // A host to which nothing applies is unknown: a wildcard may still take its requests.
            if virtual_host.routes.is_empty() && virtual_host.https_redirect.is_none() {
                continue;
            }
            hosts.insert(
                &virtual_host.host,
                u32::try_from(virtual_hosts.len()).unwrap_or(u32::MAX),
            );
            virtual_hosts.push(virtual_host);
        }
        let origins = socket
            .servers
            .iter()
            .filter_map(|server| gateways.servers.get(*server));
        listeners.push(Listener {
            addr: socket.addr,
            declared_port,
            is_tls: socket.is_tls,
            origins: origins.map(|server| server.origin.clone()).collect(),
            hosts,
            virtual_hosts,
            fence: None,
        });
    }
    merge.report();
    listeners
}

/// Finds the virtual hosts of every socket and what flows into each. Counts in how many entries
/// each VirtualService takes part.
fn draft(
    sockets: &[Socket],
    gateways: &Gateways<'_>,
    services: &Services<'_>,
    uses: &mut [u32],
    translator: &mut Translator<'_, '_>,
) -> Vec<Drafts> {
    let mut drafts: Vec<Drafts> = sockets.iter().map(|_| Drafts::default()).collect();
    let mut sockets_of: Vec<Vec<usize>> = vec![Vec::new(); gateways.servers.len()];
    for (index, socket) in sockets.iter().enumerate() {
        for server in &socket.servers {
            if let Some(list) = sockets_of.get_mut(*server) {
                list.push(index);
            }
        }
    }
    let reaches: Vec<Reach<'_>> = gateways
        .gateways
        .iter()
        .map(|gateway| {
            let servers = gateways
                .servers
                .get(gateway.servers.clone())
                .unwrap_or_default();
            Reach::new(servers, gateway.servers.start)
        })
        .collect();
    let mut routed = vec![false; gateways.servers.len()];
    for (service, bound) in services.bound.iter().enumerate() {
        let mut is_served = false;
        for host in &bound.hosts {
            let mut is_found = false;
            for gateway in &bound.gateways {
                let Some(reach) = reaches.get(*gateway) else {
                    continue;
                };
                reach.find(host, &bound.object.key.namespace, |index, common| {
                    is_found = true;
                    let Some(server) = gateways.servers.get(index) else {
                        return;
                    };
                    is_served |= server.serves;
                    if let Some(routed) = routed.get_mut(index) {
                        *routed = true;
                    }
                    for socket in sockets_of.get(index).into_iter().flatten() {
                        let Some(drafts) = drafts.get_mut(*socket) else {
                            continue;
                        };
                        let draft = match drafts.get_mut(common) {
                            Some(draft) => draft,
                            None => drafts.entry(common.clone()).or_default(),
                        };
                        let entry = Entry {
                            fenced: server.fence.is_some(),
                            server: index,
                            service,
                            gateway: *gateway,
                        };
                        draft.entries.push(entry);
                        if let Some(uses) = uses.get_mut(service) {
                            *uses += 1;
                        }
                        if server.https_redirect && draft.https_redirect.is_none() {
                            draft.https_redirect = Some(server.origin.clone());
                        }
                    }
                });
            }
            if !is_found {
                unreached(bound, host, gateways, translator);
            }
        }
        if !is_served {
            let message =
                "no open port carries a host of this object, so none of its rules is served";
            let finding =
                Finding::new(Code::NOT_FOR_THIS_GATEWAY, message).at(&bound.object.origin);
            let hint = "see the findings about its hosts and about the servers of its Gateways";
            translator
                .findings()
                .push(finding.of(&bound.object.key).hint(hint));
        }
    }
    for (index, server) in gateways
        .servers
        .iter()
        .enumerate()
        .filter(|(_, server)| server.serves)
    {
        let is_routed = routed.get(index).copied().unwrap_or(false);
        without_service(
            server,
            is_routed,
            sockets_of.get(index),
            &mut drafts,
            translator,
        );
    }
    drafts
}

/// `httpsRedirect` needs no VirtualService; any other host without one answers 404.
fn without_service(
    server: &Server<'_>,
    is_routed: bool,
    sockets: Option<&Vec<usize>>,
    drafts: &mut [Drafts],
    translator: &mut Translator<'_, '_>,
) {
    if !server.https_redirect {
        if !is_routed {
            let message =
                "no VirtualService routes a host of this server; every request to it answers 404";
            let finding = Finding::new(Code::UNROUTED_HOST, message)
                .at(&server.origin)
                .of(&server.object.key);
            let path = format!("spec.servers[{}]", server.index);
            translator.findings().push(
                finding
                    .path(path)
                    .hint("bind a VirtualService to this Gateway"),
            );
        }
        return;
    }
    for socket in sockets.into_iter().flatten() {
        let Some(drafts) = drafts.get_mut(*socket) else {
            continue;
        };
        for host in &server.hosts {
            let draft = drafts.entry(host.pattern.clone()).or_default();
            draft
                .https_redirect
                .get_or_insert_with(|| server.origin.clone());
        }
    }
}

fn unreached(
    bound: &Bound<'_>,
    host: &HostPattern,
    gateways: &Gateways<'_>,
    translator: &mut Translator<'_, '_>,
) {
    let names = bound
        .gateways
        .iter()
        .filter_map(|gateway| gateways.gateways.get(*gateway));
    let names: Vec<String> = names
        .map(|gateway| gateway.object.key.to_string())
        .collect();
    let message = format!(
        "no server of {} carries the host `{host}`",
        names.join(", ")
    );
    let path = crate::model::FieldPath::spec().field("hosts");
    let finding = Finding::new(Code::HOST_NOT_FOUND_IN_GATEWAY, message);
    translator.findings().push(
        finding
            .at(&bound.object.origin_of(&path))
            .of(&bound.object.key)
            .path(path.to_string())
            .hint("add the host to a server of the Gateway"),
    );
}

struct Merge<'m, 'a, 'c> {
    gateways: &'m Gateways<'a>,
    services: &'m Services<'a>,
    translator: &'m mut Translator<'a, 'c>,
    /// In how many entries each VirtualService takes part.
    uses: Vec<u32>,
    /// Branches of those that take part in several, by port.
    branches: HashMap<(usize, u16), Rc<Vec<Branch>>, foldhash::fast::RandomState>,
    fates: HashMap<usize, Fate, foldhash::fast::RandomState>,
    shadows: shadow::Shadows,
}

/// The routes of one virtual host under way.
#[derive(Default)]
struct Routes {
    routes: Vec<Route>,
    catch_alls: Vec<Route>,
}

impl Merge<'_, '_, '_> {
    fn virtual_host(
        &mut self,
        host: HostPattern,
        mut draft: Draft,
        declared_port: u16,
    ) -> VirtualHost {
        draft
            .entries
            .sort_by_key(|entry| (entry.fenced, entry.server, entry.service));
        let mut name_port = declared_port;
        let first = draft.entries.first();
        if let Some(server) = first.and_then(|entry| self.gateways.servers.get(entry.server)) {
            name_port = server.declared_port;
        }
        let mut merged = Routes::default();
        let mut seen = HashSet::new();
        for entry in &draft.entries {
            if self.uses.get(entry.service) == Some(&1) {
                self.only(entry, &mut merged);
            } else {
                self.shared(entry, &mut seen, &mut merged);
            }
        }
        let Routes {
            mut routes,
            mut catch_alls,
        } = merged;
        routes.append(&mut catch_alls);
        self.shadows
            .look(&host, &routes, self.translator.findings());
        VirtualHost {
            name: format!("{host}:{name_port}").into(),
            paths: PathIndex::build(routes.iter().map(|route: &Route| &route.uri)),
            host,
            routes,
            https_redirect: draft.https_redirect,
            fence: None,
        }
    }

    /// Adds a VirtualService that takes part nowhere else: its branches are used up.
    fn only(&mut self, entry: &Entry, merged: &mut Routes) {
        let server = self.gateways.servers.get(entry.server);
        let bound = self.services.bound.get(entry.service);
        let (Some(server), Some(bound)) = (server, bound) else {
            return;
        };
        let branches = self.translator.branches(bound, server.declared_port);
        merged.routes.reserve(branches.len());
        let mut is_cut = false;
        for branch in branches {
            let applies = branch.applies(entry.gateway, server.declared_port);
            if is_cut || !applies {
                let finding = explain(&branch, is_cut && applies);
                self.translator.findings().push(finding);
                continue;
            }
            is_cut = branch.catch_all;
            merged.push(branch.route, branch.catch_all, server);
        }
    }

    /// Adds a VirtualService that takes part in other virtual hosts or through other servers.
    fn shared(&mut self, entry: &Entry, seen: &mut HashSet<(usize, usize)>, merged: &mut Routes) {
        let Some(server) = self.gateways.servers.get(entry.server) else {
            return;
        };
        let branches = self.branches(entry.service, server.declared_port);
        let fate = self.fates.entry(entry.service).or_default();
        fate.served.resize(branches.len(), false);
        fate.cut.resize(branches.len(), false);
        let mut is_cut = false;
        for (index, branch) in branches.iter().enumerate() {
            if !branch.applies(entry.gateway, server.declared_port) {
                continue;
            }
            if is_cut {
                set(&mut fate.cut, index);
                continue;
            }
            is_cut = branch.catch_all;
            set(&mut fate.served, index);
            if seen.insert((entry.service, index)) {
                merged.push(branch.route.clone(), branch.catch_all, server);
            }
        }
        fate.branches = Some(branches);
    }

    fn branches(&mut self, service: usize, port: u16) -> Rc<Vec<Branch>> {
        if let Some(branches) = self.branches.get(&(service, port)) {
            return branches.clone();
        }
        let branches = match self.services.bound.get(service) {
            Some(bound) => Rc::new(self.translator.branches(bound, port)),
            None => Rc::default(),
        };
        self.branches.insert((service, port), branches.clone());
        branches
    }

    /// Reports every match of a shared VirtualService that no virtual host took.
    fn report(&mut self) {
        for fate in self.fates.values() {
            let Some(branches) = &fate.branches else {
                continue;
            };
            let states = fate.served.iter().zip(&fate.cut);
            for (branch, (served, cut)) in branches.iter().zip(states) {
                if !served {
                    self.translator.findings().push(explain(branch, *cut));
                }
            }
        }
    }
}

impl Routes {
    fn push(&mut self, mut route: Route, catch_all: bool, server: &Server<'_>) {
        if let Some(fence) = &server.fence {
            route.action = Action::Fenced(fence.clone()).into();
        }
        match catch_all {
            true => self.catch_alls.push(route),
            false => self.routes.push(route),
        }
    }
}

/// Why a match takes part in no virtual host.
fn explain(branch: &Branch, is_cut: bool) -> Finding {
    let finding = match (branch.foreign, is_cut) {
        (_, true) => Finding::new(
            Code::UNREACHABLE_RULE,
            "an earlier rule of this object matches every request, so this is never reached",
        )
        .hint("move the rule that matches everything to the end"),
        (Some(reason), false) => Finding::new(Code::NOT_FOR_THIS_GATEWAY, reason),
        (None, false) => Finding::new(Code::NOT_FOR_THIS_GATEWAY, elsewhere(branch)),
    };
    finding
        .at(&branch.route.origin)
        .of(&branch.route.object)
        .path(branch.printed_path())
}

fn elsewhere(branch: &Branch) -> String {
    match branch.port {
        Some(port) => {
            format!("no server that carries a host of this object declares the port {port}")
        }
        None => "its `gateways` are not those through which this object is served".to_owned(),
    }
}

fn set(flags: &mut [bool], index: usize) {
    if let Some(flag) = flags.get_mut(index) {
        *flag = true;
    }
}
