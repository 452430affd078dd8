//! One rule of `tcp` or `tls`: whether it holds for a server, and what it does.

use std::sync::Arc;

use crate::base::{Origin, Position};
use crate::compile::bind::Bound;
use crate::compile::damage::Fault;
use crate::compile::gateway::{Named, Server};
use crate::compile::registry::{DestinationRef, Resolved};
use crate::model::istio::virtual_service::TcpDestination;
use crate::model::{At, FieldPath, Object, Slot};
use crate::plan::{Fence, StreamAction, StreamDestination, StreamForward, StreamRoute, Target};

use super::Streaming;
use super::list::{Condition, List, Rule};

/// A match of a rule, as far as it counts at a gateway.
pub(super) struct Match<'m> {
    /// Its place in the rule; 0 if the rule has none.
    pub number: usize,
    pub origin: Origin,
    port: Option<u32>,
    gateways: &'m [String],
    /// `sniHosts`; `None` if there are none, or they cannot be read.
    pub names: Option<&'m [String]>,
}

impl<'m> Match<'m> {
    /// The matches of a rule. What cannot be read counts as matching.
    pub(super) fn of<R: Rule>(object: &Object, rule: &'m At<Slot<R>>) -> Vec<Self> {
        let matches = rule.good().map(Rule::matches);
        let Some(matches) = matches.filter(|matches| !matches.is_empty()) else {
            return vec![Self::everything(object, rule.position, 0)];
        };
        let read = matches
            .iter()
            .enumerate()
            .map(|(number, slot)| match slot.good() {
                Some(matched) => Self {
                    number,
                    origin: object.origin.at(slot.position),
                    port: matched.port().filter(|port| *port != 0),
                    gateways: matched.gateways(),
                    names: Some(matched.names()).filter(|names| !names.is_empty()),
                },
                None => Self::everything(object, slot.position, number),
            });
        read.collect()
    }

    fn everything(object: &Object, position: Position, number: usize) -> Self {
        Self {
            number,
            origin: object.origin.at(position),
            port: None,
            gateways: &[],
            names: None,
        }
    }
}

/// A rule about to be made a route.
pub(super) struct Written<'r> {
    object: &'r Object,
    list: List,
    index: usize,
    destinations: &'r [At<Slot<TcpDestination>>],
    fence: Option<Arc<Fence>>,
}

impl<'a> Streaming<'a, '_> {
    pub(super) fn holds(
        &self,
        matched: &Match<'_>,
        bound: &Bound<'_>,
        server: &Server<'_>,
        index: usize,
    ) -> bool {
        let own = &bound.object.key.namespace;
        let is_of = |name: &String| match self.gateways.find(name, own) {
            Named::Ours(gateway) if name != "mesh" => {
                let gateway = self.gateways.gateways.get(gateway);
                gateway.is_some_and(|gateway| gateway.servers.contains(&index))
            }
            _ => false,
        };
        matched
            .port
            .is_none_or(|port| port == u32::from(server.declared_port))
            && (matched.gateways.is_empty() || matched.gateways.iter().any(is_of))
    }

    pub(super) fn written<'r, R: Rule>(
        &self,
        bound: &Bound<'r>,
        index: usize,
        slot: &'r At<Slot<R>>,
    ) -> Written<'r> {
        let list = R::LIST;
        let destinations = slot.good().map(|rule| rule.route().as_slice());
        let object = bound.object;
        let printed = format!("spec.{}[{index}]", list.name());
        let damage = self.versions.damage(&object.key);
        let own = || damage?.under(&printed).next().map(Fault::fence);
        let unreadable = || {
            destinations.is_none().then(|| {
                Arc::new(Fence {
                    origin: object.origin.at(slot.position),
                    reason: "the rule cannot be read".into(),
                })
            })
        };
        Written {
            object,
            list,
            index,
            destinations: destinations.unwrap_or_default(),
            fence: bound.place.fence.clone().or_else(own).or_else(unreadable),
        }
    }

    /// The route of a rule for a server.
    pub(super) fn route(
        &mut self,
        rule: &Written<'_>,
        origin: Origin,
        server: &Server<'_>,
    ) -> StreamRoute {
        let fence = server.fence.as_ref().or(rule.fence.as_ref()).cloned();
        let forward = match fence {
            Some(fence) => Err(fence),
            None => self.forward(rule, server),
        };
        let route = StreamRoute {
            object: rule.object.key.clone(),
            path: format!("spec.{}[{}]", rule.list.name(), rule.index).into(),
            origin,
            access: Vec::new(),
            action: match forward {
                Ok(forward) => StreamAction::Forward(forward),
                Err(fence) => StreamAction::Fenced(fence),
            },
        };
        if let StreamAction::Fenced(fence) = &route.action {
            self.report_fence(&route, fence);
        }
        route
    }

    fn forward(
        &mut self,
        rule: &Written<'_>,
        server: &Server<'_>,
    ) -> Result<StreamForward, Arc<Fence>> {
        let count = rule.destinations.len();
        let path = FieldPath::spec().field(rule.list.name()).index(rule.index);
        let mut destinations = Vec::with_capacity(count);
        for (index, slot) in rule.destinations.iter().enumerate() {
            let origin = rule.object.origin.at(slot.position);
            let invalid = |reason: &str| {
                Arc::new(Fence {
                    origin: origin.clone(),
                    reason: reason.into(),
                })
            };
            let written = slot.good();
            let written = written.ok_or_else(|| invalid("a destination cannot be read"))?;
            let weight = u64::try_from(written.weight.unwrap_or(0))
                .map_err(|_| invalid("a weight is negative"))?;
            // Alone, the weight says nothing; among several, zero takes the destination out.
            let weight = if count == 1 { 1 } else { weight };
            if weight == 0 {
                continue;
            }
            let destination = written.destination.as_ref();
            let destination = destination.ok_or_else(|| invalid("a destination is missing"))?;
            let reference = DestinationRef {
                host: &destination.host,
                subset: destination.subset.as_deref().filter(|it| !it.is_empty()),
                port: destination
                    .port
                    .and_then(|port| port.number)
                    .filter(|number| *number != 0),
                gateway_port: server.declared_port,
                namespace: &rule.object.key.namespace,
                origin: &origin,
                object: &rule.object.key,
                path: &path.field("route").index(index).field("destination"),
                consequence: "its connections are closed",
            };
            let target = target(self.registry.resolve(&reference, self.findings))?;
            destinations.push(StreamDestination {
                target,
                weight,
                origin,
            });
        }
        if destinations.is_empty() {
            return Err(Arc::new(Fence {
                origin: rule.object.origin.clone(),
                reason: "no destination takes traffic".into(),
            }));
        }
        Ok(StreamForward {
            total_weight: destinations.iter().map(|it| it.weight).sum(),
            destinations,
        })
    }
}

/// The action that leads to one cluster.
pub(super) fn only(resolved: Resolved, origin: &Origin) -> StreamAction {
    match target(resolved) {
        Ok(target) => StreamAction::Forward(StreamForward {
            destinations: vec![StreamDestination {
                target,
                weight: 1,
                origin: origin.clone(),
            }],
            total_weight: 1,
        }),
        Err(fence) => StreamAction::Fenced(fence),
    }
}

fn target(resolved: Resolved) -> Result<Target, Arc<Fence>> {
    match resolved {
        Resolved::Cluster(id) => Ok(Target::Cluster(id)),
        Resolved::Missing { name, reason } => Ok(Target::Missing { name, reason }),
        Resolved::Fenced(fence) => Err(fence),
    }
}
