//! The hot walk: host, path index, then the few predicates left. Allocates nothing.
//!
//! (Two exceptions, both of one request's own making: repeated values of a header that a rule
//! tests, if they are longer than 256 bytes together, and a header that is not UTF-8 under a
//! regex.)

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::base::Origin;

use super::predicate::UriMatch;
use super::route::{Fence, Route};
use super::table::{Listener, VirtualHost};

/// A request as routing sees it: already normalised by `proxy::admit` (or `explain`).
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Host without port, lower case.
    pub host: &'a str,
    /// The authority as received.
    pub authority: &'a str,
    /// Normalised path without query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    pub headers: &'a HeaderMap,
    /// `x-forwarded-proto: https` came from a trusted hop.
    pub forwarded_https: bool,
}

/// What the plan says about a request.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'p> {
    Route {
        virtual_host: &'p Arc<VirtualHost>,
        route: &'p Route,
        index: u32,
    },
    /// A protection that covers the listener or host is not enforced.
    Fenced(&'p Fence),
    HttpsRedirect {
        virtual_host: &'p VirtualHost,
        server: &'p Origin,
    },
    /// The host is known, no rule matched: 404.
    NoRoute { virtual_host: &'p VirtualHost },
    /// 404.
    NoHost,
}

impl Listener {
    /// Decides a request. The same function serves traffic, `explain` and the tests.
    #[inline]
    pub fn decide<'p>(&'p self, request: &Request<'_>) -> Decision<'p> {
        if let Some(fence) = &self.fence {
            return Decision::Fenced(fence);
        }
        match self.virtual_host(request.host) {
            Some(virtual_host) => virtual_host.decide(request),
            None => Decision::NoHost,
        }
    }

    /// The virtual host of a lower-case host without port. The choice is final: a request that
    /// matches none of its rules does not fall through to a wildcard.
    #[inline]
    pub fn virtual_host(&self, host: &str) -> Option<&Arc<VirtualHost>> {
        self.virtual_hosts.get(self.hosts.find(host)? as usize)
    }
}

impl VirtualHost {
    #[inline]
    fn decide<'p>(self: &'p Arc<Self>, request: &Request<'_>) -> Decision<'p> {
        if let Some(fence) = &self.fence {
            return Decision::Fenced(fence);
        }
        if let Some(server) = &self.https_redirect
            && !request.forwarded_https
        {
            return Decision::HttpsRedirect {
                virtual_host: self,
                server,
            };
        }
        let found = self.paths.find(request.path, |number| {
            self.routes
                .get(number as usize)
                .is_some_and(|route| route.holds_beyond_text(request))
        });
        match found.and_then(|index| Some((index, self.routes.get(index as usize)?))) {
            Some((index, route)) => Decision::Route {
                virtual_host: self,
                route,
                index,
            },
            None => Decision::NoRoute { virtual_host: self },
        }
    }
}

impl Route {
    /// Whether all conditions hold.
    pub fn holds(&self, request: &Request<'_>) -> bool {
        self.uri.holds(request.path)
            && self
                .predicates
                .iter()
                .all(|predicate| predicate.holds(request))
    }

    /// The same for a route that the path index found: its exact or prefix text is known to fit.
    #[inline]
    fn holds_beyond_text(&self, request: &Request<'_>) -> bool {
        match &self.uri {
            UriMatch::Regex(regex) if !regex.is_match(request.path) => false,
            _ => self
                .predicates
                .iter()
                .all(|predicate| predicate.holds(request)),
        }
    }
}

#[cfg(test)]
mod tests;
