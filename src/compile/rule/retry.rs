//! What `retries` comes to: the rule's own, or the mesh's, over Istio's defaults.

use std::sync::Arc;

use crate::base::quantity::parse_duration;
use crate::base::{Code, Finding, Findings};
use crate::model::istio::virtual_service::{HttpRoute, Retry, StringMatch};
use crate::plan::{Condition, Conditions, RetryPolicy, RetrySource};

use super::Rule;

/// The policy of a rule; `None` if it never repeats.
///
/// # Errors
/// One sentence that says which value is wrong.
pub(super) fn of_rule(
    spec: &HttpRoute,
    mesh: &Option<Arc<RetryPolicy>>,
) -> Result<Option<Arc<RetryPolicy>>, String> {
    match spec.retries.as_deref() {
        None => Ok(mesh.clone()),
        Some(written) => Ok(read(written, RetrySource::Rule)?.map(Arc::new)),
    }
}

/// The policy that a mesh gives to rules without one.
///
/// # Errors
/// As [`of_rule`].
pub fn of_mesh(written: &Retry) -> Result<Option<Arc<RetryPolicy>>, String> {
    let policy = read(written, RetrySource::Mesh)?;
    Ok(policy.map(|policy| {
        let usual = RetryPolicy::default();
        let unsourced = RetryPolicy {
            source: usual.source,
            ..policy.clone()
        };
        Arc::new(if unsourced == usual { usual } else { policy })
    }))
}

fn read(written: &Retry, source: RetrySource) -> Result<Option<RetryPolicy>, String> {
    let retries = match u32::try_from(written.attempts.unwrap_or(0)) {
        Ok(0) => return Ok(None),
        Ok(retries) => retries,
        Err(_) => return Err("`attempts` of `retries` is negative".into()),
    };
    let mut policy = RetryPolicy {
        retries,
        source,
        ..RetryPolicy::default()
    };
    if let Some(text) = written.retry_on.as_deref().filter(|text| !text.is_empty()) {
        (policy.conditions, policy.statuses) = conditions(text)?;
    }
    if let Some(text) = &written.per_try_timeout {
        policy.per_try_timeout = Some(parse_duration(text, false)?);
    }
    if let Some(text) = &written.backoff {
        policy.backoff = parse_duration(text, false)?;
    }
    policy.avoid_previous = written.retry_ignore_previous_hosts.unwrap_or(true);
    policy.remote_localities = written.retry_remote_localities.unwrap_or(false);
    Ok(Some(policy))
}

/// Words and status codes; a code alone asks for `retriable-status-codes` as well.
fn conditions(text: &str) -> Result<(Conditions, Box<[u16]>), String> {
    let mut conditions = Conditions::default();
    let mut statuses = Vec::new();
    for word in text.split(',') {
        if let Some(condition) = Condition::parse(word) {
            conditions.insert(condition);
        } else if let Ok(status) = word.parse() {
            conditions.insert(Condition::StatusCodes);
            statuses.push(status);
        } else {
            return Err(format!("`{word}` is not a condition of `retryOn`"));
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    Ok((conditions, statuses.into_boxed_slice()))
}

/// Reports a written policy that may make an origin do the same work twice.
pub(super) fn report(rule: &Rule<'_>, printed: &str, findings: &mut Findings) {
    let Some(written) = rule.spec.retries.as_deref() else {
        return;
    };
    let Ok(Some(policy)) = read(written, RetrySource::Rule) else {
        return;
    };
    let repeating: Vec<&str> = policy.unsafe_conditions().map(Condition::as_str).collect();
    if repeating.is_empty() || !takes_unsafe_methods(rule.spec) {
        return;
    }
    let message = format!(
        "a POST or PATCH may be done twice: `retryOn` has {}, which also repeats a request that \
         an origin has worked on",
        repeating.join(",")
    );
    findings.push(
        Finding::new(Code::UNSAFE_RETRIES, message)
            .at(&rule.object.origin.at(rule.position))
            .of(&rule.object.key)
            .path(format!("{printed}.retries"))
            .hint(
                "give POST and PATCH a rule of their own with \
                 `retryOn: connect-failure,refused-stream,reset-before-request`, \
                 or ignore this if the origin tells repeated requests apart",
            ),
    );
}

/// Whether a request that must not be repeated can match.
fn takes_unsafe_methods(spec: &HttpRoute) -> bool {
    let is_safe = |method: &StringMatch| {
        method.exact.as_deref().is_some_and(|method| {
            matches!(
                method,
                "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"
            )
        })
    };
    spec.matches.is_empty()
        || spec.matches.iter().any(|slot| {
            slot.good()
                .is_none_or(|matching| !matching.method.as_ref().is_some_and(is_safe))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(attempts: i32, on: &str) -> Retry {
        Retry {
            attempts: Some(attempts),
            retry_on: Some(on.into()),
            ..Retry::default()
        }
    }

    #[test]
    fn gotcha_23_a_rule_without_retries_has_the_meshs_and_attempts_0_disables_them() {
        let mesh = Some(Arc::new(RetryPolicy::default()));
        let mut spec = HttpRoute::default();
        let policy = of_rule(&spec, &mesh).unwrap().unwrap();
        assert_eq!(
            policy.to_string(),
            "2 on connect-failure,refused-stream,retriable-status-codes,cancelled,unavailable, \
             backoff 25ms"
        );
        assert_eq!(of_rule(&spec, &None), Ok(None));
        for retries in [Retry::default(), written(0, "")] {
            spec.retries = Some(Box::new(retries));
            assert_eq!(of_rule(&spec, &mesh), Ok(None));
        }
    }

    #[test]
    fn written_fields_replace_istios_defaults_one_by_one() {
        let policy = read(&written(5, ""), RetrySource::Rule).unwrap().unwrap();
        let usual = RetryPolicy::default();
        assert_eq!((policy.retries, policy.conditions), (5, usual.conditions));
        let all = Retry {
            per_try_timeout: Some("2s".into()),
            backoff: Some("100ms".into()),
            retry_ignore_previous_hosts: Some(false),
            retry_remote_localities: Some(true),
            ..written(3, "gateway-error,503,418,503,reset")
        };
        let policy = read(&all, RetrySource::Rule).unwrap().unwrap();
        assert_eq!(
            policy.to_string(),
            "3 on gateway-error,reset,retriable-status-codes,418,503, each within 2s, \
             backoff 100ms, previous hosts not avoided, widening to remote localities"
        );
    }

    #[test]
    fn gotcha_24_a_space_in_retry_on_is_an_error() {
        for text in ["5xx, reset", "often", "-1", "70000", ","] {
            assert!(
                read(&written(1, text), RetrySource::Rule).is_err(),
                "{text}"
            );
        }
        assert!(read(&written(-1, ""), RetrySource::Rule).is_err());
    }

    #[test]
    fn a_mesh_that_says_what_istio_says_anyway_is_not_named_as_the_source() {
        let same = of_mesh(&written(2, "")).unwrap().unwrap();
        assert_eq!(*same, RetryPolicy::default());
        let other = of_mesh(&written(3, "")).unwrap().unwrap();
        assert_eq!(other.source, RetrySource::Mesh);
        assert_eq!(of_mesh(&written(0, "")), Ok(None));
    }
}
