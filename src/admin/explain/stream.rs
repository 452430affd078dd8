//! What happens to a connection that is not HTTP: `tcp://host:port`, or `tls://name:port`, or an
//! `https` URL whose server name is not one of HTTP.

use std::net::SocketAddr;

use serde::Serialize;

use crate::base::{CauseKind, Origin};
use crate::plan::{
    Hello, Plan, StreamAction, StreamDestination, StreamForward, StreamRoute, Target, TlsService,
    TlsSocket,
};

use super::ask::{Asking, socket_of};
use super::guard::GuardShown;
use super::outcome::{Problem, no_endpoint};
use super::{
    Ask, AskError, Asked, EndpointSource, Explained, ListenerShown, Members, Outcome, Rule,
};

/// A destination of connections.
#[derive(Debug, Serialize)]
pub struct Carried {
    pub weight: u64,
    /// Of this many.
    pub total_weight: u64,
    pub cluster: String,
    /// Absent if the destination does not exist.
    pub service: Option<String>,
    #[serde(flatten)]
    pub members: Members,
    /// Why it gets nothing.
    pub problem: Option<Problem>,
    /// The destination's line in the rule.
    pub origin: String,
    pub service_origin: Option<String>,
    pub policy_origin: Option<String>,
}

/// A socket, and whoever takes the connection there.
struct Found<'p> {
    addr: SocketAddr,
    port: u16,
    servers: Vec<&'p Origin>,
    route: Option<&'p StreamRoute>,
    /// The names that the route is for, or `every connection`.
    conditions: String,
}

/// Explains a connection; `None` if the question is about a request.
///
/// # Errors
/// No such socket has the port, or requests are inside.
pub(super) fn explain(
    plan: &Plan,
    endpoints: &dyn EndpointSource,
    ask: &Ask,
) -> Result<Option<Explained>, AskError> {
    let Some(found) = find(plan, ask)? else {
        return Ok(None);
    };
    let (rule, outcome) = match found.route {
        Some(route) => (
            Some(Rule {
                name: String::new(),
                object: route.object.to_string(),
                path: route.path.to_string(),
                origin: route.origin.to_string(),
                conditions: found.conditions,
            }),
            of_route(plan, endpoints, route),
        ),
        None => (None, closed(format!("no server takes {:?}", ask.host()))),
    };
    let access = found.route.iter().flat_map(|route| &route.access);
    let access = access.filter_map(|id| plan.checks.access.get(id.0));
    let guards = access.map(|policy| GuardShown::of_check(policy, policy.policy.to_string()));
    Ok(Some(Explained {
        request: Asked {
            url: ask.url().to_owned(),
            method: String::new(),
            authority: String::new(),
            host: ask.host(),
            path: String::new(),
            received_path: None,
            query: None,
            scheme: String::new(),
        },
        listener: ListenerShown {
            address: found.addr.to_string(),
            port: found.port,
            servers: found.servers.iter().map(ToString::to_string).collect(),
        },
        virtual_host: None,
        outcome,
        rule,
        losers: Vec::new(),
        losers_omitted: 0,
        guards: guards.collect(),
        shadowed: Vec::new(),
        shadowed_omitted: 0,
    }))
}

fn find<'p>(plan: &'p Plan, ask: &Ask) -> Result<Option<Found<'p>>, AskError> {
    let host = ask.host();
    if ask.asking() == Asking::Tcp {
        let sockets = plan.tcp.iter();
        let socket = socket_of(ask.port(), sockets, |it| (it.addr, it.declared_port));
        let socket = socket.ok_or_else(|| AskError::Socket(ask.port()))?;
        return Ok(Some(Found {
            addr: socket.addr,
            port: socket.declared_port,
            servers: vec![&socket.server],
            route: Some(&socket.route),
            conditions: "every connection".to_owned(),
        }));
    }
    let is_tls = ask.asking() == Asking::Tls;
    if !is_tls && ask.asking() != Asking::Https {
        return Ok(None);
    }
    let sockets = plan.tls.iter();
    let socket = socket_of(ask.port(), sockets, |it| (it.addr, it.declared_port));
    let Some(socket) = socket else {
        return match is_tls {
            true => Err(AskError::Socket(ask.port())),
            false => Ok(None),
        };
    };
    let hello = Hello {
        name: Some(&host),
        // Whoever names a cluster of the mesh is one of it.
        offers_mesh: true,
    };
    let server = socket.choose(&hello);
    match server.map(|server| &server.service) {
        Some(TlsService::Http { .. }) if is_tls => return Err(AskError::Requests(host)),
        Some(TlsService::Http { .. }) => return Ok(None),
        None | Some(TlsService::Unsupported) if !is_tls => return Ok(None),
        _ => {}
    }
    Ok(Some(Found {
        addr: socket.addr,
        port: socket.declared_port,
        servers: server.map(|server| &server.origin).into_iter().collect(),
        route: server.and_then(|server| server.service.route().map(|route| &**route)),
        conditions: names(socket, &host),
    }))
}

/// The names that lead where this one leads.
fn names(socket: &TlsSocket, host: &str) -> String {
    let number = socket.names.find(host);
    let names = number.map(|number| socket.names_of(number));
    format!("server name {}", names.unwrap_or_default().join(", "))
}

fn of_route(plan: &Plan, endpoints: &dyn EndpointSource, route: &StreamRoute) -> Outcome {
    match &route.action {
        StreamAction::Forward(forward) => Outcome::Connection {
            destinations: forward
                .destinations
                .iter()
                .map(|destination| Carried::of(plan, endpoints, forward, destination))
                .collect(),
        },
        StreamAction::Fenced(fence) => Outcome::Closed {
            flags: CauseKind::Fenced.flag(),
            cause: CauseKind::Fenced.code(),
            reason: format!("{} ({})", fence.reason, fence.origin),
        },
    }
}

fn closed(reason: String) -> Outcome {
    Outcome::Closed {
        flags: CauseKind::RouteNotFound.flag(),
        cause: CauseKind::RouteNotFound.code(),
        reason,
    }
}

impl Carried {
    fn of(
        plan: &Plan,
        endpoints: &dyn EndpointSource,
        forward: &StreamForward,
        destination: &StreamDestination,
    ) -> Self {
        let (id, missing) = match &destination.target {
            Target::Cluster(id) => (Some(*id), None),
            Target::Missing { name, reason } => (None, Some((name, reason))),
        };
        let cluster = id.and_then(|id| plan.cluster(id));
        let members = id.zip(cluster);
        let members = members
            .map(|(id, cluster)| endpoints.members(id, cluster))
            .unwrap_or_default();
        let problem = match missing {
            Some((_, reason)) => Some(Problem::of(CauseKind::ClusterNotFound, reason.to_string())),
            None => no_endpoint(&members),
        };
        let place = |origin: Option<&Origin>| origin.map(ToString::to_string);
        Self {
            weight: destination.weight,
            total_weight: forward.total_weight,
            cluster: match (cluster, missing) {
                (Some(cluster), _) => cluster.name.to_string(),
                (None, Some((name, _))) => name.to_string(),
                (None, None) => String::new(),
            },
            service: cluster.map(|cluster| cluster.host.to_string()),
            members,
            problem,
            origin: destination.origin.to_string(),
            service_origin: cluster.and_then(|it| place(it.origin.as_ref())),
            policy_origin: cluster.and_then(|it| place(it.policy_origin.as_ref())),
        }
    }
}
