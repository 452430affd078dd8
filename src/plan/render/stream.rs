//! Routes of connections as text.

use std::fmt::{self, Write};

use crate::plan::{Plan, Policy, StreamAction, StreamRoute, Target, TcpSocket};

pub(super) fn text(out: &mut String, plan: &Plan, socket: &TcpSocket) -> fmt::Result {
    writeln!(out, "tcp {} (port {})", socket.addr, socket.declared_port)?;
    writeln!(out, "  server {}", socket.server)?;
    route_text(out, plan, &socket.route)
}

pub(super) fn route_text(out: &mut String, plan: &Plan, route: &StreamRoute) -> fmt::Result {
    let StreamRoute {
        object,
        path,
        origin,
        access,
        action,
    } = route;
    writeln!(out, "    connections by {object} {path} at {origin}")?;
    for policy in access.iter().filter_map(|id| plan.checks.access.get(id.0)) {
        let Policy { id, policy, origin } = policy;
        writeln!(out, "       passes {id} ({policy}) at {origin}")?;
    }
    let forward = match action {
        StreamAction::Forward(forward) => forward,
        StreamAction::Fenced(fence) => {
            return super::fence_text(out, "       -> ", Some(fence));
        }
    };
    for destination in &forward.destinations {
        write!(out, "       -> ")?;
        if forward.destinations.len() > 1 {
            write!(out, "{}/{} ", destination.weight, forward.total_weight)?;
        }
        match &destination.target {
            Target::Cluster(id) => match plan.cluster(*id) {
                Some(cluster) => write!(out, "{}", cluster.name)?,
                None => write!(out, "cluster {}", id.0)?,
            },
            Target::Missing { name, reason } => write!(out, "missing {name}: {reason}")?,
        }
        writeln!(out, " at {}", destination.origin)?;
    }
    Ok(())
}
