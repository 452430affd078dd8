//! Which requests a policy of ours is for: `targetRef` as places in the listeners.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{HostPattern, Kind, ObjectKey};
use crate::compile::gateway::{Gateways, Named};
use crate::compile::version::Versions;
use crate::model::Object;
use crate::model::istio::VirtualService;
use crate::model::own::PolicyTarget;
use crate::plan::Listener;

use super::sheet::Spot;

/// Field path and place of each rule's routes, by the object that wrote it or delegates to it.
type Rules = HashMap<ObjectKey, Vec<(Arc<str>, Spot)>>;

/// What targets are looked up in.
pub(super) struct Targets<'a> {
    versions: &'a Versions,
    gateways: &'a Gateways<'a>,
    services: Option<HashMap<(&'a str, &'a str), &'a VirtualService>>,
    rules: Option<Rules>,
}

/// What a target comes to.
#[derive(Debug)]
pub(super) enum Found {
    /// Perhaps nothing, if none of it is served.
    Spots(Vec<Spot>),
    /// It is another gateway's.
    Foreign(String),
    Missing(String),
}

impl<'a> Targets<'a> {
    pub(super) fn new(versions: &'a Versions, gateways: &'a Gateways<'a>) -> Self {
        Self {
            versions,
            gateways,
            services: None,
            rules: None,
        }
    }

    pub(super) fn gateways(&self) -> &'a Gateways<'a> {
        self.gateways
    }

    /// The object that a policy's target names.
    pub(super) fn key(object: &Object, target: &PolicyTarget) -> ObjectKey {
        let namespace = target.namespace.as_deref();
        ObjectKey {
            kind: match target.kind.as_deref() {
                Some("Gateway") => Kind::Gateway,
                _ => Kind::VirtualService,
            },
            namespace: match namespace.filter(|namespace| !namespace.is_empty()) {
                Some(namespace) => namespace.into(),
                None => object.key.namespace.clone(),
            },
            name: target.name.as_str().into(),
        }
    }

    /// Whether connections that are not HTTP may be for a target.
    pub(super) fn has_streams(&self, key: &ObjectKey) -> bool {
        if key.kind == Kind::Gateway {
            let mut servers = self.gateways.servers.iter();
            return servers.any(|server| server.object.key == *key && !server.is_http());
        }
        let mut services = self.versions.virtual_services();
        services.any(|(_, object, spec)| {
            object.key == *key && !(spec.tls.is_empty() && spec.tcp.is_empty())
        })
    }

    pub(super) fn find(
        &mut self,
        key: &ObjectKey,
        section: Option<&str>,
        listeners: &[Listener],
    ) -> Found {
        match key.kind {
            Kind::Gateway => self.gateway(key, listeners),
            _ => self.rules(key, section, listeners),
        }
    }

    /// The hosts that a Gateway's servers carry, and whole listeners that are its alone.
    fn gateway(&self, key: &ObjectKey, listeners: &[Listener]) -> Found {
        let name = format!("{}/{}", key.namespace, key.name);
        match self.gateways.find(&name, &key.namespace) {
            Named::Missing => return Found::Missing(format!("the {key} does not exist")),
            Named::Other => return Found::Foreign(format!("the {key} is not this gateway's")),
            Named::Ours(_) => {}
        }
        let mut spots = Vec::new();
        for (index, listener) in listeners.iter().enumerate() {
            let all = self.gateways.servers.iter();
            let all = all.filter(|server| listener.origins.contains(&server.origin));
            let (own, other): (Vec<_>, Vec<_>) = all.partition(|server| server.object.key == *key);
            if own.is_empty() {
                continue;
            }
            if other.is_empty() {
                spots.push(Spot::Listener(index));
                continue;
            }
            let carries = |pattern: &HostPattern| {
                let mut hosts = own.iter().flat_map(|server| &server.hosts);
                hosts.any(|host| host.pattern.covers(pattern))
            };
            for (number, host) in listener.virtual_hosts.iter().enumerate() {
                if carries(&host.host) {
                    spots.push(Spot::Host(index, number));
                }
            }
        }
        Found::Spots(spots)
    }

    /// The rules of a VirtualService, or those of one name, with what they delegate to.
    fn rules(&mut self, key: &ObjectKey, section: Option<&str>, listeners: &[Listener]) -> Found {
        let versions = self.versions;
        let services = self.services.get_or_insert_with(|| {
            let all = versions.virtual_services();
            all.map(|(_, object, spec)| ((&*object.key.namespace, &*object.key.name), spec))
                .collect()
        });
        let Some(spec) = services.get(&(&*key.namespace, &*key.name)) else {
            return Found::Missing(format!("the {key} does not exist"));
        };
        let named = section.map(|section| {
            let rules = spec.http.iter().enumerate();
            let named = rules.filter(|(_, slot)| {
                slot.good().and_then(|rule| rule.name.as_deref()) == Some(section)
            });
            named
                .map(|(index, _)| format!("spec.http[{index}]"))
                .collect::<Vec<_>>()
        });
        if let (Some(section), Some([])) = (section, named.as_deref()) {
            return Found::Missing(format!("the {key} has no http rule named `{section}`"));
        }
        let rules = self.rules.get_or_insert_with(|| index(listeners));
        let all = rules.get(key).map(Vec::as_slice).unwrap_or_default();
        let is_meant = |path: &str| {
            let named = named.as_ref();
            named.is_none_or(|named| named.iter().any(|named| named == path))
        };
        let meant = all.iter().filter(|(path, _)| is_meant(path));
        Found::Spots(meant.map(|(_, spot)| *spot).collect())
    }
}

fn index(listeners: &[Listener]) -> Rules {
    let mut rules = Rules::new();
    let mut note = |object: &ObjectKey, path: &Arc<str>, spot: Spot| {
        let entry = (path.clone(), spot);
        match rules.get_mut(object) {
            Some(known) => known.push(entry),
            None => {
                rules.insert(object.clone(), vec![entry]);
            }
        }
    };
    for (index, listener) in listeners.iter().enumerate() {
        for (number, host) in listener.virtual_hosts.iter().enumerate() {
            for (place, route) in host.routes.iter().enumerate() {
                let spot = Spot::Route(index, number, place);
                note(&route.object, &route.path, spot);
                if let Some(via) = &route.via {
                    note(&via.object, &via.path, spot);
                }
            }
        }
    }
    rules
}
