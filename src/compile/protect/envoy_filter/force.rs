//! Puts the local rate limits of all EnvoyFilters in force.
//!
//! As Envoy does it: a filter stands in a listener; a route's own configuration for the filter's
//! name comes before its virtual host's, and that before the filter's. Each place that has a
//! configuration has buckets of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::base::Code;
use crate::plan::{Guards, LimitId, Listener, PlacedLimit, Route};
use crate::policy::rate_limit::spec::{Announce, Limit, Manner, Part, RateLimit, Source};

use super::super::Guard;
use super::super::scope::{Scope, has_port};
use super::super::sheet::Spot;
use super::actions::{Entries, way};
use super::local::{Config, HostLimits};
use super::{Patch, What};

/// Values of a descriptor that are counted apart, where any value is one.
const KEYS: u32 = 65_536;

/// A filter in a listener, with the patch that put it there.
struct Filter<'p> {
    patch: usize,
    name: &'p str,
    is_front: bool,
    config: &'p Config,
}

/// A virtual host's or route's own, from one patch.
#[derive(Clone, Copy)]
struct Own<'p> {
    patch: usize,
    configs: &'p [(String, Config)],
    limits: &'p [Entries],
}

/// What is needed to make each limit once.
struct Force<'p, 'g, 'o, 'a> {
    patches: &'p [Patch<'a>],
    guard: &'g mut Guard<'o, 'a>,
    known: HashMap<(usize, String, Vec<usize>), LimitId>,
    /// The patches of tables, with the virtual hosts that they match.
    matched: Vec<(BTreeSet<Spot>, &'p What, Own<'p>)>,
    /// Patches that take part somewhere.
    used: Vec<bool>,
}

pub(in crate::compile::protect) fn put_in_force<'a>(
    guard: &mut Guard<'_, 'a>,
    mut patches: Vec<Patch<'a>>,
) {
    patches.sort_by_key(|patch| patch.rank);
    let mut force = Force {
        known: HashMap::new(),
        matched: matched(guard, &patches),
        used: vec![false; patches.len()],
        patches: &patches,
        guard,
    };
    for index in 0..force.guard.listeners.len() {
        force.listener(index);
    }
    let used = force.used;
    for (patch, is_used) in patches.iter().zip(used) {
        if !is_used {
            report(guard, patch);
        }
    }
}

/// Says of a patch that it takes no part.
fn report<'a>(guard: &mut Guard<'_, 'a>, patch: &Patch<'a>) {
    guard.object = patch.object;
    let path = patch.path();
    match &patch.what {
        What::Filter { .. } => {
            let message = "no listener has the port that it is for".to_owned();
            guard.note(Code::UNUSED_OBJECT, &path, message, "");
        }
        What::Table { table, limits, .. } => {
            let spots = table.hosts(guard.targets.gateways(), guard.listeners);
            if limits.is_empty() || spots.is_empty() {
                let message = "no virtual host or route that it is for has a filter of the name that it is for, so it has no effect, as in Envoy";
                let hint = "insert the filter with a patch of HTTP_FILTER";
                guard.note(Code::INERT_FIELD, &path, message.to_owned(), hint);
                return;
            }
            // Its limits may be meant for a filter that is not supported.
            let name = table.show();
            let what = "limits or authorizes and is not enforced yet: no local rate limit is inserted for it";
            guard.protect(&Scope::Target { spots, name }, &path, what);
        }
    }
}

impl<'p> Force<'p, '_, '_, '_> {
    fn listener(&mut self, index: usize) {
        let filters = self.filters(index);
        if filters.is_empty() {
            return;
        }
        let place = place(self.guard.listeners, index);
        for filter in &filters {
            self.used_by(filter.patch);
            let id = self.limit(filter.patch, filter.config, &place, &[]);
            self.add(Spot::Unrouted(index), filter, id);
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
                    let id = self.of_route(filter, &place, &host_place, &own, route, &of_route);
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
        place: &str,
        host_place: &str,
        host: &[Own<'p>],
        route: &Route,
        own: &[Own<'p>],
    ) -> Option<LimitId> {
        let config = |owns: &[Own<'p>]| {
            let named = |own: &Own<'p>| {
                let mut configs = own.configs.iter();
                let found = configs.find(|(name, _)| name == filter.name)?;
                Some((own.patch, &found.1))
            };
            owns.iter().rev().find_map(named)
        };
        let (patch, config, place) = if let Some((patch, config)) = config(own) {
            let conditions = route.conditions();
            let place = format!("{host_place} {} {} {conditions}", route.object, route.path);
            (patch, config, place)
        } else if let Some((patch, config)) = config(host) {
            (patch, config, host_place.to_owned())
        } else {
            (filter.patch, filter.config, place.to_owned())
        };
        self.used_by(patch);
        let has_own = own.iter().any(|own| !own.limits.is_empty());
        let takes_host = match config.host_limits {
            HostLimits::Override => !has_own,
            HostLimits::Include => true,
            HostLimits::Ignore => false,
        };
        let host = host.iter().filter(|_| takes_host);
        let sources: Vec<Own<'p>> = own.iter().chain(host).copied().collect();
        for own in sources.iter().filter(|own| !own.limits.is_empty()) {
            self.used_by(own.patch);
        }
        self.limit(patch, config, &place, &sources)
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
            sources.iter().map(|own| own.patch).collect(),
        );
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let path = patch.path();
        let id: Arc<str> = format!("{} {path}", patch.object.key).into();
        let entries: Vec<&Entries> = sources.iter().flat_map(|own| own.limits).collect();
        let apart = config.per_connection.then_some(Part::Each {
            source: Source::Connection,
            shared: true,
        });
        let mut limits = Vec::new();
        for descriptor in &config.descriptors {
            let ways = entries.iter().filter_map(|entries| {
                let way = way(descriptor, entries)?;
                Some(apart.iter().cloned().chain(way).collect())
            });
            let ways: Vec<Box<[Part]>> = ways.collect();
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
            }),
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
