//! What Istio refuses in a DestinationRule.

use std::collections::HashSet;

use crate::base::Findings;
use crate::base::quantity::parse_duration;
use crate::compile::gateway::tls::credentials::CONFIG_MAP;
use crate::model::istio::destination_rule::{
    ClientTls, ConnectionPool, ConsistentHash, DestinationRule, LoadBalancer, LocalityLb,
    OutlierDetection, TrafficPolicy,
};
use crate::model::{FieldPath, Object};

use super::fault;
use super::name::{check_export_to, host, is_label};

const BALANCERS: [&str; 6] = [
    "UNSPECIFIED",
    "LEAST_CONN",
    "LEAST_REQUEST",
    "RANDOM",
    "ROUND_ROBIN",
    "PASSTHROUGH",
];
const H2_UPGRADES: [&str; 3] = ["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"];
const TLS_MODES: [&str; 4] = ["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"];

/// Envoy's limit for a Maglev table.
const MAGLEV_LIMIT: u64 = 5_000_011;

/// Envoy's limit for the places of a ring.
const RING_LIMIT: u64 = 8 << 20;

/// Checks a DestinationRule.
pub(super) fn check(object: &Object, spec: &DestinationRule, findings: &mut Findings) {
    let mut check = Check { object, findings };
    if let Err(message) = host(&spec.host) {
        let path = FieldPath::spec().field("host");
        check.fault(&path, message, "write the name of a service");
    }
    check_export_to(object, &spec.export_to, check.findings);
    if let Some(policy) = &spec.traffic_policy {
        check.policy(&FieldPath::spec().field("trafficPolicy"), policy);
    }
    // Paths are made only where they are needed: there are thousands of sound subsets.
    let path = |index| FieldPath::spec().field("subsets").index(index);
    let mut names = HashSet::new();
    for (index, slot) in spec.subsets.iter().enumerate() {
        let Some(subset) = slot.good() else { continue };
        let name = subset.name.as_str();
        if !is_label(name) {
            let message = format!("`{name}` is not a subset name");
            let hint = "letters, digits and inner hyphens, at most 63";
            check.fault(&path(index).field("name"), message, hint);
        } else if !names.insert(name) {
            let message = format!("the subset `{name}` is defined twice; the first one counts");
            check.fault(
                &path(index).field("name"),
                message,
                "rename or remove one of them",
            );
        }
        if let Some(policy) = &subset.traffic_policy {
            check.policy(&path(index).field("trafficPolicy"), policy);
        }
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

    fn policy(&mut self, path: &FieldPath, policy: &TrafficPolicy) {
        // What could not be read is missing here without the block being empty.
        let readable = self.object.issues_under(path).next().is_none();
        if readable && *policy == TrafficPolicy::default() {
            self.fault(
                path,
                "the traffic policy is empty",
                "set a field, or remove it",
            );
        }
        if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
            let message = "tunnel and proxyProtocol exclude each other";
            self.fault(&path.field("proxyProtocol"), message, "keep one of them");
        }
        if let Some(proxied) = &policy.proxy_protocol {
            let path = path.field("proxyProtocol").field("version");
            self.one_of(&path, proxied.version.as_deref(), &["V1", "V2"]);
        }
        let budget = policy.retry_budget.as_ref();
        if let Some(percent) = budget.and_then(|budget| budget.percent)
            && !(0.0..=100.0).contains(&percent)
        {
            let path = path.field("retryBudget").field("percent");
            self.fault(&path, "it is not a percentage", "0 to 100");
        }
        self.balancer(path, policy.load_balancer.as_ref());
        self.pool(path, policy.connection_pool.as_ref());
        self.outliers(path, policy.outlier_detection.as_ref());
        self.tls(path, policy.tls.as_ref());
        for (index, slot) in policy.port_level_settings.iter().enumerate() {
            let Some(settings) = slot.good() else {
                continue;
            };
            let path = path.field("portLevelSettings").index(index);
            let number = settings
                .port
                .and_then(|port| port.number)
                .unwrap_or_default();
            if !(1..=65535).contains(&number) {
                let message = "port-level settings need a port";
                self.fault(
                    &path.field("port"),
                    message,
                    "add port.number, from 1 to 65535",
                );
            }
            self.balancer(&path, settings.load_balancer.as_ref());
            self.pool(&path, settings.connection_pool.as_ref());
            self.outliers(&path, settings.outlier_detection.as_ref());
            self.tls(&path, settings.tls.as_ref());
        }
    }

    fn balancer(&mut self, path: &FieldPath, balancer: Option<&LoadBalancer>) {
        let Some(balancer) = balancer else { return };
        let path = path.field("loadBalancer");
        self.one_of(
            &path.field("simple"),
            balancer.simple.as_deref(),
            &BALANCERS,
        );
        if balancer.simple.is_some() && balancer.consistent_hash.is_some() {
            let message = "simple and consistentHash exclude each other";
            self.fault(&path.field("consistentHash"), message, "keep one of them");
        }
        if let Some(hash) = &balancer.consistent_hash {
            self.hash(&path.field("consistentHash"), hash);
        }
        if let Some(locality) = &balancer.locality_lb_setting {
            self.locality(&path.field("localityLbSetting"), locality);
        }
        if let Some(warmup) = &balancer.warmup {
            let path = path.field("warmup");
            self.duration(&path.field("duration"), warmup.duration.as_deref(), false);
            if warmup
                .minimum_percent
                .is_some_and(|percent| !(0.0..=100.0).contains(&percent))
            {
                self.fault(
                    &path.field("minimumPercent"),
                    "it is no percentage",
                    "from 0 to 100",
                );
            }
            if warmup.duration.is_none() {
                let message = "a warm-up needs a duration";
                self.fault(&path.field("duration"), message, "for example 30s");
            }
            if warmup.aggression.is_some_and(|aggression| aggression < 1.0) {
                let message = "it is less than 1";
                self.fault(&path.field("aggression"), message, "1 is a straight line");
            }
        }
        let seconds = balancer.warmup_duration_secs.as_deref();
        self.duration(&path.field("warmupDurationSecs"), seconds, false);
    }

    fn hash(&mut self, path: &FieldPath, hash: &ConsistentHash) {
        let keys = [
            hash.http_header_name.is_some(),
            hash.http_cookie.is_some(),
            hash.use_source_ip == Some(true),
            hash.http_query_parameter_name.is_some(),
        ];
        match keys.iter().filter(|is_set| **is_set).count() {
            0 => self.fault(
                path,
                "it names nothing to hash by",
                "for example httpHeaderName",
            ),
            1 => {}
            _ => self.fault(
                path,
                "it names several things to hash by",
                "keep one of them",
            ),
        }
        let header = hash.http_header_name.as_deref();
        if header.is_some_and(|name| !is_header(name)) {
            let message = "it is not the name of a header";
            self.fault(&path.field("httpHeaderName"), message, "for example x-user");
        }
        let ring = hash
            .ring_hash
            .as_ref()
            .and_then(|ring| ring.minimum_ring_size);
        let sizes = [
            (path.field("minimumRingSize"), hash.minimum_ring_size),
            (path.field("ringHash").field("minimumRingSize"), ring),
        ];
        for (path, _) in sizes.iter().filter(|(_, size)| *size > Some(RING_LIMIT)) {
            let message = format!("a ring has at most {RING_LIMIT} places");
            self.fault(path, message, "for example 1024");
        }
        if hash.ring_hash.is_some() && hash.maglev.is_some() {
            let message = "ringHash and maglev exclude each other";
            self.fault(&path.field("maglev"), message, "keep one of them");
        }
        if let Some(cookie) = &hash.http_cookie {
            let path = path.field("httpCookie");
            if cookie.name.is_empty() {
                self.fault(
                    &path.field("name"),
                    "the cookie has no name",
                    "add its name",
                );
            } else if !is_token(&cookie.name) {
                let message = format!("`{}` is not the name of a cookie", cookie.name);
                self.fault(&path.field("name"), message, "letters, digits and hyphens");
            }
            let clean = |text: &str| !text.contains(|c: char| c == ';' || c.is_control());
            if !cookie.path.as_deref().is_none_or(clean) {
                self.fault(&path.field("path"), "it is not a path", "for example /");
            }
            for (index, slot) in cookie.attributes.iter().enumerate() {
                let Some(attribute) = slot.good() else {
                    continue;
                };
                let value = attribute.value.as_deref();
                if !is_token(&attribute.name) || !value.is_none_or(clean) {
                    let path = path.field("attributes").index(index);
                    let message = "it is not an attribute of a cookie";
                    self.fault(&path, message, "for example name SameSite, value Lax");
                }
            }
            self.duration(&path.field("ttl"), cookie.ttl.as_deref(), true);
        }
        let size = hash.maglev.as_ref().and_then(|maglev| maglev.table_size);
        // Zero means unset, as in every number of this block.
        let size = size.filter(|size| *size > 0);
        if let Some(size) = size.filter(|size| *size >= MAGLEV_LIMIT || !is_prime(*size)) {
            let message = format!("{size} is not a prime below {MAGLEV_LIMIT}");
            self.fault(
                &path.field("maglev").field("tableSize"),
                message,
                "for example 65537",
            );
        }
    }

    fn locality(&mut self, path: &FieldPath, locality: &LocalityLb) {
        let kinds = [
            !locality.distribute.is_empty(),
            !locality.failover.is_empty(),
        ];
        if kinds == [true, true] {
            let message = "distribute and failover exclude each other";
            self.fault(&path.field("failover"), message, "keep one of them");
        }
        for (index, slot) in locality.distribute.iter().enumerate() {
            let Some(distribute) = slot.good() else {
                continue;
            };
            let path = path.field("distribute").index(index);
            for (to, share) in &distribute.to {
                if !(1..=100).contains(share) {
                    let message = format!("the share of `{to}` is {share}");
                    self.fault(&path.field("to"), message, "from 1 to 100");
                }
            }
            let sum: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
            if sum != 100 {
                let message = format!("the shares add up to {sum}");
                self.fault(&path.field("to"), message, "make them 100 together");
            }
        }
        for (index, slot) in locality.failover.iter().enumerate() {
            let Some(failover) = slot.good() else {
                continue;
            };
            let path = path.field("failover").index(index);
            if failover.from == failover.to {
                let message = "a region cannot stand in for itself";
                self.fault(&path.field("to"), message, "name another region");
            }
            if failover.from.contains('*') || failover.to.contains('*') {
                let message = "failover goes from one region to another, without wildcards";
                self.fault(&path, message, "name both regions");
            }
        }
    }

    fn pool(&mut self, path: &FieldPath, pool: Option<&ConnectionPool>) {
        let Some(pool) = pool else { return };
        let path = path.field("connectionPool");
        let readable = self.object.issues_under(&path).next().is_none();
        if readable && pool.tcp.is_none() && pool.http.is_none() {
            self.fault(
                &path,
                "the connection pool is empty",
                "set tcp or http, or remove it",
            );
        }
        if let Some(tcp) = &pool.tcp {
            let path = path.field("tcp");
            self.not_negative(&path, &[("maxConnections", tcp.max_connections)]);
            self.duration(
                &path.field("connectTimeout"),
                tcp.connect_timeout.as_deref(),
                false,
            );
            let longest = tcp.max_connection_duration.as_deref();
            self.duration(&path.field("maxConnectionDuration"), longest, false);
            self.duration(
                &path.field("idleTimeout"),
                tcp.idle_timeout.as_deref(),
                true,
            );
            if let Some(keepalive) = &tcp.tcp_keepalive {
                let path = path.field("tcpKeepalive");
                self.duration(&path.field("time"), keepalive.time.as_deref(), false);
                self.duration(
                    &path.field("interval"),
                    keepalive.interval.as_deref(),
                    false,
                );
            }
        }
        if let Some(http) = &pool.http {
            let path = path.field("http");
            let numbers = [
                ("http1MaxPendingRequests", http.http1_max_pending_requests),
                ("http2MaxRequests", http.http2_max_requests),
                ("maxRequestsPerConnection", http.max_requests_per_connection),
                ("maxRetries", http.max_retries),
                ("maxConcurrentStreams", http.max_concurrent_streams),
            ];
            self.not_negative(&path, &numbers);
            self.duration(
                &path.field("idleTimeout"),
                http.idle_timeout.as_deref(),
                false,
            );
            if let Some(keep_alive) = &http.http2_keep_alive {
                let path = path.field("http2KeepAlive");
                self.duration(
                    &path.field("interval"),
                    keep_alive.interval.as_deref(),
                    false,
                );
                self.duration(&path.field("timeout"), keep_alive.timeout.as_deref(), false);
            }
            let upgrade = http.h2_upgrade_policy.as_deref();
            self.one_of(&path.field("h2UpgradePolicy"), upgrade, &H2_UPGRADES);
            if upgrade == Some("UPGRADE") && http.use_client_protocol == Some(true) {
                let message = "h2UpgradePolicy UPGRADE and useClientProtocol exclude each other";
                self.fault(
                    &path.field("useClientProtocol"),
                    message,
                    "keep one of them",
                );
            }
        }
    }

    fn outliers(&mut self, path: &FieldPath, outliers: Option<&OutlierDetection>) {
        let Some(outliers) = outliers else { return };
        let path = path.field("outlierDetection");
        self.duration(&path.field("interval"), outliers.interval.as_deref(), false);
        let base = outliers.base_ejection_time.as_deref();
        self.duration(&path.field("baseEjectionTime"), base, false);
        let percentages = [
            ("maxEjectionPercent", outliers.max_ejection_percent),
            ("minHealthPercent", outliers.min_health_percent),
        ];
        for (name, percent) in percentages {
            if percent.is_some_and(|percent| !(0..=100).contains(&percent)) {
                self.fault(&path.field(name), "it is no percentage", "from 0 to 100");
            }
        }
    }

    fn tls(&mut self, path: &FieldPath, tls: Option<&ClientTls>) {
        let Some(tls) = tls else { return };
        let path = path.field("tls");
        let mode = tls.mode.as_deref();
        self.one_of(&path.field("mode"), mode, &TLS_MODES);
        let is_set = |field: &Option<String>| field.as_deref().is_some_and(|it| !it.is_empty());
        let (certificate, key) = (is_set(&tls.client_certificate), is_set(&tls.private_key));
        let has_credential = is_set(&tls.credential_name);
        if mode == Some("MUTUAL") && !(certificate && key) && !has_credential {
            let message = "mode MUTUAL needs a client certificate and its key";
            let hint = "add clientCertificate and privateKey, or credentialName";
            self.fault(&path, message, hint);
        }
        let has_any = certificate || key || is_set(&tls.ca_certificates);
        if mode == Some("ISTIO_MUTUAL") && has_any {
            let message = "mode ISTIO_MUTUAL brings its own certificates";
            self.fault(&path, message, "remove the certificates");
        }
        if has_credential && has_any {
            let message = "credentialName and certificate files exclude each other";
            self.fault(&path.field("credentialName"), message, "keep one of them");
        }
        self.config_map(
            &path.field("credentialName"),
            tls.credential_name.as_deref(),
        );
        // Which of the two is meant cannot be known, and one of them verifies.
        let demands = is_set(&tls.ca_certificates)
            || !tls.subject_alt_names.is_empty()
            || (mode == Some("SIMPLE") && has_credential);
        let is_own = matches!(mode, Some("SIMPLE" | "MUTUAL"));
        if is_own && tls.insecure_skip_verify == Some(true) && demands {
            let message = "insecureSkipVerify excludes caCertificates, subjectAltNames and a CA's credentialName";
            let hint = "remove insecureSkipVerify to verify the origin, or the others not to";
            self.fault(&path.field("insecureSkipVerify"), message, hint);
        }
        if let Some(name) = tls.sni.as_deref().filter(|name| name.len() > 255) {
            let message = format!("a name of {} bytes is none", name.len());
            self.fault(&path.field("sni"), message, "at most 255 bytes");
        }
    }

    /// A CA in a ConfigMap, which must be the rule's own namespace's.
    fn config_map(&mut self, path: &FieldPath, credential: Option<&str>) {
        let Some(place) = credential.and_then(|name| name.strip_prefix(CONFIG_MAP)) else {
            return;
        };
        let object = self.object;
        let own = &object.key.namespace;
        let is_own = place.split_once('/').is_some_and(|(namespace, name)| {
            namespace == &**own && !name.is_empty() && !name.contains('/')
        });
        if !is_own {
            let hint = format!(
                "write configmap://{own}/NAME; a ConfigMap of another namespace is not read"
            );
            self.fault(
                path,
                format!("`{place}` is no ConfigMap of the rule's namespace"),
                hint,
            );
        }
    }

    fn one_of(&mut self, path: &FieldPath, value: Option<&str>, known: &[&str]) {
        if let Some(value) = value.filter(|value| !known.contains(value)) {
            let hint = format!("one of {}", known.join(", "));
            self.fault(path, format!("`{value}` is not known here"), hint);
        }
    }

    fn not_negative(&mut self, path: &FieldPath, fields: &[(&str, Option<i32>)]) {
        for (name, number) in fields {
            if number.is_some_and(|number| number < 0) {
                self.fault(&path.field(name), "it is negative", "0 means no limit");
            }
        }
    }

    fn duration(&mut self, path: &FieldPath, text: Option<&str>, allow_zero: bool) {
        if let Some(Err(message)) = text.map(|text| parse_duration(text, allow_zero)) {
            self.fault(path, message, "whole milliseconds, for example `1.5s`");
        }
    }
}

/// A name that a request can have as a header, or that Envoy shows as one.
fn is_header(name: &str) -> bool {
    matches!(name, ":authority" | ":path" | ":method") || is_token(name)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_prime(number: u64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests;
