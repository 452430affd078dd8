//! TLS to origins: what a `tls` block comes to, what it needs, and what is said about it.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::tls_files::WorkloadFiles;
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

const MESH: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\nspec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}\n";

fn pod(name: &str, account: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: reviews}}}}\nspec: {{{account}}}\nstatus: {{phase: Running, podIP: 10.0.0.1}}\n"
    )
}

/// The names that `ISTIO_MUTUAL` demands of `host`, and what is said if there is none.
fn demanded(yaml: &str, host: &str, domains: &[&str]) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = &*OWN;
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string().into_boxed_str()
    };
    let options = Options {
        workload: WorkloadFiles {
            certificate: file("cert", certificate),
            key: file("key", key),
            authorities: file("ca", certificate),
        },
        trust_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..Options::default()
    };
    let answers = answer_with(&options, yaml, &[ask(host).from("shop")]);
    let tls = answers.cluster(0).tls.clone().unwrap();
    let names = &tls.verify.as_ref().unwrap().names;
    let said = answers.with("PGR0213");
    (
        names.iter().map(|name| name.to_string()).collect(),
        said.iter().map(|finding| finding.message.clone()).collect(),
    )
}

const ISTIO_MUTUAL: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: mesh, namespace: shop}\nspec: {host: '*', trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n";

#[test]
fn istio_mutual_demands_the_accounts_of_the_endpoints_in_every_trust_domain() {
    let yaml = [
        MESH,
        &pod("a", "serviceAccountName: one"),
        &pod("b", "serviceAccountName: two"),
        &pod("c", ""),
        ISTIO_MUTUAL,
    ]
    .concat();
    let (names, unnamed) = demanded(&yaml, "reviews", &["cluster.local", "old"]);
    let expected = ["cluster.local", "old"].map(|domain| {
        ["one", "two"].map(|account| format!("spiffe://{domain}/ns/shop/sa/{account}"))
    });
    assert_eq!(names, expected.concat());
    assert_eq!(unnamed, [""; 0]);
}

#[test]
fn istio_mutual_adds_a_service_entrys_names_to_the_accounts_of_its_endpoints() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db, namespace: shop}\nspec:\n  hosts: [db.internal]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  subjectAltNames: [db.example.com]\n  endpoints: [{address: 10.0.0.2, serviceAccount: db}]\n";
    let own_domain = &["cluster.local"];
    let yaml = [entry, ISTIO_MUTUAL].concat();
    let (names, unnamed) = demanded(&yaml, "db.internal", own_domain);
    let account = "spiffe://cluster.local/ns/shop/sa/db";
    assert_eq!(names, ["db.example.com", account]);
    assert_eq!(unnamed, [""; 0]);
    // What the rule says itself stands alone.
    let own = ISTIO_MUTUAL.replace("ISTIO_MUTUAL", "ISTIO_MUTUAL, subjectAltNames: [me]");
    let (names, _) = demanded(&[entry, &own].concat(), "db.internal", own_domain);
    assert_eq!(names, ["me"]);
}

#[test]
fn istio_mutual_without_any_name_is_a_finding() {
    let yaml = [MESH, &pod("a", ""), ISTIO_MUTUAL].concat();
    let (names, unnamed) = demanded(&yaml, "reviews", &["cluster.local"]);
    assert_eq!(names, [""; 0]);
    let [said] = unnamed.as_slice() else {
        panic!("{unnamed:?}");
    };
    assert!(said.contains("`reviews.shop.svc.cluster.local`"), "{said}");
}

#[test]
fn a_ca_may_lie_in_a_config_map_of_the_rules_namespace() {
    let (certificate, _) = &*OWN;
    let indented = certificate.replace('\n', "\n    ");
    let map = |data: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots, namespace: default}}\ndata:\n  {data}\n"
        )
    };
    let with =
        |map: &str| policy("mode: SIMPLE, credentialName: 'configmap://default/roots'") + map;
    let good = map(&format!("ca.crt: |\n    {indented}"));
    let answers = answer(&with(&good), &[ask("reviews")]);
    let tls = answers.cluster(0).tls.clone().unwrap();
    let rules = tls.verify.as_ref().unwrap();
    assert_eq!(rules.authorities.as_ref().unwrap().certificates().len(), 1);
    // Without it, or without a CA in it, nobody is asked.
    for bad in [String::new(), map("ca.crt: garbage")] {
        let answers = answer(&with(&bad), &[ask("reviews")]);
        assert!(matches!(answers.resolved[0], Resolved::Fenced(_)), "{bad}");
    }
}
