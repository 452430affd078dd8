//! The services that global rate limits ask, and what they are told.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::registry::{Apart, DestinationRef, Registry, Resolved};
use crate::plan::{ClusterId, PlacedLimit};
use crate::policy::global::spec::{Descriptor, Service};
use crate::policy::rate_limit::spec::{Announce, Counted, Manner, RateLimit};

use super::super::scope::Scope;
use super::super::{Guard, steps};
use super::cluster::Added;
use super::global::Config;
use super::{Kind, Patch, What};

/// How the service of each filter is reached, by the filter's patch.
#[derive(Debug, Default)]
pub(super) struct Services(HashMap<usize, Reached>);

/// A service's cluster.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    id: ClusterId,
    name: Arc<str>,
    /// What the service is called, where nothing says otherwise.
    authority: Arc<str>,
}

impl Services {
    /// Finds the services of all filters. One that cannot be reached fences what its filter covers.
    pub(super) fn find<'a>(
        guard: &mut Guard<'_, 'a>,
        registry: &mut Registry<'_>,
        patches: &[Patch<'a>],
        used: &mut [bool],
    ) -> Self {
        let mut services = HashMap::new();
        for (number, patch) in patches.iter().enumerate() {
            let What::Filter {
                port,
                config: Kind::Global(config),
                ..
            } = &patch.what
            else {
                continue;
            };
            guard.object = patch.object;
            let path = patch.path();
            match reach(guard, registry, patches, config, &path, used) {
                Ok(reached) => {
                    services.insert(number, reached);
                }
                Err(wrong) => {
                    let scope = port.map_or(Scope::All, Scope::Port);
                    let what = format!("limits and is not enforced: {wrong}");
                    guard.protect(&scope, &path, &what);
                }
            }
        }
        Self(services)
    }

    /// The limit that a filter is for requests of which these descriptors are made, each with the
    /// patch that says so.
    pub(super) fn limit<'a>(
        &self,
        guard: &mut Guard<'_, 'a>,
        patches: &[Patch<'a>],
        number: usize,
        config: &Config,
        domain: &Arc<str>,
        items: Vec<(usize, Descriptor)>,
    ) -> Option<PlacedLimit> {
        let Reached {
            id,
            name,
            authority,
        } = self.0.get(&number)?;
        let mut origin_of = |number: usize| {
            let patch = patches.get(number)?;
            guard.object = patch.object;
            Some(guard.origin_of(&patch.path()))
        };
        let origins = items.iter().filter_map(|(patch, _)| origin_of(*patch));
        let origins = origins.collect();
        let origin = origin_of(number)?;
        let patch = patches.get(number)?;
        let own_authority = config.authority.as_deref().map(Arc::from);
        let service = Service {
            cluster: name.clone(),
            authority: own_authority.unwrap_or_else(|| authority.clone()),
            domain: domain.clone(),
            timeout: config.timeout,
            deny: config.deny,
            descriptors: items.into_iter().map(|(_, item)| item).collect(),
            marks: config.marks,
        };
        Some(PlacedLimit {
            policy: Arc::new(RateLimit {
                refusal: config.refusal.clone(),
                announce: Announce {
                    ietf: None,
                    x_ratelimit: config.x_ratelimit,
                },
                manner: Manner::Envoys,
                counted: Counted::Service(Box::new(service)),
                ..RateLimit::new(format!("{} {}", patch.object.key, patch.path()), [])
            }),
            origin,
            origins,
            service: Some(*id),
        })
    }
}

/// The cluster of a filter's service.
fn reach<'a>(
    guard: &mut Guard<'_, 'a>,
    registry: &mut Registry<'_>,
    patches: &[Patch<'a>],
    config: &Config,
    path: &str,
    used: &mut [bool],
) -> Result<Reached, String> {
    let name = &*config.cluster;
    let added = patches.iter().enumerate().find_map(|(number, patch)| {
        let What::Cluster(added) = &patch.what else {
            return None;
        };
        (added.name == name).then_some((number, patch, added))
    });
    if let Some((number, patch, added)) = added {
        if let Some(used) = used.get_mut(number) {
            *used = true;
        }
        return Ok(add(registry, patch, added));
    }
    // `outbound|8081||ratelimit.default.svc.cluster.local`, as Istio names it.
    let parts: Vec<&str> = name.splitn(4, '|').collect();
    let [_, port, subset, host] = *parts.as_slice() else {
        return Err(format!(
            "the cluster `{name}` is neither added by an EnvoyFilter nor one of a service"
        ));
    };
    let port = port
        .parse::<u16>()
        .map_err(|_| format!("the cluster `{name}` has no port"))?;
    let origin = guard.origin_of(path);
    let resolved = registry.resolve(
        &DestinationRef {
            host,
            subset: Some(subset),
            port: Some(port.into()),
            gateway_port: port,
            namespace: &guard.object.key.namespace,
            origin: &origin,
            object: &guard.object.key,
            path: &steps(path),
            consequence: "what its limit covers answers 503",
        },
        guard.findings,
    );
    match resolved {
        Resolved::Cluster(id) => Ok(Reached {
            id,
            name: name.into(),
            authority: format!("{host}:{port}").into(),
        }),
        Resolved::Missing { reason, .. } => Err(reason.to_string()),
        Resolved::Fenced(fence) => Err(fence.reason.to_string()),
    }
}

fn add(registry: &mut Registry<'_>, patch: &Patch<'_>, added: &Added) -> Reached {
    let id = registry.add(&Apart {
        name: added.name.as_str().into(),
        addresses: &added.addresses,
        is_logical: added.is_logical,
        connect_timeout: added.connect_timeout,
        origin: &patch.object.origin,
    });
    let authority = match added.addresses.as_slice() {
        [(host, port), ..] if host.contains(':') => format!("[{host}]:{port}"),
        [(host, port), ..] => format!("{host}:{port}"),
        [] => added.name.clone(),
    };
    Reached {
        id,
        name: added.name.as_str().into(),
        authority: authority.into(),
    }
}
