//! Which servers of a Gateway carry a VirtualService's host, without trying them all.
//!
//! A host finds its servers through hash lookups: itself, each of its suffixes, `*`. Only a
//! wildcard host of a VirtualService looks through the server hosts it may cover.

use std::collections::HashMap;

use crate::base::HostPattern;

use super::{Server, ServerHost};

/// The hosts of one Gateway's servers.
#[derive(Debug, Default)]
pub(crate) struct Reach<'s> {
    exact: HashMap<&'s str, Vec<Place<'s>>, foldhash::fast::RandomState>,
    suffix: HashMap<&'s str, Vec<Place<'s>>, foldhash::fast::RandomState>,
    any: Vec<Place<'s>>,
}

#[derive(Clone, Copy, Debug)]
struct Place<'s> {
    server: usize,
    host: &'s ServerHost,
}

impl<'s> Reach<'s> {
    /// Indexes servers, whose indexes start at `first`.
    pub(crate) fn new(servers: &'s [Server<'_>], first: usize) -> Self {
        let mut reach = Self::default();
        for (offset, server) in servers.iter().enumerate() {
            for host in &server.hosts {
                let place = Place {
                    server: first + offset,
                    host,
                };
                match &host.pattern {
                    HostPattern::Exact(name) => reach.exact.entry(name).or_default().push(place),
                    HostPattern::Suffix(suffix) => {
                        reach.suffix.entry(suffix).or_default().push(place)
                    }
                    HostPattern::Any => reach.any.push(place),
                }
            }
        }
        reach
    }

    /// Calls `found` with each server that carries a host, and with the part of the host it
    /// carries: the more specific of both patterns.
    pub(crate) fn find(
        &self,
        host: &HostPattern,
        namespace: &str,
        mut found: impl FnMut(usize, &HostPattern),
    ) {
        let mut visit = |places: &[Place<'s>], narrow: bool| {
            for place in places {
                if place
                    .host
                    .namespace
                    .as_deref()
                    .is_none_or(|only| only == namespace)
                {
                    found(
                        place.server,
                        if narrow { &place.host.pattern } else { host },
                    );
                }
            }
        };
        let text: &str = match host {
            HostPattern::Exact(name) => {
                visit(
                    self.exact.get(&**name).map_or(&[][..], Vec::as_slice),
                    false,
                );
                name
            }
            HostPattern::Suffix(suffix) => suffix,
            HostPattern::Any => "",
        };
        for (at, _) in text.match_indices('.') {
            // `*.a.com` does not carry `a.com`: a name's own start is no suffix of it.
            if at == 0 && matches!(host, HostPattern::Exact(_)) {
                continue;
            }
            if let Some(places) = text.get(at..).and_then(|suffix| self.suffix.get(suffix)) {
                visit(places, false);
            }
        }
        visit(&self.any, false);
        if !host.is_wildcard() {
            return;
        }
        // What lies below this wildcard; its own equals were found above.
        for places in self.exact.values().chain(self.suffix.values()) {
            let Some(first) = places.first() else {
                continue;
            };
            if first.host.pattern != *host && host.covers(&first.host.pattern) {
                visit(places, true);
            }
        }
    }
}
