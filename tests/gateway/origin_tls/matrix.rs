//! Modes times what origins show: who is spoken to, and what the client hears of the others.

use boring::ssl::SslVersion;

use super::*;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Served,
    /// 503 that says this, and no request at the origin.
    Refused(&'static str),
}
use Outcome::{Refused, Served};

/// The handshake failed.
const VERIFY: &str = "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end";
const NAMES: &str = "CERTIFICATE_VERIFY_FAILED:verify cert failed: SAN matcher:TLS_error_end";

/// Asks each destination, over HTTP/1.1 and HTTP/2, twice: a connection that was refused must not
/// carry the next request.
fn check(policies: &[&str], secrets: &[String], cases: &[(&str, Shows, &[Outcome])]) {
    let origins: Vec<TlsOrigin> = cases
        .iter()
        .map(|(_, shows, _)| TlsOrigin::start(shows.clone()))
        .collect();
    let mut names = Vec::new();
    for (case, _) in cases.iter().enumerate() {
        for (policy, _) in policies.iter().enumerate() {
            for protocol in ["HTTP", "HTTP2"] {
                let name = format!("to-{case}-{policy}-{protocol}").to_lowercase();
                names.push((name, case, policy, protocol));
            }
        }
    }
    let to: Vec<To<'_>> = names
        .iter()
        .map(|(name, case, policy, protocol)| {
            To::new(name, origins[*case].port, policies[*policy]).over(protocol)
        })
        .collect();
    let gateway = start(&to, secrets);
    let mut wrong = Vec::new();
    for (name, case, policy, protocol) in &names {
        let (title, _, expected) = &cases[*case];
        let expected = expected[*policy];
        let before = origins[*case].requests();
        for _ in 0..2 {
            let answer = get(&gateway, name);
            let fits = match expected {
                Served => answer.status == 200,
                Refused(words) => answer.status == 503 && answer.body.contains(words),
            };
            if !fits {
                let policy = policies[*policy];
                wrong.push(format!(
                    "{title}, {protocol}, {policy}: {expected:?}, but {} {}",
                    answer.status, answer.body
                ));
            }
        }
        let asked = origins[*case].requests() - before;
        let due = if expected == Served { 2 } else { 0 };
        if asked != due {
            wrong.push(format!(
                "{title}, {protocol}: {asked} requests at the origin"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        gateway.admin("/findings").body
    );
}

#[test]
fn an_origin_is_spoken_to_only_if_its_certificate_is_what_the_rule_demands() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let below = root.below("below");
    let right = root.issue(&[HOST]);
    let mut through = Shows::of(&below.issue(&[HOST]));
    through.issuers = vec![below.pem.clone()];
    let mut old = Shows::of(&root.issue_rsa(&[HOST]));
    old.newest = Some(SslVersion::TLS1_1);
    let mut late = Shows::of(&right);
    late.newest = Some(SslVersion::TLS1_2);
    let version = Refused("UNSUPPORTED_PROTOCOL");
    check(
        &[
            "tls: {mode: SIMPLE, credentialName: ca}",
            "tls: {mode: SIMPLE, credentialName: ca, subjectAltNames: [api.example.com, 'spiffe://td/a']}",
            "tls: {mode: SIMPLE, credentialName: ca, sni: any.name}",
            "tls: {mode: SIMPLE, insecureSkipVerify: true}",
        ],
        &[ca(&root)],
        &[
            ("right", Shows::of(&right), &[Served; 4]),
            ("through an intermediate", through, &[Served; 4]),
            ("TLS 1.2", late, &[Served; 4]),
            (
                "wildcard",
                Shows::of(&root.issue(&["*.example.com"])),
                &[Served; 4],
            ),
            (
                "wrong name",
                Shows::of(&root.issue(&["b.example.com"])),
                &[Refused(VERIFY), Refused(NAMES), Served, Served],
            ),
            (
                "a URI",
                Shows::of(&root.issue(&["spiffe://td/a"])),
                &[Refused(VERIFY), Served, Served, Served],
            ),
            (
                "another authority",
                Shows::of(&other.issue(&[HOST])),
                &[Refused(VERIFY), Refused(VERIFY), Refused(VERIFY), Served],
            ),
            (
                "an intermediate that is not sent",
                Shows::of(&below.issue(&[HOST])),
                &[Refused(VERIFY), Refused(VERIFY), Refused(VERIFY), Served],
            ),
            (
                "expired",
                Shows::of(&root.issue_until(&[HOST], 2021)),
                &[Refused(VERIFY), Refused(VERIFY), Refused(VERIFY), Served],
            ),
            ("TLS 1.1", old, &[version; 4]),
        ],
    );
}

#[test]
fn revoked_certificates_and_authorities_that_are_no_roots_are_looked_at_after_the_handshake() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let below = root.below("below");
    let (right, revoked) = (root.issue(&[HOST]), root.issue(&[HOST]));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let roots = file("root.pem", &root.pem);
    let lists = file("lists.pem", &root.revoke(&[&revoked]));
    let stranger = file("stranger.pem", &other.revoke(&[]));
    let only = file("below.pem", &below.pem);
    let with =
        |lists: &str| format!("tls: {{mode: SIMPLE, caCertificates: '{roots}', caCrl: '{lists}'}}");
    let is_revoked = Refused("certificate revoked, or no current list of its issuer");
    let no_chain = Refused("X509_verify_cert: certificate verification error at depth 0");
    check(
        &[
            &with(&lists),
            &with(&stranger),
            &format!("tls: {{mode: SIMPLE, caCertificates: '{only}'}}"),
            &format!("tls: {{mode: SIMPLE, caCertificates: '{only}', subjectAltNames: [{HOST}]}}"),
        ],
        &[],
        &[
            (
                "right",
                Shows::of(&right),
                &[Served, is_revoked, no_chain, no_chain],
            ),
            (
                "revoked",
                Shows::of(&revoked),
                &[is_revoked, is_revoked, no_chain, no_chain],
            ),
            (
                "of the intermediate",
                Shows::of(&below.issue(&[HOST])),
                &[Refused(VERIFY), Refused(VERIFY), Served, Served],
            ),
            (
                "of the intermediate, wrong name",
                Shows::of(&below.issue(&["b.example.com"])),
                &[
                    Refused(VERIFY),
                    Refused(VERIFY),
                    Refused("verify SAN list"),
                    Refused(NAMES),
                ],
            ),
            (
                "of the intermediate, expired",
                Shows::of(&below.issue_until(&[HOST], 2021)),
                &[
                    Refused(VERIFY),
                    Refused(VERIFY),
                    Refused("at depth 0: certificate has expired"),
                    Refused("at depth 0: certificate has expired"),
                ],
            ),
        ],
    );
}

#[test]
fn an_http2_cluster_speaks_to_no_origin_that_does_not_agree_to_http2() {
    let root = Authority::new("root");
    let mut shows = Shows::of(&root.issue(&[HOST]));
    shows.protocols = b"\x08http/1.1";
    let origin = TlsOrigin::start(shows);
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let to = [
        To::new("h1", origin.port, policy),
        To::new("h2", origin.port, policy).over("GRPC"),
    ];
    let gateway = start(&to, &[ca(&root)]);
    assert_eq!(get(&gateway, "h1").status, 200);
    let answer = get(&gateway, "h2");
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("did not agree to HTTP/2"),
        "{}",
        answer.body
    );
    assert_eq!(origin.requests(), 1);
}

#[test]
fn without_an_authority_of_its_own_an_origin_must_come_from_the_systems_roots() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let folder = tempfile::tempdir().unwrap();
    let system = folder.path().join("system.pem");
    std::fs::write(&system, &root.pem).unwrap();
    let known = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let unknown = TlsOrigin::start(Shows::of(&other.issue(&[HOST])));
    let policy = "tls: {mode: SIMPLE}";
    let to = [
        To::new("known", known.port, policy),
        To::new("unknown", unknown.port, policy),
    ];
    let gateway = prepare(&to, &[])
        .environment("SSL_CERT_FILE", &system.display().to_string())
        .ready();
    assert_eq!(get(&gateway, "known").status, 200);
    let answer = get(&gateway, "unknown");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(VERIFY), "{}", answer.body);
    assert_eq!(unknown.requests(), 0);
}

#[test]
fn a_failed_handshake_is_a_connect_failure_that_is_retried_ejected_and_told() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let wrong = TlsOrigin::start(Shows::of(&other.issue(&[HOST])));
    let right = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}, loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, interval: 300s, baseEjectionTime: 300s, maxEjectionPercent: 100}";
    let to = To::new("pair", wrong.port, policy);
    let (wrong_port, right_port) = (wrong.port, right.port);
    let service = to.service().replace(
        "  endpoints: [{address: 127.0.0.1}]\n",
        &format!("  endpoints: [{{address: 127.0.0.1, ports: {{p: {wrong_port}}}}}, {{address: 127.0.0.1, ports: {{p: {right_port}}}}}]\n"),
    );
    let route = to
        .route()
        .replace("attempts: 0", "attempts: 2, retryOn: connect-failure");
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        ("routes.yaml", routes_yaml("vs", &["*.com"], &route)),
        ("services.yaml", service),
        ("rules.yaml", to.rule()),
        ("secrets.yaml", ca(&root)),
    ])
    .ready();
    for _ in 0..12 {
        assert_eq!(get(&gateway, "pair").status, 200);
    }
    assert_eq!((wrong.requests(), right.requests()), (0, 12));
    await_until("the wrong origin is ejected", || {
        gateway
            .admin("/clusters")
            .body
            .contains("consecutive")
            .then_some(())
    });
}
