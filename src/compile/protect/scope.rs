//! What a protection covers: listeners, virtual hosts or rules.

use std::sync::Arc;

use crate::plan::{Action, Fence, Listener};

use super::sheet::Spot;

/// The traffic a protection selects.
#[derive(Debug)]
pub(super) enum Scope {
    /// Everything this gateway serves.
    All,
    /// The listeners of a port, bound or declared.
    Port(u16),
    /// What a policy is for, by name.
    Target { spots: Vec<Spot>, name: String },
}

impl Scope {
    /// Fences what is covered and not yet fenced; gives how much is covered.
    pub(super) fn fence(&self, listeners: &mut [Listener], fence: &Fence) -> usize {
        let fence = Arc::new(fence.clone());
        let spots = match self {
            Scope::All => (0..listeners.len()).map(Spot::Listener).collect(),
            Scope::Port(port) => of_port(*port, listeners),
            Scope::Target { spots, .. } => spots.clone(),
        };
        for spot in &spots {
            fence_spot(*spot, listeners, &fence);
        }
        spots.len()
    }

    pub(super) fn show(&self) -> String {
        match self {
            Scope::All => "everything this gateway serves".into(),
            Scope::Port(port) => format!("everything on port {port}"),
            Scope::Target { name, .. } => name.clone(),
        }
    }
}

/// A port that is not ours may be one that Istio's Service would map to ours.
fn of_port(port: u16, listeners: &[Listener]) -> Vec<Spot> {
    let is_known = listeners.iter().any(|listener| has_port(listener, port));
    let listeners = listeners.iter().enumerate();
    let covered = listeners.filter(|(_, listener)| !is_known || has_port(listener, port));
    covered.map(|(index, _)| Spot::Listener(index)).collect()
}

/// Whether a listener is at a port, bound or declared.
pub(super) fn has_port(listener: &Listener, port: u16) -> bool {
    port == listener.addr.port() || port == listener.declared_port
}

/// Fences one place, unless it is already.
fn fence_spot(spot: Spot, listeners: &mut [Listener], fence: &Arc<Fence>) {
    let (index, host, route) = match spot {
        Spot::Listener(index) => (index, None, None),
        Spot::Unrouted(_) => return,
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
