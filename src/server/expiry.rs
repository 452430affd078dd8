//! Certificates that have expired or soon will, the servers' and those that origins are shown, as
//! findings. `compile` asks no clock, so they are
//! made here, anew with every plan and every hour.

use std::time::Duration;

use crate::base::tls_material::Validity;
use crate::base::{Code, Finding, Findings, Severity};
use crate::plan::Plan;

/// How long before its end a certificate is worth a warning.
const NOTICE: i64 = 30 * 86_400;

/// What is to be said at a time since the Unix epoch.
pub(super) fn findings(plan: &Plan, now: Duration) -> Findings {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut findings = Findings::new();
    for server in plan.tls.iter().flat_map(|socket| &socket.servers) {
        let Some(terms) = server.service.terms() else {
            continue;
        };
        for pair in &terms.pairs {
            let what = format!("the certificate of {}", server.name);
            let found = told(&what, "clients refuse it", pair.validity(), now);
            findings.extend(found.map(|finding| finding.at(&server.origin)));
        }
    }
    for cluster in plan.clusters.iter() {
        let tls = cluster.tls.as_ref();
        let Some(pair) = tls.and_then(|tls| tls.certificate.as_ref()) else {
            continue;
        };
        let what = format!("the client certificate for `{}`", cluster.host);
        let found = told(&what, "its origins may refuse it", pair.validity(), now);
        findings.extend(found.map(|finding| match &cluster.policy_origin {
            Some(origin) => finding.at(origin),
            None => finding,
        }));
    }
    findings.dedup();
    findings
}

/// What is to be said of one certificate.
fn told(what: &str, so: &str, validity: Validity, now: i64) -> Option<Finding> {
    let left = validity.until - now;
    let (severity, message) = match left {
        ..=0 => (
            Severity::Error,
            format!("{what} has expired on {}; {so}", day(validity.until)),
        ),
        1..=NOTICE => (
            Severity::Warning,
            format!(
                "{what} expires on {}, in {} days",
                day(validity.until),
                left / 86_400
            ),
        ),
        _ if validity.from > now => (
            Severity::Error,
            format!("{what} is valid from {} on only; {so}", day(validity.from)),
        ),
        _ => return None,
    };
    let finding = Finding::new(Code::CERTIFICATE_EXPIRES, message).severity(severity);
    Some(finding.hint("renew it; the new one is taken up without a restart"))
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_from_thirty_days_before_its_end_and_before_its_beginning() {
        const DAY: i64 = 86_400;
        let told_at = |now| {
            let validity = Validity {
                from: 10 * DAY,
                until: 100 * DAY,
            };
            let finding = told("x", "so", validity, now)?;
            Some((finding.severity, finding.message))
        };
        for (now, severity, said) in [
            (
                9 * DAY,
                Severity::Error,
                "x is valid from 1970-01-11 on only; so",
            ),
            (
                70 * DAY,
                Severity::Warning,
                "x expires on 1970-04-11, in 30 days",
            ),
            (
                100 * DAY - 1,
                Severity::Warning,
                "x expires on 1970-04-11, in 0 days",
            ),
            (
                100 * DAY,
                Severity::Error,
                "x has expired on 1970-04-11; so",
            ),
        ] {
            assert_eq!(told_at(now), Some((severity, said.to_owned())));
        }
        for now in [10 * DAY, 70 * DAY - 1] {
            assert_eq!(told_at(now), None);
        }
    }
}
