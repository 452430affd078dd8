//! The meaning of sockets of TLS and TCP, and of where their connections go.

use std::hash::Hash;

use super::{Lanes, each, fenced};
use crate::plan::Clusters;
use crate::plan::stream::{StreamAction, StreamDestination, StreamForward, StreamRoute, TcpSocket};
use crate::plan::tls::{TlsServer, TlsService, TlsSocket};

pub(super) fn tls_socket(item: &TlsSocket, clusters: &Clusters, to: &mut Lanes) {
    // `names` is built from the hosts of the servers, which their listeners do not hold all.
    let TlsSocket {
        addr,
        declared_port,
        names,
        servers,
        has_client_rules: _,
    } = item;
    (addr, declared_port, names).hash(to);
    each(servers, to, |server, to| {
        let TlsServer {
            origin: _,
            name,
            service,
        } = server;
        name.hash(to);
        match service {
            TlsService::Http { listener, terms } => (0_u8, listener, terms).hash(to),
            TlsService::Unsupported => 1_u8.hash(to),
            TlsService::Tcp { route, terms } => {
                (2_u8, terms).hash(to);
                stream_route(route, clusters, to);
            }
            TlsService::Passthrough { route, mesh_only } => {
                (3_u8, mesh_only).hash(to);
                stream_route(route, clusters, to);
            }
        }
    });
}

pub(super) fn tcp_socket(item: &TcpSocket, clusters: &Clusters, to: &mut Lanes) {
    let TcpSocket {
        addr,
        declared_port,
        server: _,
        route,
    } = item;
    (addr, declared_port).hash(to);
    stream_route(route, clusters, to);
}

fn stream_route(item: &StreamRoute, clusters: &Clusters, to: &mut Lanes) {
    let StreamRoute {
        object,
        path,
        origin: _,
        access,
        action,
    } = item;
    (object, path, access).hash(to);
    match action {
        StreamAction::Forward(StreamForward {
            destinations,
            total_weight: _,
        }) => {
            0_u8.hash(to);
            each(destinations, to, |item, to| {
                let StreamDestination {
                    target,
                    weight,
                    origin: _,
                } = item;
                super::target(target, clusters, to);
                weight.hash(to);
            });
        }
        StreamAction::Fenced(fence) => {
            1_u8.hash(to);
            fenced(fence, to);
        }
    }
}
