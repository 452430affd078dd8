//! What a protection covers: listeners or virtual hosts.

use std::sync::Arc;

use crate::plan::{Action, Fence, Listener, VirtualHost};

use super::sheet::Spot;

/// The traffic a protection selects.
#[derive(Debug)]
pub(super) enum Scope {
    /// Everything this gateway serves.
    All,
    /// The listeners of a port, bound or declared.
    Port(u16),
    VirtualHosts {
        /// `host:port`.
        name: Option<String>,
        domain: Option<String>,
        port: Option<u16>,
    },
    /// What a policy of ours is for.
    Target { spots: Vec<Spot>, name: String },
}

impl Scope {
    /// Fences what is covered and not yet fenced; gives how much is covered.
    pub(super) fn fence(&self, listeners: &mut [Listener], fence: &Fence) -> usize {
        let fence = Arc::new(fence.clone());
        if let Scope::Target { spots, .. } = self {
            spots
                .iter()
                .for_each(|spot| fence_spot(*spot, listeners, &fence));
            return spots.len();
        }
        let mut count = 0;
        // A port that is not ours may be one that Istio's Service would map to ours.
        let is_known = listeners.iter().any(|listener| self.has_port(listener));
        for listener in listeners {
            match self {
                Scope::All => {
                    listener.fence.get_or_insert_with(|| fence.clone());
                    count += 1;
                }
                Scope::Target { .. } => {}
                Scope::Port(_) => {
                    if !is_known || self.has_port(listener) {
                        listener.fence.get_or_insert_with(|| fence.clone());
                        count += 1;
                    }
                }
                Scope::VirtualHosts { .. } => {
                    if is_known && !self.has_port(listener) {
                        continue;
                    }
                    for host in listener
                        .virtual_hosts
                        .iter_mut()
                        .filter(|host| self.names(host))
                    {
                        let host = Arc::make_mut(host);
                        host.fence.get_or_insert_with(|| fence.clone());
                        count += 1;
                    }
                }
            }
        }
        count
    }

    pub(super) fn show(&self) -> String {
        match self {
            Scope::All => "everything this gateway serves".into(),
            Scope::Target { name, .. } => format!("what {name} serves"),
            Scope::Port(port) => format!("everything on port {port}"),
            Scope::VirtualHosts {
                name: Some(name), ..
            } => format!("the virtual host `{name}`"),
            Scope::VirtualHosts {
                domain: Some(domain),
                ..
            } => format!("the host `{domain}`"),
            Scope::VirtualHosts { .. } => "every virtual host".into(),
        }
    }

    fn has_port(&self, listener: &Listener) -> bool {
        let port = match self {
            Scope::All | Scope::Target { .. } => None,
            Scope::Port(port) => Some(*port),
            Scope::VirtualHosts { port, .. } => *port,
        };
        port.is_none_or(|port| port == listener.addr.port() || port == listener.declared_port)
    }

    fn names(&self, host: &VirtualHost) -> bool {
        let Scope::VirtualHosts { name, domain, .. } = self else {
            return true;
        };
        let shown = host.host.to_string();
        name.as_deref().is_none_or(|name| {
            *name == *host.name || name.rsplit_once(':').is_some_and(|(name, _)| name == shown)
        }) && domain
            .as_deref()
            .is_none_or(|domain| domain.eq_ignore_ascii_case(&shown))
    }
}

/// Fences one place, unless it is already.
fn fence_spot(spot: Spot, listeners: &mut [Listener], fence: &Arc<Fence>) {
    let (index, host, route) = match spot {
        Spot::Listener(index) => (index, None, None),
        Spot::Host(index, host) => (index, Some(host), None),
        Spot::Route(index, host, route) => (index, Some(host), Some(route)),
    };
    let Some(listener) = listeners.get_mut(index) else {
        return;
    };
    let Some(host) = host else {
        listener.fence.get_or_insert_with(|| fence.clone());
        return;
    };
    let Some(host) = listener.virtual_hosts.get_mut(host).map(Arc::make_mut) else {
        return;
    };
    match route {
        None => {
            host.fence.get_or_insert_with(|| fence.clone());
        }
        Some(route) => {
            let route = host.routes.get_mut(route).map(Arc::make_mut);
            if let Some(route) = route.filter(|route| !matches!(*route.action, Action::Fenced(_))) {
                route.action = Arc::new(Action::Fenced(fence.clone()));
            }
        }
    }
}
