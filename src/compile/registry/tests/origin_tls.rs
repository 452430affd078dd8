//! TLS to origins: what a `tls` block comes to, what it needs, and what is said about it.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::plan::{OriginTls, ProxyVersion, ServerName};

use super::*;

/// A certificate that vouches for itself, and its key.
static OWN: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
});

fn secret(name: &str, keys: &[(&str, &str)]) -> String {
    let data: String = keys
        .iter()
        .map(|(key, text)| format!("  {key}: {}\n", STANDARD.encode(text)))
        .collect();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ndata:\n{data}"
    )
}

/// A rule for `reviews`, with Secrets: `ca`, `pair` and `both`.
fn with_rule(spec: &str) -> String {
    let (certificate, key) = &*OWN;
    let pair = [("tls.crt", certificate.as_str()), ("tls.key", key)];
    let authority = ("ca.crt", certificate.as_str());
    [
        service("reviews", "default", &["v1"]),
        rule("reviews", "default", spec),
        secret("ca", &[authority]),
        secret("pair", &pair),
        secret("both", &[pair[0], pair[1], authority]),
    ]
    .concat()
}

fn policy(tls: &str) -> String {
    with_rule(&format!(
        "  host: reviews\n  trafficPolicy: {{tls: {{{tls}}}}}"
    ))
}

fn tls(block: &str) -> OriginTls {
    let answers = answer(&policy(block), &[ask("reviews")]);
    OriginTls::clone(answers.cluster(0).tls.as_ref().unwrap())
}

fn fixed(name: &str) -> ServerName {
    ServerName::Fixed(name.into())
}

#[test]
fn each_mode_says_what_is_shown_and_what_is_demanded() {
    for (block, expected) in [
        (
            "mode: SIMPLE",
            "SNI of the request, certificates of the system's roots, for the request's host",
        ),
        (
            "mode: SIMPLE, credentialName: ca",
            "SNI of the request, certificates of 1 named authorities, for the request's host",
        ),
        (
            "mode: SIMPLE, credentialName: kubernetes://both",
            "SNI of the request, certificates of 1 named authorities, for the request's host",
        ),
        (
            "mode: SIMPLE, credentialName: ca, sni: a.com, subjectAltNames: [a.com, b.com]",
            "SNI a.com, certificates of 1 named authorities, for a.com or b.com",
        ),
        (
            "mode: SIMPLE, credentialName: ca, subjectAltNames: [a.com]",
            "SNI of the request, certificates of 1 named authorities, for a.com",
        ),
        (
            "mode: SIMPLE, credentialName: ca, sni: a.com",
            "SNI a.com, certificates of 1 named authorities",
        ),
        (
            "mode: SIMPLE, insecureSkipVerify: true",
            "SNI of the request, any certificate is accepted",
        ),
        (
            "mode: MUTUAL, credentialName: both",
            "SNI of the request, with a client certificate, certificates of 1 named authorities, for the request's host",
        ),
        (
            "mode: MUTUAL, credentialName: pair, insecureSkipVerify: true",
            "SNI of the request, with a client certificate, any certificate is accepted",
        ),
    ] {
        assert_eq!(tls(block).to_string(), expected, "{block}");
    }
}

#[test]
fn a_block_of_the_port_or_the_subset_replaces_the_rules() {
    let yaml = with_rule(
        "  host: reviews
  trafficPolicy:
    tls: {mode: SIMPLE, credentialName: ca, sni: rule.com, subjectAltNames: [a]}
    portLevelSettings:
    - {port: {number: 80}, tls: {mode: SIMPLE, credentialName: ca, sni: port.com, subjectAltNames: [a]}}
  subsets:
  - {name: own, trafficPolicy: {tls: {mode: SIMPLE, credentialName: ca, sni: subset.com, subjectAltNames: [a]}}}
  - {name: plain, trafficPolicy: {tls: {mode: DISABLE}}}
  - {name: inherits}",
    );
    let subsets = [None, Some("own"), Some("plain"), Some("inherits")];
    let asks = subsets.map(|subset| Ask {
        subset,
        ..ask("reviews")
    });
    let answers = answer(&yaml, &asks);
    let names: Vec<_> = (0..asks.len())
        .map(|index| {
            let tls = answers.cluster(index).tls.as_ref()?;
            Some(tls.server_name.clone())
        })
        .collect();
    let expected = [
        Some(fixed("port.com")),
        Some(fixed("subset.com")),
        None,
        Some(fixed("port.com")),
    ];
    assert_eq!(names, expected);
    // One that says nothing of TLS takes it away from its port.
    let none = yaml.replace(
        "tls: {mode: SIMPLE, credentialName: ca, sni: port.com, subjectAltNames: [a]}",
        "outlierDetection: {interval: 1s}",
    );
    assert_eq!(answer(&none, &asks[..1]).cluster(0).tls, None);
}

#[test]
fn mesh_certificates_come_from_the_settings_and_have_the_meshs_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let block = format!(
        "mode: MUTUAL, clientCertificate: '{}', privateKey: '{}', caCertificates: '{}'",
        path("own.crt"),
        path("own.key"),
        path("own.crt")
    );
    std::fs::write(path("own.crt"), &OWN.0).unwrap();
    std::fs::write(path("own.key"), &OWN.1).unwrap();
    let by_files = tls(&block);
    assert!(by_files.certificate.is_some());
    // Not where they are looked for unless the settings say so.
    let mesh = "mode: ISTIO_MUTUAL";
    let answers = answer(&policy(mesh), &[ask("reviews")]);
    let reason = &answers.fence(0).reason;
    assert!(reason.contains("gateway.workloadCertificates"), "{reason}");
    let finding = answers.finding("PGR0201");
    assert_eq!(finding.path, "spec.trafficPolicy.tls.mode");
}

#[test]
fn what_cannot_be_had_fences_its_traffic_and_no_other() {
    for (block, code, path, said) in [
        (
            "mode: SIMPLE, credentialName: nowhere",
            "IST0101",
            "credentialName",
            "no Secret `nowhere-cacert` or `nowhere` in the namespace `istio-system` holds a CA",
        ),
        (
            "mode: MUTUAL, credentialName: nowhere",
            "IST0101",
            "credentialName",
            "there is no Secret `nowhere`",
        ),
        (
            "mode: MUTUAL, credentialName: ca",
            "PGR0201",
            "credentialName",
            "it holds no certificate",
        ),
        (
            "mode: MUTUAL, credentialName: pair",
            "IST0101",
            "credentialName",
            "holds a CA",
        ),
        (
            "mode: SIMPLE, caCertificates: /nowhere.pem",
            "PGR0201",
            "",
            "`/nowhere.pem`, named as `caCertificates`, cannot be read",
        ),
        (
            "mode: SIMPLE, credentialName: ca, caCrl: /nowhere.crl",
            "PGR0201",
            "credentialName",
            "`/nowhere.crl`, named as `caCrl`, cannot be read",
        ),
    ] {
        let yaml = with_rule(&format!(
            "  host: reviews
  trafficPolicy: {{tls: {{{block}}}}}
  subsets:
  - {{name: plain, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}"
        ));
        let answers = answer(&yaml, &[ask("reviews"), ask("reviews").subset("plain")]);
        let reason = &answers.fence(0).reason;
        assert!(reason.contains(said), "{block}: {reason}");
        assert_eq!(answers.cluster(1).tls, None);
        let finding = answers.finding(code);
        let path = ["spec.trafficPolicy.tls", path].join(".");
        assert_eq!(finding.path, path.trim_end_matches('.'), "{block}");
        assert!(finding.message.contains(said), "{}", finding.message);
        assert!(
            finding.message.ends_with("answers 503"),
            "{}",
            finding.message
        );
        assert!(!finding.hint.is_empty());
    }
}

#[test]
fn no_setting_makes_a_rule_with_tls_send_plain_text() {
    let options = Options {
        accept_unenforced: vec!["DestinationRule".into()],
        ..Options::default()
    };
    let broken = policy("mode: SIMPLE, credentialName: nowhere");
    let answers = answer_with(&options, &broken, &[ask("reviews")]);
    assert!(answers.fence(0).reason.contains("nowhere"));
    let sound = policy("mode: SIMPLE, credentialName: ca");
    let answers = answer_with(&options, &sound, &[ask("reviews")]);
    assert!(answers.cluster(0).tls.is_some());
}

#[test]
fn what_has_no_effect_and_what_is_not_verified_is_said() {
    for (block, code, path) in [
        ("mode: DISABLE, sni: a.com", "PGR0202", "sni"),
        ("sni: a.com", "PGR0202", "sni"),
        (
            "mode: SIMPLE, clientCertificate: /c.pem",
            "PGR0202",
            "clientCertificate",
        ),
        (
            "mode: SIMPLE, insecureSkipVerify: true, caCrl: /c.crl",
            "PGR0202",
            "caCrl",
        ),
        ("mode: SIMPLE, sni: a.com", "PGR0213", "sni"),
        (
            "mode: SIMPLE, insecureSkipVerify: true",
            "PGR0213",
            "insecureSkipVerify",
        ),
    ] {
        let answers = answer(&policy(block), &[ask("reviews")]);
        let path = format!("spec.trafficPolicy.tls.{path}");
        assert_eq!(answers.finding(code).path, path, "{block}");
    }
    for block in [
        "mode: SIMPLE, credentialName: ca",
        "mode: SIMPLE, sni: a.com, subjectAltNames: [a.com]",
        "mode: MUTUAL, credentialName: both",
    ] {
        let answers = answer(&policy(block), &[ask("reviews")]);
        assert_eq!(answers.findings, [], "{block}");
    }
}

#[test]
fn the_proxy_protocol_has_two_versions_and_the_first_is_the_default() {
    for (block, expected) in [
        ("{}", ProxyVersion::V1),
        ("{version: V1}", ProxyVersion::V1),
        ("{version: V2}", ProxyVersion::V2),
    ] {
        let yaml = with_rule(&format!(
            "  host: reviews\n  trafficPolicy: {{proxyProtocol: {block}}}"
        ));
        let answers = answer(&yaml, &[ask("reviews")]);
        assert_eq!(answers.cluster(0).proxy_protocol, Some(expected), "{block}");
        assert_eq!(answers.findings, [], "{block}");
    }
}
