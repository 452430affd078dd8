//! Connections that are not HTTP: which route of `tcp[]` or `tls[]` takes them.
//!
//! A plain TCP socket has one route. On a TLS socket the ClientHello decides, first about the
//! server or route ([`TlsSocket::choose`]), which may be one that ends TLS and forwards what is
//! inside. Traffic, `explain` and the tests ask the same two functions.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{ObjectKey, Origin};

use super::guards::AccessId;
use super::route::{Fence, Target};
use super::table::Plan;
use super::tls::{ClientCertificates, TlsServer, TlsService, TlsSocket};

/// What a rule of `tcp` or `tls`, or an AUTO_PASSTHROUGH server, does with connections.
#[derive(Clone, Debug)]
pub struct StreamRoute {
    /// The object that wrote it.
    pub object: ObjectKey,
    /// Its field path (`spec.tcp[0]`).
    pub path: Arc<str>,
    /// The line of the match, or of the rule if it has none.
    pub origin: Origin,
    /// What a client must pass before the action (our AccessList); all of them.
    pub access: Vec<AccessId>,
    pub action: StreamAction,
}

#[derive(Clone, Debug)]
pub enum StreamAction {
    Forward(StreamForward),
    /// The rule, or what protects it, could not be compiled: connections are closed.
    Fenced(Arc<Fence>),
}

/// Sends each connection to one of several destinations.
#[derive(Clone, Debug)]
pub struct StreamForward {
    /// At least one; weights are positive.
    pub destinations: Vec<StreamDestination>,
    /// Sum of all weights.
    pub total_weight: u64,
}

#[derive(Clone, Debug)]
pub struct StreamDestination {
    pub target: Target,
    pub weight: u64,
    pub origin: Origin,
}

/// A socket whose connections are bytes from the first one on.
#[derive(Clone, Debug)]
pub struct TcpSocket {
    /// The bound address.
    pub addr: SocketAddr,
    /// The port the Gateway declares.
    pub declared_port: u16,
    /// The server in its Gateway.
    pub server: Origin,
    pub route: Arc<StreamRoute>,
}

/// What a ClientHello says, as far as it decides where the connection goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello<'n> {
    /// SNI, lower-case without a trailing dot; `None` if none was sent.
    pub name: Option<&'n str>,
    /// Whether an ALPN protocol of Istio's mutual TLS is offered ([`is_mesh_protocol`]).
    pub offers_mesh: bool,
}

/// How the bytes of a connection came.
#[derive(Clone, Copy, Debug)]
pub enum Came<'n> {
    /// As they are.
    Plain,
    /// Inside TLS that ended here.
    Inside {
        name: Option<&'n str>,
        /// What the handshake asked of the client.
        client: &'n ClientCertificates,
    },
    /// As TLS that did not end here.
    Through(Hello<'n>),
}

/// Whether an ALPN protocol is one that sidecars offer (Istio's `allIstioMtlsALPNs`). Whoever
/// offers one reaches only the mutual TLS of the sidecar behind an AUTO_PASSTHROUGH server.
pub fn is_mesh_protocol(protocol: &[u8]) -> bool {
    matches!(
        protocol,
        b"istio" | b"istio-peer-exchange" | b"istio-http/1.0" | b"istio-http/1.1" | b"istio-h2"
    )
}

impl StreamForward {
    /// The destination that a uniformly random number chooses. `None` only if there are none.
    pub fn pick(&self, random: u64) -> Option<&StreamDestination> {
        let mut rest = random % self.total_weight.max(1);
        for destination in &self.destinations {
            if rest < destination.weight {
                return Some(destination);
            }
            rest -= destination.weight;
        }
        self.destinations.last()
    }
}

impl TlsSocket {
    /// The server, or the route of a passthrough server, that takes a connection.
    pub fn choose(&self, hello: &Hello<'_>) -> Option<&TlsServer> {
        self.server(hello.name.unwrap_or_default())
            .filter(|server| match &server.service {
                TlsService::Passthrough { mesh_only, .. } => !mesh_only || hello.offers_mesh,
                _ => true,
            })
    }
}

impl TlsSocket {
    /// The names that lead to one of `servers`, in order.
    pub fn names_of(&self, server: u32) -> Vec<String> {
        let mut names: Vec<String> = self
            .names
            .iter()
            .filter(|(_, number)| *number == server)
            .map(|(name, _)| name.to_string())
            .collect();
        names.sort_unstable();
        names
    }
}

impl Plan {
    /// The route of a connection that came to a socket as `came` says. `None` if none takes it:
    /// also where TLS ended and now would not, or would ask for more of the client.
    pub fn stream(&self, addr: SocketAddr, came: &Came<'_>) -> Option<&Arc<StreamRoute>> {
        let (name, offers_mesh) = match came {
            Came::Plain => return self.tcp_socket(addr).map(|socket| &socket.route),
            Came::Inside { name, .. } => (*name, false),
            Came::Through(hello) => (hello.name, hello.offers_mesh),
        };
        let server = self
            .tls_socket(addr)?
            .choose(&Hello { name, offers_mesh })?;
        match (&server.service, came) {
            (TlsService::Tcp { route, terms }, Came::Inside { client, .. }) => {
                let asks = terms.client.rules().is_some();
                (!asks || terms.client == **client).then_some(route)
            }
            (TlsService::Passthrough { route, .. }, Came::Through(_)) => Some(route),
            _ => None,
        }
    }

    /// The socket at an address, if its connections are bytes from the first one on.
    pub fn tcp_socket(&self, addr: SocketAddr) -> Option<&TcpSocket> {
        let index = self
            .tcp
            .binary_search_by_key(&addr, |socket| socket.addr)
            .ok()?;
        self.tcp.get(index)
    }

    /// All routes of connections with the address of their socket, in the order of the sockets.
    pub fn stream_routes(&self) -> impl Iterator<Item = (SocketAddr, &Arc<StreamRoute>)> {
        let tcp = self.tcp.iter().map(|socket| (socket.addr, &socket.route));
        let tls = self.tls.iter().flat_map(|socket| {
            let routes = socket.servers.iter();
            routes.filter_map(|server| Some((socket.addr, server.service.route()?)))
        });
        tcp.chain(tls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ClusterId;

    #[test]
    fn every_destination_gets_exactly_its_weight() {
        let origin = Origin::new("a.yaml".into(), crate::base::Position::default(), 0);
        for weights in [&[90, 10][..], &[1, 2, 3], &[7], &[1, 1000, 1]] {
            let destination = |(id, weight): (u32, &u64)| StreamDestination {
                target: Target::Cluster(ClusterId(id)),
                weight: *weight,
                origin: origin.clone(),
            };
            let forward = StreamForward {
                destinations: (0..).zip(weights).map(destination).collect(),
                total_weight: weights.iter().sum(),
            };
            let mut shares = vec![0; weights.len()];
            for random in 0..forward.total_weight {
                let Some(Target::Cluster(id)) = forward.pick(random).map(|picked| &picked.target)
                else {
                    panic!("none for {random}");
                };
                shares[id.0 as usize] += 1;
            }
            assert_eq!(shares, weights);
        }
    }
}
