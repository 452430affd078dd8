//! What Istio's validation refuses of DestinationRules, rule by rule.

use crate::base::Findings;
use crate::compile::pattern::Patterns;
use crate::compile::validate::check;
use crate::source::{LoadOptions, Loader};

/// Paths of the faults in a DestinationRule whose spec is given, indented by two.
fn faults(spec: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rule.yaml");
    let head = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
";
    std::fs::write(&file, format!("{head}{spec}")).unwrap();
    let inventory = Loader::new(vec![file], LoadOptions::default()).load();
    let object = &inventory.objects[0];
    assert_eq!(
        object.issues,
        [],
        "the manifest of the test itself is wrong"
    );
    let mut findings = Findings::new();
    check(object, &Patterns::default(), &mut findings);
    for finding in &findings {
        assert_eq!(finding.code.id, "IST0106");
        assert!(
            finding
                .origin
                .as_ref()
                .is_some_and(|origin| origin.position.line > 0)
        );
        assert!(!finding.hint.is_empty(), "{finding}");
    }
    findings.into_iter().map(|finding| finding.path).collect()
}

fn policy_faults(policy: &str) -> Vec<String> {
    faults(&format!("  host: reviews\n  trafficPolicy: {policy}"))
        .into_iter()
        .map(|path| path.replacen("spec.trafficPolicy", "~", 1))
        .collect()
}

#[test]
fn a_host_must_be_a_name_or_a_wildcard() {
    assert_eq!(faults("  host: ''"), ["spec.host"]);
    assert_eq!(faults("  host: 'a.*.com'"), ["spec.host"]);
    for host in ["reviews", "'*.local'", "'*'", "10.0.0.1"] {
        assert_eq!(faults(&format!("  host: {host}")), [""; 0], "{host}");
    }
}

#[test]
fn a_subset_name_must_be_a_label_and_its_own() {
    let spec = "  host: reviews
  subsets: [{name: v1}, {name: V_2}, {name: v1}, {labels: {a: b}}]";
    assert_eq!(
        faults(spec),
        [
            "spec.subsets[1].name",
            "spec.subsets[2].name",
            "spec.subsets[3].name"
        ]
    );
}

#[test]
fn an_empty_policy_or_pool_is_refused() {
    assert_eq!(policy_faults("{}"), ["~"]);
    assert_eq!(policy_faults("{connectionPool: {}}"), ["~.connectionPool"]);
}

#[test]
fn values_out_of_range_are_refused() {
    for (policy, path) in [
        ("{loadBalancer: {simple: FASTEST}}", "~.loadBalancer.simple"),
        (
            "{connectionPool: {tcp: {connectTimeout: 0s}}}",
            "~.connectionPool.tcp.connectTimeout",
        ),
        (
            "{connectionPool: {tcp: {maxConnections: -1}}}",
            "~.connectionPool.tcp.maxConnections",
        ),
        (
            "{connectionPool: {http: {http2KeepAlive: {interval: 0s}}}}",
            "~.connectionPool.http.http2KeepAlive.interval",
        ),
        (
            "{connectionPool: {http: {http2KeepAlive: {timeout: soon}}}}",
            "~.connectionPool.http.http2KeepAlive.timeout",
        ),
        ("{retryBudget: {percent: 101}}", "~.retryBudget.percent"),
        (
            "{connectionPool: {http: {h2UpgradePolicy: ALWAYS}}}",
            "~.connectionPool.http.h2UpgradePolicy",
        ),
        (
            "{outlierDetection: {maxEjectionPercent: 101}}",
            "~.outlierDetection.maxEjectionPercent",
        ),
        (
            "{outlierDetection: {interval: soon}}",
            "~.outlierDetection.interval",
        ),
        ("{tls: {mode: STRICT}}", "~.tls.mode"),
        ("{proxyProtocol: {version: V3}}", "~.proxyProtocol.version"),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}}",
            "~.loadBalancer.consistentHash.maglev.tableSize",
        ),
        (
            "{loadBalancer: {consistentHash: {httpCookie: {ttl: 0s}}}}",
            "~.loadBalancer.consistentHash.httpCookie.name",
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 60, b: 30}}]}}}",
            "~.loadBalancer.localityLbSetting.distribute[0].to",
        ),
        (
            "{loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}",
            "~.loadBalancer.localityLbSetting.failover[0].to",
        ),
        (
            "{loadBalancer: {localityLbSetting: {failover: [{from: '*', to: a}]}}}",
            "~.loadBalancer.localityLbSetting.failover[0]",
        ),
        (
            "{loadBalancer: {consistentHash: {httpHeaderName: 'x y'}}}",
            "~.loadBalancer.consistentHash.httpHeaderName",
        ),
        (
            "{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 8388609}}}",
            "~.loadBalancer.consistentHash.minimumRingSize",
        ),
        (
            "{loadBalancer: {consistentHash: {httpCookie: {name: 'a;b'}}}}",
            "~.loadBalancer.consistentHash.httpCookie.name",
        ),
        (
            "{loadBalancer: {consistentHash: {httpCookie: {name: a, path: '/;x'}}}}",
            "~.loadBalancer.consistentHash.httpCookie.path",
        ),
        (
            "{loadBalancer: {warmup: {aggression: 2}}}",
            "~.loadBalancer.warmup.duration",
        ),
        (
            "{loadBalancer: {warmup: {duration: 1s, aggression: 0}}}",
            "~.loadBalancer.warmup.aggression",
        ),
        (
            "{portLevelSettings: [{loadBalancer: {simple: RANDOM}}]}",
            "~.portLevelSettings[0].port",
        ),
    ] {
        assert_eq!(policy_faults(policy), [path], "{policy}");
    }
}

#[test]
fn fields_that_exclude_each_other_are_refused() {
    for (policy, path) in [
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            "~.connectionPool.http.useClientProtocol",
        ),
        (
            "{tunnel: {targetHost: a.com, targetPort: 1}, proxyProtocol: {version: V1}}",
            "~.proxyProtocol",
        ),
        ("{tls: {mode: MUTUAL, clientCertificate: /c.pem}}", "~.tls"),
        ("{tls: {mode: ISTIO_MUTUAL, privateKey: /k.pem}}", "~.tls"),
        (
            "{tls: {mode: SIMPLE, credentialName: c, caCertificates: /c.pem}}",
            "~.tls.credentialName",
        ),
        (
            "{tls: {mode: SIMPLE, credentialName: c, insecureSkipVerify: true}}",
            "~.tls.insecureSkipVerify",
        ),
        (
            "{tls: {mode: MUTUAL, credentialName: c, subjectAltNames: [a], insecureSkipVerify: true}}",
            "~.tls.insecureSkipVerify",
        ),
    ] {
        assert_eq!(policy_faults(policy), [path], "{policy}");
    }
}

#[test]
fn what_istio_accepts_has_no_fault() {
    for policy in [
        "{tls: {mode: MUTUAL, credentialName: c}}",
        "{tls: {mode: MUTUAL, credentialName: c, insecureSkipVerify: true}}",
        "{tls: {mode: SIMPLE, insecureSkipVerify: true}}",
        "{tls: {mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem}}",
        "{connectionPool: {tcp: {idleTimeout: 0s, maxConnections: 0}}}",
        "{loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 65537}}}}",
        "{portLevelSettings: [{port: {number: 80}, outlierDetection: {interval: 1s}}]}",
    ] {
        assert_eq!(policy_faults(policy), [""; 0], "{policy}");
    }
}
