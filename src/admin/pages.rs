//! Which page a path is, and what it says.

use std::collections::BTreeSet;

use http::Method;
use http::header::ACCEPT;
use http::request::Parts;
use serde::Serialize;

use crate::base::Severity;

use super::answer::Answer;
use super::explain::{Ask, explain};
use super::findings::Report;
use super::{Page, State, clusters, guard, routes};

const INDEX: &str = "\
Pingress, for the operator. Every page also as JSON: with .json, ?format=json or Accept: application/json.

/config             the serving plan, readiness, counts
/findings           what is wrong or worth knowing about the configuration
/routes             the effective routing table
/clusters           destinations with their endpoints (also /endpoints)
/explain?url=URL    what happens to a request, and why; also &method=POST, &header=name:%20value, &all=true
/stats/prometheus   metrics (also /metrics)
/healthz/ready      readiness (also /ready)
/healthz/live       answers 200 as long as the process answers at all
";

/// The state of the configuration.
#[derive(Serialize)]
struct Config<'a> {
    version: &'a str,
    ready: bool,
    not_ready_because: Option<&'a str>,
    plan: String,
    listeners: Vec<String>,
    hosts: usize,
    routes: usize,
    clusters: usize,
    errors: usize,
    warnings: usize,
    infos: usize,
}

/// Answers a request. May take as long as the plan is large: not on a thread that serves traffic.
pub(super) fn answer(page: Page, state: &State, request: &Parts) -> Answer {
    if page == Page::Admin
        && let Some(sentence) = guard::refuse(request, &state.hosts)
    {
        return Answer::text(403, format!("{sentence}\n"));
    }
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Answer::text(405, "these pages are only read: GET and HEAD\n");
    }
    let path = request.uri.path();
    match (page, path) {
        (_, "/healthz/ready") | (Page::Admin, "/ready") => ready(state),
        // Draining, or waiting for a manifest to be repaired, is no reason to be killed.
        (_, "/healthz/live") => Answer::text(200, "live\n"),
        (Page::Metrics | Page::Admin, "/stats/prometheus" | "/metrics") => {
            let upstreams = state.upstreams.clone();
            let of_clusters = std::iter::once_with(move || upstreams.metrics());
            Answer::metrics(state.observe.metrics().chain(of_clusters.map(Into::into)))
        }
        (Page::Admin, _) => operator(state, request, path),
        _ => Answer::text(404, "there is no such page\n"),
    }
}

fn ready(state: &State) -> Answer {
    match state.ready.obstacle() {
        None => Answer::text(200, "ready\n"),
        Some(obstacle) => Answer::text(503, format!("not ready: {obstacle}\n")),
    }
}

fn operator(state: &State, request: &Parts, path: &str) -> Answer {
    let query = Query::of(request);
    let (path, json) = match path.strip_suffix(".json") {
        Some(path) => (path, true),
        None => (path, query.json || accepts_json(request)),
    };
    match path {
        "/" | "" => Answer::text(200, INDEX),
        "/config" => config(state, json),
        "/findings" => {
            let findings = state.findings.load();
            if json {
                Answer::json(&Report::of(&findings))
            } else {
                Answer::text(200, Report::text(&findings))
            }
        }
        "/routes" => {
            let serving = state.serving.load();
            if json {
                Answer::json(&routes::json(&serving.plan))
            } else {
                Answer::text(200, routes::text(&serving.plan))
            }
        }
        "/clusters" | "/endpoints" => {
            let shown = clusters::shown(&state.upstreams);
            if json {
                Answer::json(&shown)
            } else {
                Answer::text(200, clusters::text(&shown))
            }
        }
        "/explain" => explanation(state, &query, json),
        _ => Answer::text(404, format!("there is no such page; there are:\n\n{INDEX}")),
    }
}

fn config(state: &State, json: bool) -> Answer {
    let serving = state.serving.load();
    let plan = &serving.plan;
    let findings = state.findings.load();
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let hosts = || {
        plan.listeners
            .iter()
            .flat_map(|listener| &listener.virtual_hosts)
    };
    let obstacle = state.ready.obstacle();
    let config = Config {
        version: env!("CARGO_PKG_VERSION"),
        ready: obstacle.is_none(),
        not_ready_because: obstacle,
        plan: plan.digest.to_string(),
        listeners: plan
            .addresses()
            .collect::<BTreeSet<_>>()
            .iter()
            .map(ToString::to_string)
            .collect(),
        hosts: hosts().count(),
        routes: hosts().map(|host| host.routes.len()).sum(),
        clusters: plan.clusters.len(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        infos: count(Severity::Info),
    };
    if json {
        return Answer::json(&config);
    }
    Answer::text(
        200,
        format!(
            "version    {}\nready      {}\nplan       {}\nlisteners  {}\nhosts      {}\nroutes     {}\nclusters   {}\n\
             findings   {} errors, {} warnings, {} notes\n",
            config.version,
            obstacle.map_or("yes".to_owned(), |obstacle| format!("no: {obstacle}")),
            config.plan,
            config.listeners.join(", "),
            config.hosts,
            config.routes,
            config.clusters,
            config.errors,
            config.warnings,
            config.infos,
        ),
    )
}

fn explanation(state: &State, query: &Query, json: bool) -> Answer {
    let Some(url) = &query.url else {
        return Answer::text(
            400,
            "say which URL: /explain?url=http%3A%2F%2Fshop.example.com%2Fcart\n",
        );
    };
    let method = query.method.as_deref().unwrap_or("GET");
    let serving = state.serving.load();
    let explained = Ask::new(url, method, &query.headers, query.all)
        .and_then(|ask| explain(&serving.plan, &**serving, &ask));
    match explained {
        Err(error) => Answer::text(400, format!("{error}\n")),
        Ok(explained) if json => Answer::json(&explained),
        Ok(explained) => Answer::text(200, explained.to_string()),
    }
}

fn accepts_json(request: &Parts) -> bool {
    request
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"))
}

/// The parameters the pages know.
#[derive(Default)]
struct Query {
    json: bool,
    url: Option<String>,
    method: Option<String>,
    headers: Vec<String>,
    all: bool,
}

impl Query {
    fn of(request: &Parts) -> Self {
        let mut query = Self::default();
        for (name, value) in
            form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes())
        {
            match &*name {
                "format" => query.json = value == "json",
                "url" => query.url = Some(value.into_owned()),
                "method" => query.method = Some(value.into_owned()),
                "header" => query.headers.push(value.into_owned()),
                "all" => query.all = matches!(&*value, "" | "1" | "true"),
                _ => {}
            }
        }
        query
    }
}
