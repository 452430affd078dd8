//! The same walk as `decide`, with a reason for every rule that did not win.

use http::HeaderName;

use super::decide::{Decision, Request};
use super::predicate::{Predicate, StringMatch, UriMatch, header_value, query_value, target};
use super::route::Route;
use super::table::{Listener, VirtualHost};

/// A decision with everything that led to it.
#[derive(Debug)]
pub struct Explanation<'p> {
    pub decision: Decision<'p>,
    /// The virtual host the request's host selected.
    pub virtual_host: Option<&'p VirtualHost>,
    /// Routes of that host before the winner (all of them if none won), in order.
    pub losers: Vec<Loser<'p>>,
    /// Routes after the winner that would have matched, in order.
    pub shadowed: Vec<&'p Route>,
}

/// A route that did not match, and its first condition that failed.
#[derive(Debug)]
pub struct Loser<'p> {
    pub route: &'p Route,
    /// For example `uri.prefix "/api" does not start "/shop"`.
    pub failed: String,
}

impl Listener {
    /// Explains what [`Listener::decide`] does with a request. Slow; for people.
    ///
    /// Where no rule was asked (a fence, a redirect to https, an unknown host) there are no losers.
    pub fn why<'p>(&'p self, request: &Request<'_>) -> Explanation<'p> {
        let decision = self.decide(request);
        let virtual_host = self.virtual_host(request.host);
        let routes = virtual_host.map(|host| &*host.routes).unwrap_or_default();
        let (before, after) = match decision {
            Decision::Route { index, .. } => {
                let (before, rest) = routes
                    .split_at_checked(index as usize)
                    .unwrap_or((routes, &[]));
                (before, rest.get(1..).unwrap_or_default())
            }
            Decision::NoRoute { .. } => (routes, [].as_slice()),
            Decision::Fenced(_) | Decision::HttpsRedirect { .. } | Decision::NoHost => {
                Default::default()
            }
        };
        Explanation {
            decision,
            virtual_host: virtual_host.map(|host| &**host),
            losers: before
                .iter()
                .filter_map(|route| {
                    Some(Loser {
                        route,
                        failed: route.failed(request)?,
                    })
                })
                .collect(),
            shadowed: after
                .iter()
                .map(|route| &**route)
                .filter(|route| route.holds(request))
                .collect(),
        }
    }
}

impl Route {
    /// The first condition that does not hold, in the order in which `decide` tests them.
    pub fn failed(&self, request: &Request<'_>) -> Option<String> {
        if !self.uri.holds(request.path) {
            return Some(uri_failed(&self.uri, request.path));
        }
        let failed = self
            .predicates
            .iter()
            .find(|predicate| !predicate.holds(request))?;
        Some(predicate_failed(failed, request))
    }
}

fn uri_failed(uri: &UriMatch, path: &str) -> String {
    match uri {
        UriMatch::Prefix { .. } => format!("{uri} does not start {path:?}"),
        UriMatch::Regex(_) => format!("{uri} does not match {path:?}"),
        UriMatch::Any | UriMatch::Exact { .. } => format!("{uri} is not {path:?}"),
    }
}

fn predicate_failed(predicate: &Predicate, request: &Request<'_>) -> String {
    match predicate {
        Predicate::Method(_) => format!("{predicate} is not {:?}", request.method.as_str()),
        Predicate::MethodMatch(matcher) => text_failed(predicate, matcher, request.method.as_str()),
        Predicate::Scheme(matcher) => text_failed(predicate, matcher, request.scheme),
        Predicate::Authority(matcher) => text_failed(predicate, matcher, request.authority),
        Predicate::Target(matcher) => target(request, |text| {
            text_failed(predicate, matcher, &String::from_utf8_lossy(text))
        }),
        Predicate::Header { name, matcher } => match header_text(request, name) {
            Some(value) => text_failed(predicate, matcher, &value),
            None => format!("{predicate}: header is absent"),
        },
        Predicate::WithoutHeader { name, matcher } => match header_text(request, name) {
            Some(value) => excluded(predicate, matcher, &value),
            None => format!("{predicate}: header is absent, which counts as empty"),
        },
        Predicate::Query { name, matcher } => match query_value(request.query, name) {
            Some(value) => text_failed(predicate, matcher, value),
            None => format!("{predicate}: parameter is absent"),
        },
        Predicate::Unreadable { .. } => predicate.to_string(),
    }
}

fn header_text(request: &Request<'_>, name: &HeaderName) -> Option<String> {
    header_value(request.headers, name, |value| {
        Some(String::from_utf8_lossy(value?).into_owned())
    })
}

fn text_failed(predicate: &Predicate, matcher: &StringMatch, text: &str) -> String {
    let verb = match matcher {
        StringMatch::Prefix(_) => "does not start",
        StringMatch::Regex(_) => "does not match",
        StringMatch::Exact(_) | StringMatch::Present => "is not",
    };
    format!("{predicate} {verb} {text:?}")
}

fn excluded(predicate: &Predicate, matcher: &StringMatch, text: &str) -> String {
    match matcher {
        StringMatch::Exact(_) => format!("{predicate} is the header's value"),
        StringMatch::Prefix(_) => format!("{predicate} starts {text:?}"),
        StringMatch::Regex(_) => format!("{predicate} matches {text:?}"),
        StringMatch::Present => format!("{predicate}: the header is there, with {text:?}"),
    }
}

#[cfg(test)]
mod tests;
