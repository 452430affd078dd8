//! Envoy's global rate limit, as a patch configures it.

use std::sync::Arc;
use std::time::Duration;

use crate::model::node::Node;
use crate::policy::rate_limit::spec::Refusal;

use super::super::Guard;
use super::actions::{self, Item, Place};
use super::local::{HostLimits, grpc_status, headers, host_limits, stage, status, x_ratelimit};
use super::node::{Fields, Wrong, get};

const GLOBAL: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimit";
const OF_ROUTE: &str = "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute";

/// Envoy's, for a filter that names none.
const TIMEOUT: Duration = Duration::from_millis(20);

/// Envoy's status for what could not be checked, where that is refused.
const ON_ERROR: u16 = 500;

/// A filter's configuration.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub domain: Arc<str>,
    /// Which of the `rate_limits` are this filter's.
    pub stage: u32,
    /// The service's.
    pub cluster: String,
    pub authority: Option<String>,
    pub timeout: Duration,
    /// The status for what could not be checked; `None` serves it.
    pub deny: Option<u16>,
    pub refusal: Refusal,
    pub x_ratelimit: bool,
    /// `x-envoy-ratelimited` is said.
    pub marks: bool,
}

/// What a virtual host or route has of its own.
#[derive(Clone, Debug)]
pub(super) struct OfRoute {
    pub host_limits: HostLimits,
    pub domain: Option<Arc<str>>,
    /// In place of all other `rate_limits`, if there are any.
    pub limits: Vec<Item>,
}

/// Whether an `Any` configures the filter.
pub(super) fn is_global(typed: &Node) -> bool {
    is(typed, GLOBAL)
}

/// Whether an `Any` is what a virtual host or route has for the filter.
pub(super) fn is_of_route(typed: &Node) -> bool {
    is(typed, OF_ROUTE)
}

fn is(typed: &Node, name: &str) -> bool {
    let kind = get(typed, "@type").and_then(Node::as_str);
    kind.is_some_and(|kind| kind.rsplit('/').next() == Some(name))
}

/// Reads a filter's configuration.
pub(super) fn read(node: &Node) -> Result<Config, Wrong> {
    let fields = Fields::read(
        node,
        "",
        &[
            "@type",
            "domain",
            "stage",
            "request_type",
            "timeout",
            "failure_mode_deny",
            "rate_limited_as_resource_exhausted",
            "rate_limit_service",
            "enable_x_ratelimit_headers",
            "disable_x_envoy_ratelimited_header",
            "rate_limited_status",
            "response_headers_to_add",
            "status_on_error",
            "stat_prefix",
        ],
    )?;
    let domain = fields.text("domain")?.unwrap_or_default();
    if domain.is_empty() {
        return Err("it has no `domain`, which Envoy refuses".into());
    }
    // Every request is external: what a client says about that is not believed.
    match fields.text("request_type")? {
        None | Some("" | "both" | "external") => {}
        Some(other) => return Err(format!("`request_type: {other}` is not supported")),
    }
    let Some(service) = fields.map(
        "rate_limit_service",
        &["grpc_service", "transport_api_version"],
    )?
    else {
        return Err("it has no `rate_limit_service`, which Envoy refuses".into());
    };
    match service.text("transport_api_version")? {
        None | Some("V3" | "AUTO" | "0" | "2") => {}
        Some(other) => return Err(format!("`transport_api_version: {other}` is not supported")),
    }
    let (cluster, authority, own_timeout) = grpc(&service)?;
    let denies = fields.boolean("failure_mode_deny")?.unwrap_or(false);
    let on_error = status(&fields, "status_on_error", ON_ERROR)?;
    Ok(Config {
        domain: domain.into(),
        stage: stage(&fields)?,
        cluster,
        authority,
        timeout: match (fields.duration("timeout")?, own_timeout) {
            (Some(timeout), _) | (None, Some(timeout)) => timeout,
            (None, None) => TIMEOUT,
        },
        deny: denies.then_some(on_error),
        refusal: Refusal {
            status: status(&fields, "rate_limited_status", 429)?,
            grpc_status: grpc_status(&fields)?,
            headers: headers(&fields)?,
            retry_after: false,
        },
        x_ratelimit: x_ratelimit(&fields)?,
        marks: !fields
            .boolean("disable_x_envoy_ratelimited_header")?
            .unwrap_or(false),
    })
}

/// Cluster, authority and timeout of a `grpc_service`.
fn grpc(service: &Fields<'_>) -> Result<(String, Option<String>, Option<Duration>), Wrong> {
    let place = service.place("grpc_service");
    let known = ["envoy_grpc", "google_grpc", "timeout"];
    let Some(grpc) = service.map("grpc_service", &known)? else {
        return Err(format!("`{place}` is missing"));
    };
    if grpc.get("google_grpc").is_some() {
        return Err(format!(
            "`{place}.google_grpc` is not supported; write `envoy_grpc` with the `cluster_name` of a \
             cluster that a CLUSTER patch adds, or `outbound|8081||host`"
        ));
    }
    let Some(envoy) = grpc.map("envoy_grpc", &["cluster_name", "authority"])? else {
        return Err(format!("`{place}.envoy_grpc` is missing"));
    };
    let text = |name| {
        let text = envoy.text(name)?.filter(|text| !text.is_empty());
        Ok::<_, Wrong>(text.map(str::to_owned))
    };
    let Some(cluster) = text("cluster_name")? else {
        return Err(format!("`{place}.envoy_grpc` has no cluster_name"));
    };
    let authority = text("authority")?;
    if let Some(authority) = &authority
        && authority.parse::<http::uri::Authority>().is_err()
    {
        return Err(format!("`{authority}` is no authority"));
    }
    Ok((cluster, authority, grpc.duration("timeout")?))
}

/// Reads what a virtual host or route has.
pub(super) fn read_of_route(guard: &Guard<'_, '_>, node: &Node) -> Result<OfRoute, Wrong> {
    let known = [
        "@type",
        "vh_rate_limits",
        "override_option",
        "domain",
        "rate_limits",
    ];
    let fields = Fields::read(node, "", &known)?;
    match fields.text("override_option")? {
        None | Some("DEFAULT" | "0") => {}
        Some(other) => return Err(format!("`override_option: {other}` is not supported")),
    }
    let domain = fields.text("domain")?.filter(|domain| !domain.is_empty());
    let mut limits = Vec::new();
    for (item, place) in fields.list("rate_limits")? {
        limits.push(actions::read(guard, item, &place, Place::Filter)?);
    }
    Ok(OfRoute {
        limits,
        host_limits: host_limits(&fields)?,
        domain: domain.map(Arc::from),
    })
}
