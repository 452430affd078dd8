//! What happens to a request, or to a connection, and why, as one value that prints as text and as
//! JSON.
//!
//! The admin endpoint explains with the serving plan and its live endpoints, `pingress explain`
//! with a plan compiled from files. Both ask the plan the same question that traffic asks
//! ([`crate::plan::Listener::why`]) and apply the same rewrites and header edits.

mod ask;
mod endpoints;
mod guard;
mod outcome;
mod policy;
mod stream;
mod text;

use serde::Serialize;

use crate::base::CauseKind;
use crate::plan::{Decision, HttpOptions, Listener, Plan, Request, Route, VirtualHost};
use crate::policy::path::{normalize, normalize_edge, split_target};

pub use super::clusters::{Member, Members, Name};
pub use ask::{Ask, AskError};
pub use endpoints::EndpointSource;
pub use guard::{GuardShown, LimitShown};
pub use outcome::{Edits, Field, Outcome, Problem, Retries, Sent};
pub use policy::{CorsShown, FaultShown, MirrorShown, PoliciesShown};
pub use stream::Carried;

/// How many rules that did not win are listed unless all are asked for.
const SHOWN: usize = 50;

/// How many host names are named when none matches.
const HOSTS_SHOWN: usize = 10;

/// The explanation of one request.
#[derive(Debug, Serialize)]
pub struct Explained {
    pub request: Asked,
    pub listener: ListenerShown,
    /// The virtual host that the request's host selected (`host:port`).
    pub virtual_host: Option<String>,
    /// What it must pass before that, in order.
    pub guards: Vec<GuardShown>,
    pub outcome: Outcome,
    /// The rule that won.
    pub rule: Option<Rule>,
    /// Rules before it that did not match, in order.
    pub losers: Vec<Loser>,
    pub losers_omitted: usize,
    /// Rules after it that match too.
    pub shadowed: Vec<Rule>,
    pub shadowed_omitted: usize,
}

/// The request as routing saw it.
#[derive(Debug, Serialize)]
pub struct Asked {
    pub url: String,
    pub method: String,
    pub authority: String,
    pub host: String,
    /// Normalised.
    pub path: String,
    /// As asked, if normalising changed it.
    pub received_path: Option<String>,
    pub query: Option<String>,
    pub scheme: String,
}

/// The socket the request came in by.
#[derive(Debug, Serialize)]
pub struct ListenerShown {
    pub address: String,
    /// The port the Gateways declare.
    pub port: u16,
    pub servers: Vec<String>,
}

/// A rule and where it is written.
#[derive(Debug, Serialize)]
pub struct Rule {
    pub name: String,
    pub object: String,
    pub path: String,
    pub origin: String,
    #[serde(rename = "match")]
    pub conditions: String,
}

/// A rule that did not match, with the first condition that did not hold.
#[derive(Debug, Serialize)]
pub struct Loser {
    #[serde(flatten)]
    pub rule: Rule,
    pub failed: String,
}

/// Explains a request, or a connection that is not HTTP.
///
/// # Errors
/// No listener of the plan has the URL's port.
pub fn explain(
    plan: &Plan,
    endpoints: &dyn EndpointSource,
    ask: &Ask,
) -> Result<Explained, AskError> {
    if let Some(explained) = stream::explain(plan, endpoints, ask)? {
        return Ok(explained);
    }
    let listener = ask.listener(plan)?;
    let seen = ask.seen(&plan.http);
    let (received_path, query) = split_target(ask.target());
    let mut explained = Explained {
        request: Asked {
            url: ask.url().to_owned(),
            method: ask.method().to_string(),
            authority: seen.authority.clone(),
            host: seen.host.clone(),
            path: received_path.to_owned(),
            received_path: None,
            query: query.map(ToOwned::to_owned),
            scheme: seen.scheme.to_owned(),
        },
        listener: ListenerShown {
            address: listener.addr.to_string(),
            port: listener.declared_port,
            servers: listener.origins.iter().map(ToString::to_string).collect(),
        },
        virtual_host: None,
        guards: Vec::new(),
        outcome: Outcome::Refused {
            status: 0,
            cause: "",
            reason: String::new(),
        },
        rule: None,
        losers: Vec::new(),
        losers_omitted: 0,
        shadowed: Vec::new(),
        shadowed_omitted: 0,
    };
    let path = match admitted(ask, received_path, &plan.http) {
        Ok(path) => path,
        Err((kind, reason)) => {
            explained.outcome = Outcome::Refused {
                status: kind.status(),
                cause: kind.code(),
                reason,
            };
            return Ok(explained);
        }
    };
    if path != received_path {
        explained.request.received_path = Some(received_path.to_owned());
        explained.request.path.clone_from(&path);
    }
    let request = Request {
        host: &seen.host,
        authority: &seen.authority,
        path: &path,
        query,
        method: ask.method(),
        scheme: seen.scheme,
        headers: &seen.headers,
        forwarded_https: seen.forwarded_https,
    };
    let why = listener.why(&request);
    explained.virtual_host = why.virtual_host.map(|host| host.name.to_string());
    explained.guards = guard::of(plan, listener, &why.decision, &seen.host);
    let limit = if ask.all() { usize::MAX } else { SHOWN };
    explained.losers_omitted = why.losers.len().saturating_sub(limit);
    explained.losers = why
        .losers
        .into_iter()
        .take(limit)
        .map(|loser| Loser {
            rule: Rule::of(loser.route),
            failed: loser.failed,
        })
        .collect();
    explained.shadowed_omitted = why.shadowed.len().saturating_sub(limit);
    explained.shadowed = why.shadowed.into_iter().take(limit).map(Rule::of).collect();
    explained.outcome = match why.decision {
        Decision::Route { route, .. } => {
            explained.rule = Some(Rule::of(route));
            Outcome::of_route(plan, endpoints, listener, route, &request)
        }
        Decision::Fenced(fence) => Outcome::of_fence(fence),
        Decision::HttpsRedirect { server, .. } => Outcome::of_https_redirect(&request, server),
        Decision::NoRoute { virtual_host } => not_found(no_route(virtual_host)),
        Decision::NoHost => not_found(no_host(listener, &seen.host)),
    };
    Ok(explained)
}

/// The normalised path, or why the request is refused before it is routed.
fn admitted(ask: &Ask, path: &str, options: &HttpOptions) -> Result<String, (CauseKind, String)> {
    if matches!(ask.method().as_str(), "TRACE" | "CONNECT") {
        return Err((
            CauseKind::MethodNotAllowed,
            "the method is not served".into(),
        ));
    }
    let normal = if options.edge {
        normalize_edge(path)
    } else {
        normalize(path, options.path_normalization)
    };
    match normal {
        Ok(path) => Ok(path.into_owned()),
        Err(reason) => Err((CauseKind::BadPath, reason.to_string())),
    }
}

fn not_found(reason: String) -> Outcome {
    let kind = CauseKind::RouteNotFound;
    Outcome::NotFound {
        status: kind.status(),
        flags: kind.flag(),
        reason,
    }
}

fn no_route(host: &VirtualHost) -> String {
    format!(
        "none of the {} rules of {} matches",
        host.routes.len(),
        host.name
    )
}

fn no_host(listener: &Listener, host: &str) -> String {
    let mut names: Vec<String> = listener
        .virtual_hosts
        .iter()
        .take(HOSTS_SHOWN)
        .map(|host| host.host.to_string())
        .collect();
    let more = listener.virtual_hosts.len().saturating_sub(HOSTS_SHOWN);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    if names.is_empty() {
        names.push("no host".into());
    }
    format!(
        "no Gateway serves the host {host:?} here; this listener serves {}",
        names.join(", ")
    )
}

impl Rule {
    fn of(route: &Route) -> Self {
        Self {
            name: route.name.to_string(),
            object: route.object.to_string(),
            path: route.path.to_string(),
            origin: route.origin.to_string(),
            conditions: route.conditions(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
