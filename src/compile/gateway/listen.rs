//! Which servers share a socket, and which are turned away.
//!
//! The first server claims a socket for its kind of traffic. Plaintext HTTP servers merge; TLS
//! servers coexist by SNI; everything else that comes later is skipped with a finding. Servers
//! that cannot be served yet claim their socket all the same, so that nothing takes their place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use crate::base::{Code, Finding, Findings};
use crate::compile::stream::Streams;
use crate::plan::TcpSocket;

use super::{Gateways, Role, Server, ServerProtocol};

/// A socket to open, with the servers that share it in the order they were merged.
#[derive(Debug)]
pub(crate) struct Socket {
    pub addr: SocketAddr,
    /// Whether its one server terminates TLS; others may have the same address.
    pub is_tls: bool,
    pub servers: Vec<usize>,
}

/// What the first server made of a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plaintext,
    Tls,
    Tcp,
}

struct Claim {
    kind: Kind,
    /// Index of the server that claimed it.
    first: usize,
}

#[derive(Default)]
struct Claims {
    sockets: HashMap<SocketAddr, Claim>,
    /// Literal hosts of servers with `tls`, and who has them.
    tls_hosts: HashMap<SocketAddr, HashMap<String, usize>>,
    /// Names of HTTPS ports by Gateway.
    https_names: HashSet<(SocketAddr, usize, String)>,
}

/// Why a server is skipped.
enum Refusal {
    Conflict { first: usize },
    DuplicateHost { host: String, first: usize },
    DuplicateName,
}

/// The sockets of all our Gateways, sorted by address.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Those that carry HTTP, in plaintext or inside TLS.
    pub http: Vec<Socket>,
    /// The servers of TLS sockets, the unsupported ones too.
    pub tls: BTreeMap<SocketAddr, Vec<usize>>,
    /// The one server of each plain TCP socket.
    pub tcp: BTreeMap<SocketAddr, usize>,
}

/// Merges the servers of all our Gateways into sockets.
pub(crate) fn sockets(gateways: &mut Gateways<'_>, findings: &mut Findings) -> Sockets {
    let mut claims = Claims::default();
    let mut open: BTreeMap<SocketAddr, Vec<usize>> = BTreeMap::new();
    let mut tls: BTreeMap<SocketAddr, Vec<usize>> = BTreeMap::new();
    let mut tcp: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for gateway in 0..gateways.gateways.len() {
        let Some(range) = gateways
            .gateways
            .get(gateway)
            .map(|gateway| gateway.servers.clone())
        else {
            continue;
        };
        for index in range {
            let Some(server) = gateways.servers.get(index) else {
                continue;
            };
            let addrs = server.addrs.clone();
            let is_http = server.protocol == ServerProtocol::Http;
            let mut serves = false;
            let mut refused = false;
            for addr in addrs {
                let Some(server) = gateways.servers.get(index) else {
                    continue;
                };
                match claims.admit(addr, gateway, index, server) {
                    Ok(()) if is_http => {
                        open.entry(addr).or_default().push(index);
                        serves = true;
                    }
                    Ok(()) if server.protocol.is_tls() => {
                        serves |= server.role() != Role::Unsupported;
                        tls.entry(addr).or_default().push(index);
                    }
                    Ok(()) => {
                        serves = true;
                        tcp.insert(addr, index);
                    }
                    Err(refusal) if !refused => {
                        refused = true;
                        findings.push(refusal.finding(addr, server, &gateways.servers));
                    }
                    Err(_) => {}
                }
            }
            if let Some(server) = gateways.servers.get_mut(index) {
                server.serves = serves;
            }
        }
    }
    let plain = open.into_iter().map(|(addr, servers)| Socket {
        addr,
        is_tls: false,
        servers,
    });
    let mut http: Vec<Socket> = plain.collect();
    for (addr, servers) in &tls {
        let terminated = servers.iter().filter(|index| {
            gateways
                .servers
                .get(**index)
                .is_some_and(Server::terminates)
        });
        http.extend(terminated.map(|index| Socket {
            addr: *addr,
            is_tls: true,
            servers: vec![*index],
        }));
    }
    http.sort_by_key(|socket| socket.addr);
    // A port of which nothing can be served is not opened.
    tls.retain(|_, servers| {
        let mut servers = servers.iter().filter_map(|it| gateways.servers.get(*it));
        servers.any(|server| server.role() != Role::Unsupported)
    });
    Sockets { http, tls, tcp }
}

/// The plain TCP sockets that have a route; a port without one is not opened.
pub(crate) fn tcp(sockets: &Sockets, gateways: &Gateways<'_>, streams: &Streams) -> Vec<TcpSocket> {
    let sockets = sockets.tcp.iter().filter_map(|(addr, index)| {
        let server = gateways.servers.get(*index)?;
        Some(TcpSocket {
            addr: *addr,
            declared_port: server.declared_port,
            server: server.origin.clone(),
            route: streams.tcp.get(index)?.clone(),
        })
    });
    sockets.collect()
}

impl Claims {
    fn admit(
        &mut self,
        addr: SocketAddr,
        gateway: usize,
        index: usize,
        server: &Server<'_>,
    ) -> Result<(), Refusal> {
        if server.tls.is_some() {
            let known = self.tls_hosts.entry(addr).or_default();
            for host in &server.hosts {
                if let Some(first) = known.get(&host.literal) {
                    return Err(Refusal::DuplicateHost {
                        host: host.literal.clone(),
                        first: *first,
                    });
                }
            }
            known.extend(
                server
                    .hosts
                    .iter()
                    .map(|host| (host.literal.clone(), index)),
            );
        }
        let kind = match server.protocol {
            ServerProtocol::Http => Kind::Plaintext,
            ServerProtocol::Https | ServerProtocol::Tls => Kind::Tls,
            ServerProtocol::Tcp => Kind::Tcp,
        };
        if server.protocol == ServerProtocol::Https
            && !self
                .https_names
                .insert((addr, gateway, server.port_name.to_owned()))
        {
            return Err(Refusal::DuplicateName);
        }
        match self.sockets.get(&addr) {
            Some(claim) if claim.kind != kind || kind == Kind::Tcp => {
                Err(Refusal::Conflict { first: claim.first })
            }
            Some(_) => Ok(()),
            None => {
                self.sockets.insert(addr, Claim { kind, first: index });
                Ok(())
            }
        }
    }
}

impl Refusal {
    fn finding(&self, addr: SocketAddr, server: &Server<'_>, servers: &[Server<'_>]) -> Finding {
        let named = |index: usize| match servers.get(index) {
            Some(first) => format!("{} ({})", first.object.key, first.origin),
            None => String::from("an earlier server"),
        };
        let finding = match self {
            Refusal::Conflict { first } => Finding::new(
                Code::PORT_CONFLICT,
                format!("port {} already serves another protocol for {}; this server is skipped", addr.port(), named(*first)),
            )
            .hint("use another port, or the same protocol"),
            Refusal::DuplicateHost { host, first } => Finding::new(
                Code::CONFLICTING_GATEWAYS,
                format!("the host `{host}` on port {} belongs to {}; this whole server is skipped", addr.port(), named(*first)),
            )
            .hint("list each host with `tls` in one server of a port only"),
            Refusal::DuplicateName => Finding::new(
                Code::PORT_CONFLICT,
                format!("the HTTPS port name `{}` is used twice in this Gateway; this server is skipped", server.port_name),
            )
            .hint("give every server's port its own name"),
        };
        finding
            .at(&server.origin)
            .of(&server.object.key)
            .path(format!("spec.servers[{}]", server.index))
    }
}
