//! The hot walk: host, path index, then the few predicates left. Allocates nothing.

use http::{HeaderMap, Method};

use crate::base::Origin;

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
    Route { virtual_host: &'p VirtualHost, route: &'p Route, index: u32 },
    /// A protection that covers the listener or host is not enforced.
    Fenced(&'p Fence),
    HttpsRedirect { virtual_host: &'p VirtualHost, server: &'p Origin },
    /// The host is known, no rule matched: 404.
    NoRoute { virtual_host: &'p VirtualHost },
    /// 404.
    NoHost,
}

impl Listener {
    /// Decides a request. The same function serves traffic, `explain` and the tests.
    pub fn decide<'p>(&'p self, request: &Request<'_>) -> Decision<'p> {
        let _ = request;
        Decision::NoHost
    }
}
