//! The same walk as `decide`, with a reason for every rule that did not win.

use super::decide::{Decision, Request};
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
    /// For example `uri prefix "/api" is not a prefix of "/shop"`.
    pub failed: String,
}

impl Listener {
    /// Explains what [`Listener::decide`] does with a request. Slow; for people.
    pub fn why<'p>(&'p self, request: &Request<'_>) -> Explanation<'p> {
        Explanation { decision: self.decide(request), virtual_host: None, losers: Vec::new(), shadowed: Vec::new() }
    }
}
