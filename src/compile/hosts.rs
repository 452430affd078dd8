//! Merges the rules of all VirtualServices into virtual hosts, per socket and host.
//!
//! A host's routes are those of each VirtualService bound to it, in order, each cut after its
//! first catch-all; then all catch-alls move to the end, keeping their order.
//! What is cut, never applies, or stands behind an equal condition is reported.

mod merge;
mod shadow;

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::{Code, Finding, HostPattern, Origin};
use crate::plan::Listener;
use crate::plan::hosts::HostIndex;

use super::bind::{Bound, Services};
use super::gateway::listen::Socket;
use super::gateway::reach::Reach;
use super::gateway::{Gateways, Server};
use super::memory::{Kept, Vhosts};
use super::rule::Translator;

use merge::Merge;
pub(crate) use merge::Merged;

/// The virtual hosts of one socket.
type Drafts = HashMap<HostPattern, Draft, foldhash::fast::RandomState>;

/// What a virtual host is made of.
#[derive(Default)]
struct Draft {
    entries: SmallVec<[Entry; 1]>,
    https_redirect: Option<Box<Origin>>,
}

/// One VirtualService through one server.
#[derive(Clone, Copy)]
struct Entry {
    /// Servers with errors come last, so that a sound one decides for the same rules.
    fenced: bool,
    server: u32,
    service: u32,
    gateway: u32,
}

/// Builds the listeners of all sockets. `known` are the virtual hosts of the last compile under the
/// same settings and Gateways; those of this one take their place.
pub(crate) fn listeners<'a>(
    sockets: &[Socket],
    gateways: &Gateways<'a>,
    services: &Services<'a>,
    kept: &mut [Kept],
    known: &mut Vec<Vhosts>,
    translator: &mut Translator<'a, '_>,
) -> Vec<Listener> {
    let drafts = draft(sockets, gateways, services, translator);
    let mut merge = Merge::new(gateways, services, kept, translator);
    let mut before = std::mem::take(known).into_iter();
    let mut listeners = Vec::with_capacity(sockets.len());
    for (socket, drafts) in sockets.iter().zip(drafts) {
        let first = socket
            .servers
            .first()
            .and_then(|server| gateways.servers.get(*server));
        let declared_port = first.map_or(socket.addr.port(), |server| server.declared_port);
        let before = before.next().unwrap_or_default();
        let vhosts = merge.socket(drafts, declared_port, before);
        let servers = || {
            let servers = socket.servers.iter();
            servers.filter_map(|server| gateways.servers.get(*server))
        };
        listeners.push(Listener {
            addr: socket.addr,
            declared_port,
            is_tls: socket.is_tls,
            grpc_web: servers().any(|server| server.grpc_web),
            origins: servers().map(|server| server.origin.clone()).collect(),
            hosts: vhosts.index.clone(),
            virtual_hosts: vhosts.served().cloned().collect(),
            fence: None,
            guarding: None,
        });
        known.push(vhosts);
    }
    merge.report();
    listeners
}

impl Vhosts {
    /// The virtual hosts that there are, in order.
    fn served(&self) -> impl Iterator<Item = &Arc<crate::plan::VirtualHost>> {
        self.merged.iter().filter_map(|merged| merged.host.as_ref())
    }

    /// Numbers the virtual hosts.
    fn index(&mut self) {
        let mut index = HostIndex::default();
        for (number, host) in (0..).zip(self.served()) {
            index.insert(&host.host, number);
        }
        self.index = Arc::new(index);
    }
}

/// Finds the virtual hosts of every socket and what flows into each.
fn draft(
    sockets: &[Socket],
    gateways: &Gateways<'_>,
    services: &Services<'_>,
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
        let mut is_asked = false;
        for host in &bound.place.hosts {
            let mut is_found = false;
            for gateway in &bound.place.gateways {
                let Some(reach) = reaches.get(*gateway) else {
                    continue;
                };
                reach.find(host, &bound.object.key.namespace, |index, common| {
                    is_found = true;
                    let Some(server) = gateways.servers.get(index) else {
                        return;
                    };
                    is_served |= server.serves;
                    is_asked |= server.serves && server.is_http();
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
                        draft.entries.push(Entry {
                            fenced: server.fence.is_some(),
                            server: narrow(index),
                            service: narrow(service),
                            gateway: narrow(*gateway),
                        });
                        if server.https_redirect && draft.https_redirect.is_none() {
                            draft.https_redirect = Some(Box::new(server.origin.clone()));
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
        } else if !is_asked && !bound.spec.http.is_empty() {
            let path = crate::model::FieldPath::spec().field("http");
            let message = "no server that carries a host of this object serves HTTP, so none of \
                           these rules is served";
            let finding = Finding::new(Code::NOT_FOR_THIS_GATEWAY, message);
            translator.findings().push(
                finding
                    .at(&bound.object.origin_of(&path))
                    .of(&bound.object.key)
                    .path(path.to_string())
                    .hint(
                        "connections of TCP and passthrough servers are routed by `tcp` and `tls`",
                    ),
            );
        }
    }
    for (index, server) in gateways
        .servers
        .iter()
        .enumerate()
        .filter(|(_, server)| server.serves && server.is_http())
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
                .get_or_insert_with(|| Box::new(server.origin.clone()));
        }
    }
}

/// An index as entries hold it. There are far fewer than 2^32 of anything.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn unreached(
    bound: &Bound<'_>,
    host: &HostPattern,
    gateways: &Gateways<'_>,
    translator: &mut Translator<'_, '_>,
) {
    let names = bound
        .place
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
