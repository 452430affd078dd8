//! The clusters that an AUTO_PASSTHROUGH server leads to: every service of the mesh whose host the
//! server carries, by port and subset.
//!
//! Clients name them in their handshake. The connection is TLS already, so these clusters
//! originate none, whatever a DestinationRule says, and are apart from those of rules.

use std::sync::Arc;

use crate::base::HostPattern;
use crate::plan::Fence;

use super::port::Speech;
use super::service::{Backing, Service};
use super::{Planned, Registry, Resolved, Use};

/// A server name, the service and subset it names, and their cluster.
struct Named<'a> {
    server_name: Arc<str>,
    asked: (usize, Option<Arc<str>>),
    planned: Result<Planned<'a>, Arc<Fence>>,
}

impl<'a> Registry<'a> {
    /// The server name of each cluster, and what it came to.
    pub(crate) fn passed_through(
        &mut self,
        carries: impl Fn(&HostPattern) -> bool,
    ) -> Vec<(Arc<str>, Resolved)> {
        let mut named = Vec::new();
        for (index, service) in self.services.iter().enumerate() {
            let host = HostPattern::parse(&service.host);
            if is_of_mesh(service) && host.is_some_and(|host| carries(&host)) {
                self.name_all(index, service, &mut named);
            }
        }
        let mut all = Vec::with_capacity(named.len());
        for Named {
            server_name,
            asked,
            planned,
        } in named
        {
            let is_new = self.passed.insert(server_name.clone(), asked).is_none();
            let resolved = match planned {
                Ok(planned) => {
                    let id = self.slots.take(&planned.cluster.name);
                    self.clusters.extend(is_new.then_some(planned));
                    Resolved::Cluster(id)
                }
                Err(fence) => Resolved::Fenced(fence),
            };
            all.push((server_name, resolved));
        }
        all
    }

    fn name_all(&self, index: usize, service: &Service<'a>, named: &mut Vec<Named<'a>>) {
        let rule = self.rule(index);
        let mut subsets: Vec<_> = rule.iter().flat_map(|rule| &rule.subsets).collect();
        subsets.sort_by_key(|(name, _)| **name);
        let whole = std::iter::once(None);
        for port in &service.ports {
            if port.speech == Speech::Datagram {
                continue;
            }
            for subset in whole.clone().chain(subsets.iter().map(Some)) {
                let name = subset.map(|(name, _)| **name);
                let chosen = subset.map(|(_, subset)| *subset);
                let planned = match &service.fence {
                    Some(fence) => Err(fence.clone()),
                    None => self.plan(index, service, port, rule, chosen, Use::PassedThrough),
                };
                named.push(Named {
                    server_name: server_name(&service.host, port.number, name),
                    asked: (index, name.map(Arc::from)),
                    planned,
                });
            }
        }
    }
}

fn is_of_mesh(service: &Service<'_>) -> bool {
    match service.backing {
        Backing::Kubernetes(_) => true,
        Backing::Alias(_) => false,
        // Unset is Istio's first value, MESH_EXTERNAL.
        Backing::Entry(spec) => spec.location.as_deref() == Some("MESH_INTERNAL"),
    }
}

/// Istio's name of a cluster where a client names it.
pub(super) fn server_name(host: &str, port: u16, subset: Option<&str>) -> Arc<str> {
    format!("outbound_.{port}_.{}_.{host}", subset.unwrap_or_default()).into()
}
