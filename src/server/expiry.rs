//! Certificates that have expired or soon will, as findings. `compile` asks no clock, so they are
//! made here, anew with every plan and every hour.

use std::time::Duration;

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
            let validity = pair.validity();
            let left = validity.until - now;
            let (severity, message) = match left {
                ..=0 => (
                    Severity::Error,
                    format!(
                        "the certificate of {} has expired on {}; clients refuse it",
                        server.name,
                        day(validity.until)
                    ),
                ),
                1..=NOTICE => (
                    Severity::Warning,
                    format!(
                        "the certificate of {} expires on {}, in {} days",
                        server.name,
                        day(validity.until),
                        left / 86_400
                    ),
                ),
                _ if validity.from > now => (
                    Severity::Error,
                    format!(
                        "the certificate of {} is valid from {} on only; clients refuse it",
                        server.name,
                        day(validity.from)
                    ),
                ),
                _ => continue,
            };
            let finding = Finding::new(Code::CERTIFICATE_EXPIRES, message).severity(severity);
            findings.push(
                finding
                    .at(&server.origin)
                    .hint("renew it; the new one is taken up without a restart"),
            );
        }
    }
    findings.dedup();
    findings
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d").to_string())
        .unwrap_or_default()
}
