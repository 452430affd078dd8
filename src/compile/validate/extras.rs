//! What Istio refuses in the parts of a rule beside matching and routing: fault, mirror, CORS.

use crate::base::grpc;
use crate::base::quantity::parse_duration;
use crate::compile::rule::matching;
use crate::model::istio::Percent;
use crate::model::istio::virtual_service::{CorsPolicy, Fault};

use super::route::Check;

/// Conditions that `retryOn` takes beside status codes.
const RETRY_CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "refused-stream",
    "retriable-4xx",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

pub(super) fn is_retry_condition(text: &str) -> bool {
    RETRY_CONDITIONS.contains(&text)
        || (text.len() == 3
            && text
                .parse::<u16>()
                .is_ok_and(|code| (100..=599).contains(&code)))
}

pub(super) fn check(check: &mut Check<'_>) {
    let rule = check.rule;
    if rule.mirror.is_some() && !rule.mirrors.is_empty() {
        check.add(
            "mirrors",
            "a rule cannot have both `mirror` and `mirrors`",
            "keep `mirrors`",
        );
    }
    if rule.mirror_percent.is_some_and(|percent| percent > 100)
        || !is_percent(rule.mirror_percentage, 0.0)
    {
        check.add(
            "mirrorPercentage",
            "a percentage is not between 0 and 100",
            "",
        );
    }
    if let Some(mirror) = &rule.mirror {
        check.destination(mirror, |check| check.path().field("mirror"));
    }
    for (index, mirror) in rule.mirrors.iter().enumerate() {
        let Some(mirror) = mirror.good() else {
            continue;
        };
        match &mirror.destination {
            Some(destination) => {
                let path = |check: &Check<'_>| {
                    check
                        .path()
                        .field("mirrors")
                        .index(index)
                        .field("destination")
                };
                check.destination(destination, path);
            }
            None => check.add(
                "mirrors",
                "a mirror needs a destination",
                "add `destination: {host: …}`",
            ),
        }
        if !is_percent(mirror.percentage, 0.0) {
            check.add("mirrors", "a percentage is not between 0 and 100", "");
        }
    }
    if let Some(fault) = &rule.fault {
        check_fault(check, fault);
    }
    if let Some(policy) = &rule.cors_policy {
        check_cors(check, policy);
    }
}

/// Whether a percentage is in range; Envoy resolves no finer than `least`.
fn is_percent(percent: Option<Percent>, least: f64) -> bool {
    let value = percent.and_then(|percent| percent.value).unwrap_or(0.0);
    value == 0.0 || (value > 0.0 && value >= least && value <= 100.0)
}

fn check_fault(check: &mut Check<'_>, fault: &Fault) {
    if fault.delay.is_none() && fault.abort.is_none() {
        check.add("fault", "a fault needs `delay` or `abort`", "");
    }
    if let Some(delay) = &fault.delay {
        if !is_percent(delay.percentage, 0.0001)
            || delay
                .percent
                .is_some_and(|value| !(0..=100).contains(&value))
        {
            check.add(
                "fault",
                "a percentage is neither 0 nor between 0.0001 and 100",
                "",
            );
        }
        if let Some(Err(message)) = delay
            .fixed_delay
            .as_deref()
            .map(|text| parse_duration(text, false))
        {
            check.add("fault", message, "");
        }
        if delay.exponential_delay.is_some() {
            check.add(
                "fault",
                "`exponentialDelay` is not supported by Istio",
                "use `fixedDelay`",
            );
        }
    }
    if let Some(abort) = &fault.abort {
        if !is_percent(abort.percentage, 0.0001) {
            check.add(
                "fault",
                "a percentage is neither 0 nor between 0.0001 and 100",
                "",
            );
        }
        if let Some(status) = abort
            .http_status
            .filter(|status| !(200..=600).contains(status))
        {
            check.add(
                "fault",
                format!("the status {status} is not between 200 and 599"),
                "",
            );
        }
        if let Some(status) = abort
            .grpc_status
            .as_deref()
            .filter(|status| !grpc::STATUSES.contains(status))
        {
            check.add(
                "fault",
                format!("`{status}` is not a gRPC status"),
                "write for example UNAVAILABLE",
            );
        }
        if abort.http_status.is_some() && abort.grpc_status.is_some() {
            let message = "only one of `httpStatus` and `grpcStatus` may be set";
            check.add("fault", message, "keep one of them");
        }
        if abort.http2_error.is_some() {
            check.add(
                "fault",
                "`http2Error` is not supported by Istio",
                "use `httpStatus`",
            );
        }
    }
}

fn check_cors(check: &mut Check<'_>, policy: &CorsPolicy) {
    for origin in policy
        .allow_origins
        .iter()
        .filter_map(|origin| origin.good())
    {
        let is_empty = [&origin.exact, &origin.prefix, &origin.regex]
            .into_iter()
            .flatten()
            .all(String::is_empty);
        if is_empty {
            check.add(
                "corsPolicy",
                "an entry of `allowOrigins` is empty",
                "set `exact`, `prefix` or `regex`",
            );
        } else if let Err(message) = matching::text(origin, check.patterns) {
            check.add("corsPolicy", message, "");
        }
    }
    if let Some(method) = policy
        .allow_methods
        .iter()
        .find(|method| !METHODS.contains(&method.as_str()))
    {
        check.add("corsPolicy", format!("`{method}` is not a method"), "");
    }
    let names = policy.allow_headers.iter().chain(&policy.expose_headers);
    for name in names.filter(|name| *name != "*") {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            check.add("corsPolicy", format!("`{name}` is not a header name"), "");
        }
    }
    match policy
        .max_age
        .as_deref()
        .map(|text| parse_duration(text, false))
    {
        Some(Err(message)) => check.add("corsPolicy", message, ""),
        Some(Ok(age)) if age.subsec_nanos() != 0 => check.add(
            "corsPolicy",
            "`maxAge` is finer than a second",
            "write whole seconds",
        ),
        _ => {}
    }
    if let Some(text) = policy.unmatched_preflights.as_deref()
        && !matches!(text, "UNSPECIFIED" | "FORWARD" | "IGNORE")
    {
        check.add(
            "corsPolicy",
            format!("`{text}` is not FORWARD or IGNORE"),
            "",
        );
    }
}
