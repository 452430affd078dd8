//! What becomes of the request: who gets it in which form, or what is answered instead.

use std::borrow::Cow;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use serde::Serialize;

use crate::base::{CauseKind, Origin};
use crate::plan::{
    Action, Cluster, ClusterId, Destination, Fence, Forward, Listener, Plan, Request, RetryPolicy,
    Route, Target,
};
use crate::policy::headers::spec::{HeaderEdit, HeaderEdits, TemplatePart};
use crate::policy::headers::{Substitutions, edit_request, edit_response};
use crate::policy::redirect::apply::{RedirectRequest, https_location, location};

use super::{Carried, EndpointSource, Members, PoliciesShown};

/// The end of the walk.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Sent to one of the destinations.
    Forward {
        timeout_ms: Option<u64>,
        /// What happens to failed attempts; `None` if nothing.
        retries: Option<Retries>,
        policies: Box<PoliciesShown>,
        destinations: Vec<Sent>,
    },
    /// The rule's redirect.
    Redirect {
        status: u16,
        location: String,
        response_headers: Edits,
    },
    /// The rule's own answer.
    DirectResponse {
        status: u16,
        body: String,
        response_headers: Edits,
    },
    /// `tls.httpsRedirect`.
    HttpsRedirect {
        status: u16,
        location: String,
        server: String,
    },
    /// Something could not be compiled, or a protection is not enforced.
    Fenced {
        status: u16,
        cause: &'static str,
        reason: String,
        origin: String,
    },
    /// No host or no rule.
    NotFound {
        status: u16,
        flags: &'static str,
        reason: String,
    },
    /// A connection that is not HTTP, sent to one of the destinations.
    Connection { destinations: Vec<Carried> },
    /// A connection that is not HTTP, closed at once.
    Closed {
        flags: &'static str,
        cause: &'static str,
        reason: String,
    },
    /// Refused before routing.
    Refused {
        status: u16,
        cause: &'static str,
        reason: String,
    },
}

/// What a destination gets.
#[derive(Debug, Serialize)]
pub struct Sent {
    pub weight: u64,
    /// Of this many.
    pub total_weight: u64,
    /// `outbound|port|subset|host`
    pub cluster: String,
    /// Absent if the destination does not exist.
    pub service: Option<String>,
    pub port: Option<u16>,
    pub subset: Option<String>,
    /// Host as the origin sees it.
    pub host: String,
    /// Path and query as the origin sees them.
    pub target: String,
    pub request_headers: Edits,
    pub response_headers: Edits,
    #[serde(flatten)]
    pub members: Members,
    /// Why it gets nothing.
    pub problem: Option<Problem>,
    /// The destination's line in the rule.
    pub origin: String,
    pub service_origin: Option<String>,
    pub policy_origin: Option<String>,
}

/// When a failed attempt is repeated.
#[derive(Debug, Serialize)]
pub struct Retries {
    /// Attempts after the first.
    pub attempts: u32,
    /// Conditions of `retryOn`, then status codes.
    pub on: Vec<String>,
    pub per_try_timeout_ms: Option<u64>,
    pub backoff_ms: u64,
    pub avoid_previous_hosts: bool,
    pub remote_localities: bool,
    /// Who asked for it: the rule, the mesh, or Istio's default.
    pub by: &'static str,
}

/// An answer of the gateway's own.
#[derive(Debug, Serialize)]
pub struct Problem {
    pub status: u16,
    pub flags: &'static str,
    pub cause: &'static str,
    pub reason: String,
}

/// What header edits come to. `%…%` stands where only the running request knows the value.
#[derive(Debug, Default, Serialize)]
pub struct Edits {
    pub set: Vec<Field>,
    pub removed: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Field {
    pub name: String,
    pub value: String,
}

impl Outcome {
    pub(super) fn of_route(
        plan: &Plan,
        endpoints: &dyn EndpointSource,
        listener: &Listener,
        route: &Route,
        request: &Request<'_>,
    ) -> Self {
        let received = received(request);
        let known = Known {
            request,
            route,
            cluster: None,
        };
        match &*route.action {
            Action::Forward(forward) => Self::Forward {
                timeout_ms: forward.timeout.map(millis),
                retries: forward.retry.as_deref().map(Retries::of),
                policies: Box::new(PoliciesShown::of(plan, &forward.policies)),
                destinations: forward
                    .destinations
                    .iter()
                    .map(|destination| Sent::of(plan, endpoints, forward, destination, &known))
                    .collect(),
            },
            Action::Redirect { redirect, response } => Self::Redirect {
                status: redirect.status,
                location: location(
                    redirect,
                    &RedirectRequest {
                        scheme: request.scheme,
                        authority: request.authority,
                        path_and_query: &target(request),
                        declared_port: listener.declared_port,
                    },
                ),
                response_headers: Edits::of_response(response, received.as_ref(), &known),
            },
            Action::Direct { response, edits } => Self::DirectResponse {
                status: response.status,
                body: String::from_utf8_lossy(&response.body).into_owned(),
                response_headers: Edits::of_response(edits, received.as_ref(), &known),
            },
            Action::Fenced(fence) => Self::of_fence(fence),
        }
    }

    pub(super) fn of_fence(fence: &Fence) -> Self {
        let kind = CauseKind::Fenced;
        Self::Fenced {
            status: kind.status(),
            cause: kind.code(),
            reason: fence.reason.to_string(),
            origin: fence.origin.to_string(),
        }
    }

    pub(super) fn of_https_redirect(request: &Request<'_>, server: &Origin) -> Self {
        Self::HttpsRedirect {
            status: CauseKind::HttpsRedirect.status(),
            location: https_location(request.authority, &target(request)),
            server: server.to_string(),
        }
    }
}

impl Sent {
    fn of(
        plan: &Plan,
        endpoints: &dyn EndpointSource,
        forward: &Forward,
        destination: &Destination,
        known: &Known<'_>,
    ) -> Self {
        let (id, cluster, missing) = match &destination.target {
            Target::Cluster(id) => (Some(*id), plan.cluster(*id), None),
            Target::Missing { name, reason } => (None, None, Some((name, reason))),
        };
        let known = Known {
            cluster: cluster.map(|cluster| &**cluster),
            ..*known
        };
        let members = id
            .zip(cluster)
            .map(|(id, cluster): (ClusterId, _)| endpoints.members(id, cluster))
            .unwrap_or_default();
        let problem = match missing {
            Some((_, reason)) => Some(Problem::of(CauseKind::ClusterNotFound, reason.to_string())),
            None => no_endpoint(&members),
        };
        let received = received(known.request);
        let wanted = forward
            .rewrite
            .authority
            .as_ref()
            .or(destination.authority.as_ref());
        let path = known.request.path;
        Self {
            weight: destination.weight,
            total_weight: forward.total_weight,
            cluster: match (cluster, missing) {
                (Some(cluster), _) => cluster.name.to_string(),
                (None, Some((name, _))) => name.to_string(),
                (None, None) => String::new(),
            },
            service: cluster.map(|cluster| cluster.host.to_string()),
            port: cluster.map(|cluster| cluster.port),
            subset: cluster
                .and_then(|cluster| cluster.subset.as_ref())
                .map(ToString::to_string),
            host: wanted.map_or_else(|| known.request.authority.to_owned(), shown),
            target: match &forward.rewrite.path {
                Some(rewrite) => rewrite.apply(path, known.request.query),
                None => target(known.request),
            },
            request_headers: Edits::of_request(&destination.request, received.as_ref(), &known),
            response_headers: Edits::of_response(&destination.response, received.as_ref(), &known),
            members,
            problem,
            origin: destination.origin.to_string(),
            service_origin: cluster
                .and_then(|cluster| cluster.origin.as_ref())
                .map(ToString::to_string),
            policy_origin: cluster
                .and_then(|cluster| cluster.policy_origin.as_ref())
                .map(ToString::to_string),
        }
    }
}

impl Retries {
    fn of(policy: &RetryPolicy) -> Self {
        let conditions = policy
            .conditions
            .iter()
            .map(|condition| condition.as_str().to_owned());
        let statuses = policy.statuses.iter().map(ToString::to_string);
        Self {
            attempts: policy.retries,
            on: conditions.chain(statuses).collect(),
            per_try_timeout_ms: policy.per_try_timeout.map(millis),
            backoff_ms: millis(policy.backoff),
            avoid_previous_hosts: policy.avoid_previous,
            remote_localities: policy.remote_localities,
            by: policy.source.as_str(),
        }
    }
}

impl Problem {
    pub(super) fn of(kind: CauseKind, reason: String) -> Self {
        Self {
            status: kind.status(),
            flags: kind.flag(),
            cause: kind.code(),
            reason,
        }
    }
}

/// UH, if it is certain that nobody takes the traffic.
pub(super) fn no_endpoint(members: &Members) -> Option<Problem> {
    let usable = members.endpoints.iter().any(|member| member.weight > 0);
    let unasked = members.names.iter().any(|name| name.addresses.is_none());
    (!usable && !unasked).then(|| {
        Problem::of(
            CauseKind::NoHealthyUpstream,
            "the cluster has no usable endpoint".into(),
        )
    })
}

impl Edits {
    fn of_request(
        edits: &HeaderEdits,
        received: Option<&RequestHeader>,
        known: &Known<'_>,
    ) -> Self {
        let Some(received) = received else {
            return Self::default();
        };
        let mut request = received.clone();
        edit_request(edits, &mut request, known);
        Self::between(edits, &request.headers)
    }

    fn of_response(
        edits: &HeaderEdits,
        received: Option<&RequestHeader>,
        known: &Known<'_>,
    ) -> Self {
        // Only the edits' own headers are read from it.
        let Ok(mut response) = ResponseHeader::build(200, None) else {
            return Self::default();
        };
        edit_response(edits, &mut response, received, known);
        Self::between(edits, &response.headers)
    }

    /// What the edits' headers hold afterwards.
    fn between(edits: &HeaderEdits, after: &HeaderMap) -> Self {
        let mut names: Vec<&HeaderName> = Vec::new();
        let mut removed: Vec<&HeaderName> = Vec::new();
        for edit in &edits.0 {
            let (HeaderEdit::Remove(name) | HeaderEdit::Set(name, _) | HeaderEdit::Add(name, _)) =
                edit;
            if !names.contains(&name) {
                names.push(name);
            }
            if matches!(edit, HeaderEdit::Remove(_)) {
                removed.push(name);
            }
        }
        let mut made = Self::default();
        for name in names {
            let values: Vec<String> = after.get_all(name).iter().map(shown).collect();
            if !values.is_empty() {
                made.set.push(Field {
                    name: name.to_string(),
                    value: values.join(", "),
                });
            } else if removed.contains(&name) {
                made.removed.push(name.to_string());
            }
        }
        made
    }
}

/// What an explanation knows of `%…%` substitutions.
#[derive(Clone, Copy)]
struct Known<'a> {
    request: &'a Request<'a>,
    route: &'a Route,
    cluster: Option<&'a Cluster>,
}

impl Substitutions for Known<'_> {
    fn value(&self, part: &TemplatePart) -> Option<Cow<'_, str>> {
        match part {
            TemplatePart::Request { name, .. } => {
                (name == ":scheme").then(|| self.request.scheme.into())
            }
            TemplatePart::RouteName => Some((&*self.route.name).into()),
            TemplatePart::UpstreamCluster => Some((&*self.cluster?.name).into()),
            TemplatePart::Text(_) | TemplatePart::Response { .. } => None,
            unknown => Some(format!("%{}%", unknown.operator()).into()),
        }
    }
}

/// The request as it came in, with its normalised target. `None` only if no request can have it.
fn received(request: &Request<'_>) -> Option<RequestHeader> {
    let mut head = RequestHeader::build(
        request.method.clone(),
        target(request).as_bytes(),
        Some(request.headers.len()),
    )
    .ok()?;
    for (name, value) in request.headers {
        head.append_header(name.clone(), value.clone()).ok()?;
    }
    if !request.headers.contains_key(HOST) {
        head.insert_header(HOST, request.authority).ok()?;
    }
    Some(head)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn target(request: &Request<'_>) -> String {
    match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    }
}

pub(super) fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
