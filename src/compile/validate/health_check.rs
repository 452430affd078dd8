//! What is wrong with a HealthCheckPolicy, and what its texts mean.

use std::ops::RangeInclusive;

use http::{HeaderName, HeaderValue, Uri};

use crate::base::Findings;
use crate::base::quantity::parse_duration;
use crate::model::own::health_check::{HealthCheckPolicy, HttpCheck, TargetRef};
use crate::model::{FieldPath, Object};

use super::fault;

const KINDS: [&str; 3] = ["Host", "Service", "ServiceEntry"];

/// Headers that have a field of their own, or that HTTP itself writes.
const RESERVED: [&str; 6] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
];

/// Checks a HealthCheckPolicy.
pub(super) fn check(object: &Object, spec: &HealthCheckPolicy, findings: &mut Findings) {
    let mut check = Check { object, findings };
    let path = FieldPath::spec();
    check.target(&spec.target_ref);
    for (name, text, allow_zero) in [
        ("interval", &spec.interval, false),
        ("timeout", &spec.timeout, false),
        ("jitter", &spec.jitter, true),
    ] {
        let read = text.as_deref().map(|text| parse_duration(text, allow_zero));
        if let Some(Err(message)) = read {
            check.fault(&path.field(name), message, "write for example `10s`");
        }
    }
    for (name, threshold) in [
        ("healthyThreshold", spec.healthy_threshold),
        ("unhealthyThreshold", spec.unhealthy_threshold),
    ] {
        if threshold == Some(0) {
            check.fault(&path.field(name), "0 probes decide nothing", "1 or more");
        }
    }
    let kinds = [spec.tcp.is_some(), spec.http.is_some(), spec.grpc.is_some()];
    // What could not be read is missing here without being so.
    let readable = object.issues_under(&path).next().is_none();
    if kinds.iter().filter(|is_set| **is_set).count() != 1 && readable {
        let message = "a policy has exactly one of tcp, http and grpc";
        check.fault(&path, message, "for the simplest one, write `tcp: {}`");
    }
    check.port(
        &path.field("tcp"),
        spec.tcp.as_ref().and_then(|tcp| tcp.port),
    );
    check.port(
        &path.field("grpc"),
        spec.grpc.as_ref().and_then(|grpc| grpc.port),
    );
    if let Some(http) = &spec.http {
        check.http(&path.field("http"), http);
    }
}

struct Check<'c> {
    object: &'c Object,
    findings: &'c mut Findings,
}

impl Check<'_> {
    fn fault(&mut self, path: &FieldPath, message: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(fault(self.object, path, message, hint));
    }

    fn target(&mut self, target: &TargetRef) {
        let path = FieldPath::spec().field("targetRef");
        let kind = target.kind.as_deref().unwrap_or_default();
        if !KINDS.contains(&kind) {
            let message = match kind {
                "" => "the target has no kind".to_owned(),
                kind => format!("`{kind}` is no kind of target"),
            };
            let hint = format!("one of {}", KINDS.join(", "));
            self.fault(&path.field("kind"), message, hint);
        }
        if target.name.is_empty() {
            let hint = "write whose endpoints are probed";
            self.fault(&path.field("name"), "the target has no name", hint);
        }
        if kind == "Host" && target.namespace.is_some() {
            let message = "a host has no namespace";
            let hint = "remove it, or write the kind that has one";
            self.fault(&path.field("namespace"), message, hint);
        }
        self.port(&path, target.port);
    }

    fn port(&mut self, path: &FieldPath, port: Option<u32>) {
        if port.is_some_and(|port| !(1..=65535).contains(&port)) {
            self.fault(&path.field("port"), "it is no port", "from 1 to 65535");
        }
    }

    fn http(&mut self, path: &FieldPath, http: &HttpCheck) {
        self.port(path, http.port);
        if let Some(target) = &http.path
            && !(target.starts_with('/') && target.parse::<Uri>().is_ok())
        {
            let message = format!("`{target}` is no path of a request");
            self.fault(&path.field("path"), message, "write for example `/healthz`");
        }
        if let Some(host) = &http.host
            && host.parse::<http::uri::Authority>().is_err()
        {
            let message = format!("`{host}` is no host");
            self.fault(
                &path.field("host"),
                message,
                "a name, with a port if need be",
            );
        }
        for (name, value) in &http.headers {
            let path = path.field("headers").field(name);
            let hint = "use letters, digits and hyphens";
            if name.parse::<HeaderName>().is_err() {
                self.fault(&path, format!("`{name}` is no header name"), hint);
            } else if RESERVED.contains(&&*name.to_ascii_lowercase()) {
                let message = format!("`{name}` cannot be set for a probe");
                let hint = "for the Host header, use the field host";
                self.fault(&path, message, hint);
            }
            if HeaderValue::from_str(value).is_err() {
                let hint = "one line of visible characters";
                self.fault(&path, "it is no header value", hint);
            }
        }
        for (index, slot) in http.expected_statuses.iter().enumerate() {
            if let Some(text) = slot.good()
                && statuses(&text.0).is_none()
            {
                let path = path.field("expectedStatuses").index(index);
                let message = format!("`{}` is no status and no range of them", text.0);
                self.fault(&path, message, "write for example `204` or `200-299`");
            }
        }
    }
}

/// What a status or a range of them means.
pub(crate) fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let number: u16 = text.trim().parse().ok()?;
        (200..600).contains(&number).then_some(number)
    };
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::statuses;

    #[test]
    fn a_status_is_a_number_or_a_range_and_final() {
        assert_eq!(statuses("204"), Some(204..=204));
        assert_eq!(statuses("200-299"), Some(200..=299));
        assert_eq!(statuses("200 - 204"), Some(200..=204));
        for text in [
            "", "-", "2xx", "299-200", "100", "600", "200-", "-1", "99999",
        ] {
            assert_eq!(statuses(text), None, "{text}");
        }
    }
}
