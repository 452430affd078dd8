//! Puts the rate limits of all EnvoyFilters in force.
//!
//! As Envoy does it: a filter stands in a listener; a route's own configuration for the filter's
//! name comes before its virtual host's, and that before the filter's. Each place that has a
//! configuration has buckets of its own; what a service is asked depends on the route alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::plan::{Action, Guards, LimitId, Listener, PlacedLimit, Route};
use crate::policy::rate_limit::spec::{Announce, Counted, Limit, Manner, Part, RateLimit, Source};

use super::super::Guard;
use super::super::scope::has_port;
use super::super::sheet::Spot;
use super::actions::{Item, ways};
use super::local::{Config, HostLimits};
use super::service::Services;
use super::{Kind, OwnKind, Patch, What, global, unused};
use crate::compile::registry::Registry;

/// Values of a descriptor that are counted apart, where any value is one.
const KEYS: u32 = 65_536;

/// A filter in a listener, with the patch that put it there.
struct Filter<'p> {
    patch: usize,
    name: &'p str,
    is_front: bool,
    config: &'p Kind,
}

/// A virtual host's or route's own, from one patch.
#[derive(Clone, Copy)]
struct Own<'p> {
    patch: usize,
    configs: &'p [(String, OwnKind)],
    limits: &'p [Item],
}

/// Whose `rate_limits` hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    /// Those of a virtual host or route, by the patch.
    Table(usize),
    /// Those that a patch has for the filter alone.
    Filter(usize),
}

/// What is needed to make each limit once.
struct Force<'p, 'g, 'o, 'a> {
    patches: &'p [Patch<'a>],
    guard: &'g mut Guard<'o, 'a>,
    known: HashMap<(usize, String, Vec<Said>), LimitId>,
    /// The patches of tables, with the virtual hosts that they match.
    matched: Vec<(BTreeSet<Spot>, &'p What, Own<'p>)>,
    /// What global filters ask, by their patch.
    services: Services,
    /// Patches that take part somewhere.
    used: Vec<bool>,
}

pub(in crate::compile::protect) fn put_in_force<'a>(
    guard: &mut Guard<'_, 'a>,
    registry: &mut Registry<'_>,
    mut patches: Vec<Patch<'a>>,
) {
    patches.sort_by_key(|patch| patch.rank);
    let mut used = vec![false; patches.len()];
    let services = Services::find(guard, registry, &patches, &mut used);
    let mut force = Force {
        known: HashMap::new(),
        matched: matched(guard, &patches),
        services,
        used,
        patches: &patches,
        guard,
    };
    for index in 0..force.guard.listeners.len() {
        force.listener(index);
    }
    let used = force.used;
    unused::report(guard, &patches, &used);
}

impl<'p> Force<'p, '_, '_, '_> {
    fn listener(&mut self, index: usize) {
        let filters = self.filters(index);
        if filters.is_empty() {
            return;
        }
        let place = place(self.guard.listeners, index);
        for filter in &filters {
            // Nothing is asked about requests without a route.
            if let Kind::Local(config) = filter.config {
                self.used_by(filter.patch);
                let id = self.limit(filter.patch, config, &place, &[]);
                self.add(Spot::Unrouted(index), filter, id);
            }
        }
        let Some(listener) = self.guard.listeners.get(index) else {
            return;
        };
        let hosts = listener.virtual_hosts.clone();
        for (number, host) in hosts.iter().enumerate() {
            let at = Spot::Host(index, number);
            let matched = self.matched.iter();
            let of_host: Vec<(&What, Own<'p>)> = matched
                .filter(|(spots, ..)| spots.contains(&at))
                .map(|(_, what, own)| (*what, *own))
                .collect();
            let own: Vec<Own<'p>> = owns(&of_host, None);
            for (route_number, route) in host.routes.iter().enumerate() {
                let of_route = owns(&of_host, Some(route));
                for filter in &filters {
                    let spot = Spot::Route(index, number, route_number);
                    let host_place = format!("{place} {}", host.name);
                    let id = match filter.config {
                        Kind::Local(config) => {
                            let places = (&*place, &*host_place);
                            self.of_route(filter, config, places, &own, route, &of_route)
                        }
                        Kind::Global(config) => self.global(filter, config, &own, route, &of_route),
                    };
                    self.add(spot, filter, id);
                }
            }
        }
    }

    /// The filters of a listener, in their order.
    fn filters(&self, index: usize) -> Vec<Filter<'p>> {
        let mut filters: Vec<Filter<'p>> = Vec::new();
        for (number, patch) in self.patches.iter().enumerate() {
            let What::Filter {
                name,
                is_front,
                port,
                config,
            } = &patch.what
            else {
                continue;
            };
            let listeners = &*self.guard.listeners;
            let is_known = |port| listeners.iter().any(|listener| has_port(listener, port));
            let is_here = |port| {
                listeners
                    .get(index)
                    .is_some_and(|listener| has_port(listener, port))
            };
            if port.is_some_and(|port| is_known(port) && !is_here(port)) {
                continue;
            }
            let filter = Filter {
                patch: number,
                name,
                is_front: *is_front,
                config,
            };
            match is_front {
                true => filters.insert(0, filter),
                false => filters.push(filter),
            }
        }
        filters
    }

    /// The limit of a filter for a route's requests.
    fn of_route(
        &mut self,
        filter: &Filter<'p>,
        of_filter: &'p Config,
        (place, host_place): (&str, &str),
        host: &[Own<'p>],
        route: &Route,
        own: &[Own<'p>],
    ) -> Option<LimitId> {
        let config = |owns: &[Own<'p>]| {
            find(owns, filter.name, |own| match own {
                OwnKind::Local(config) => Some(&**config),
                OwnKind::Global(_) => None,
            })
        };
        let (patch, config, place) = if let Some((patch, config)) = config(own) {
            let conditions = route.conditions();
            let place = format!("{host_place} {} {} {conditions}", route.object, route.path);
            (patch, config, place)
        } else if let Some((patch, config)) = config(host) {
            (patch, config, host_place.to_owned())
        } else {
            (filter.patch, of_filter, place.to_owned())
        };
        self.used_by(patch);
        // As of no other, Envoy makes no descriptors of requests that it answers itself.
        let sources = match *route.action {
            Action::Forward(_) => sources(config.host_limits, host, own, config.stage),
            _ => Vec::new(),
        };
        for own in &sources {
            self.used_by(own.patch);
        }
        self.limit(patch, config, &place, &sources)
    }

    /// What the service of a filter is asked about a route's requests. Envoy asks about those that
    /// are sent on.
    fn global(
        &mut self,
        filter: &Filter<'p>,
        config: &'p global::Config,
        host: &[Own<'p>],
        route: &Route,
        own: &[Own<'p>],
    ) -> Option<LimitId> {
        let of_route = |owns: &[Own<'p>]| {
            find(owns, filter.name, |own| match own {
                OwnKind::Global(own) => Some(own),
                OwnKind::Local(_) => None,
            })
        };
        let own_config = of_route(own).or_else(|| of_route(host));
        if let Some((patch, _)) = own_config {
            self.used_by(patch);
        }
        let host_limits = own_config.map_or(HostLimits::Override, |(_, own)| own.host_limits);
        let (said, items) = match own_config.filter(|(_, own)| !own.limits.is_empty()) {
            Some((patch, own)) => {
                let items = own.limits.iter().map(|item| (patch, item.descriptor()));
                (vec![Said::Filter(patch)], items.collect::<Vec<_>>())
            }
            None => {
                let sources = sources(host_limits, host, own, config.stage);
                for own in &sources {
                    self.used_by(own.patch);
                }
                let items = sources.iter().flat_map(|own| {
                    let items = own.limits.iter();
                    let own_items = items.filter(|item| item.stage == config.stage);
                    own_items.map(|item| (own.patch, item.descriptor()))
                });
                let said = sources.iter().map(|own| Said::Table(own.patch));
                (said.collect(), items.collect())
            }
        };
        if said.is_empty() || !matches!(*route.action, Action::Forward(_)) {
            return None;
        }
        self.used_by(filter.patch);
        let domain = own_config.and_then(|(_, own)| own.domain.as_ref());
        let domain = domain.unwrap_or(&config.domain);
        let key = (filter.patch, domain.to_string(), said);
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let limit = self.services.limit(
            self.guard,
            self.patches,
            filter.patch,
            config,
            domain,
            items,
        )?;
        let id = self.guard.limit(limit);
        self.known.insert(key, id);
        Some(id)
    }

    fn used_by(&mut self, patch: usize) {
        if let Some(used) = self.used.get_mut(patch) {
            *used = true;
        }
    }

    /// The limit that a configuration is at a place, for requests that have these `rate_limits`.
    fn limit(
        &mut self,
        number: usize,
        config: &Config,
        place: &str,
        sources: &[Own<'p>],
    ) -> Option<LimitId> {
        let default = config.bucket?;
        let patch = self.patches.get(number)?;
        let key = (
            number,
            place.to_owned(),
            sources.iter().map(|own| Said::Table(own.patch)).collect(),
        );
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let path = patch.path();
        let id: Arc<str> = format!("{} {path}", patch.object.key).into();
        let items = || {
            sources
                .iter()
                .flat_map(|own| own.limits)
                .filter(|item| item.stage == config.stage)
        };
        let apart = config.per_connection.then_some(Part::Each {
            source: Source::Connection,
            shared: true,
        });
        let mut limits = Vec::new();
        for descriptor in &config.descriptors {
            let ways = items().flat_map(|item| ways(descriptor, item));
            let ways: Vec<Box<[Part]>> = ways
                .map(|way| apart.iter().cloned().chain(way).collect())
                .collect();
            if !ways.is_empty() {
                limits.push(Limit {
                    group: format!("{id} {place} descriptors[{}]", descriptor.index).into(),
                    bucket: descriptor.bucket,
                    ways: ways.into(),
                    keys: KEYS,
                    otherwise: false,
                });
            }
        }
        limits.push(Limit {
            group: format!("{id} {place}").into(),
            bucket: default,
            ways: Box::new([apart.into_iter().collect()]),
            keys: KEYS,
            otherwise: !config.always_default,
        });
        let origin = {
            self.guard.object = patch.object;
            self.guard.origin_of(&path)
        };
        let limit = PlacedLimit {
            origins: vec![origin.clone(); limits.len()].into(),
            origin,
            policy: Arc::new(RateLimit {
                id,
                limits: limits.into(),
                manner: Manner::Envoys,
                enabled: config.enabled,
                enforced: config.enforced,
                refusal: config.refusal.clone(),
                announce: Announce {
                    ietf: None,
                    x_ratelimit: config.x_ratelimit,
                },
                counted: Counted::Here,
            }),
            service: None,
        };
        let id = self.guard.limit(limit);
        self.known.insert(key, id);
        Some(id)
    }

    fn add(&mut self, spot: Spot, filter: &Filter<'_>, id: Option<LimitId>) {
        let Some(id) = id else {
            return;
        };
        let add = |guards: &mut Guards| match filter.is_front {
            true => guards.front.push(id),
            false => guards.back.push(id),
        };
        self.guard.sheets.add(self.guard.listeners, spot, add);
    }
}

/// What the last of the patches says for a filter of a name.
fn find<'p, T>(
    owns: &[Own<'p>],
    name: &str,
    kind: impl Fn(&'p OwnKind) -> Option<&'p T>,
) -> Option<(usize, &'p T)> {
    let named = |own: &Own<'p>| {
        let mut configs = own.configs.iter().filter(|(own, _)| own == name);
        Some((own.patch, configs.find_map(|(_, own)| kind(own))?))
    };
    owns.iter().rev().find_map(named)
}

/// Whose `rate_limits` of a stage hold for a route.
fn sources<'p>(
    host_limits: HostLimits,
    host: &[Own<'p>],
    own: &[Own<'p>],
    stage: u32,
) -> Vec<Own<'p>> {
    let has = |own: &&Own<'p>| own.limits.iter().any(|item| item.stage == stage);
    let takes_host = match host_limits {
        HostLimits::Override => !own.iter().any(|own| !own.limits.is_empty()),
        HostLimits::Include => true,
        HostLimits::Ignore => false,
    };
    let host = host.iter().filter(|_| takes_host);
    own.iter().chain(host).filter(has).copied().collect()
}

fn matched<'p>(
    guard: &Guard<'_, '_>,
    patches: &'p [Patch<'_>],
) -> Vec<(BTreeSet<Spot>, &'p What, Own<'p>)> {
    let patches = patches.iter().enumerate();
    let tables = patches.filter_map(|(patch, written)| {
        let What::Table {
            table,
            configs,
            limits,
            ..
        } = &written.what
        else {
            return None;
        };
        let hosts = table.hosts(guard.targets.gateways(), guard.listeners);
        let own = Own {
            patch,
            configs,
            limits,
        };
        Some((hosts.into_iter().collect(), &written.what, own))
    });
    tables.collect()
}

/// What a virtual host has of its own, or a route.
fn owns<'p>(matched: &[(&What, Own<'p>)], route: Option<&Route>) -> Vec<Own<'p>> {
    let is_of = |what: &What| match (what, route) {
        (What::Table { routes: None, .. }, None) => true,
        (
            What::Table {
                routes: Some(routes),
                ..
            },
            Some(route),
        ) => routes.is_of(route),
        _ => false,
    };
    let own = matched.iter().filter(|(what, _)| is_of(what));
    own.map(|(_, own)| *own).collect()
}

/// A listener's name: its address, with a number where several servers share it.
fn place(listeners: &[Listener], index: usize) -> String {
    let before = listeners.get(..index).unwrap_or_default();
    let Some(listener) = listeners.get(index) else {
        return String::new();
    };
    let same = before.iter().filter(|before| before.addr == listener.addr);
    match same.count() {
        0 => format!("at {}", listener.addr),
        count => format!("at {} ({})", listener.addr, count + 1),
    }
}
