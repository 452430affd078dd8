//! Where certificates and authorities come from, and what is said of those that cannot be used.

use super::*;

const SIMPLE: &str = "mode: SIMPLE, credentialName: own";

#[test]
fn each_of_a_thousand_names_is_shown_its_own_certificate() {
    const NAMES: usize = 1_000;
    let root = Authority::new("root");
    let name = |number: usize| format!("host-{number}.example.com");
    let mut servers = String::new();
    let mut secrets = Vec::new();
    for number in 0..NAMES {
        let name = name(number);
        servers += &format!(
            "    - {{port: {{number: 443, name: p{number}, protocol: HTTPS}}, hosts: [{name}], tls: {{mode: SIMPLE, credentialName: s{number}}}}}\n"
        );
        let issued = root.issue(&[&name]);
        secrets.push(secret_yaml(&format!("s{number}"), Some(&issued), &[]));
    }
    let gateway = Start::with(&[
        (
            "gateway.yaml",
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
            ),
        ),
        ("routes.yaml", routes(&["*.example.com"])),
        ("secrets.yaml", secrets.join("---\n")),
    ])
    .port(443)
    .ready();
    for number in (0..NAMES).step_by(7) {
        let name = name(number);
        let mut open = Asking::of(gateway.addr_of(443), &name).connect().unwrap();
        assert_eq!(open.server_name(), name);
        let answer = Outcome::Answered(200, "*.example.com".into());
        assert_eq!(open.get(&name), answer);
    }
}

#[test]
fn each_fault_of_a_credential_is_said_with_its_place_and_its_neighbours_serve() {
    let root = Authority::new("root");
    let (good, other) = (root.issue(&["good"]), root.issue(&["other"]));
    let (certificate, key) = (good.certificate.as_str(), good.key.as_str());
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let faults = [
        (
            "garbage",
            "garbage",
            key,
            "there is no certificate in `tls.crt`",
        ),
        (
            "torn",
            &certificate[..certificate.len() / 2],
            key,
            "in `tls.crt`",
        ),
        ("empty", "\n", key, "there is no certificate in `tls.crt`"),
        (
            "stranger",
            certificate,
            &other.key,
            "the key in `tls.key` does not belong to the first certificate in `tls.crt`",
        ),
        (
            "locked",
            certificate,
            encrypted,
            "the key in `tls.key` is encrypted",
        ),
        (
            "keyless",
            certificate,
            "garbage",
            "the key in `tls.key` cannot be read",
        ),
    ];
    let names: Vec<String> = faults
        .iter()
        .map(|(name, ..)| format!("{name}.example.com"))
        .collect();
    let blocks: Vec<String> = faults
        .iter()
        .map(|(name, ..)| format!("mode: SIMPLE, credentialName: {name}"))
        .collect();
    let hosts: Vec<[&str; 1]> = names.iter().map(|name| [name.as_str()]).collect();
    let mut servers: Vec<(&str, &[&str], &str)> = faults
        .iter()
        .zip(&hosts)
        .zip(&blocks)
        .map(|(((name, ..), host), block)| (*name, &host[..], block.as_str()))
        .collect();
    servers.push(("good", &["good.example.com"], SIMPLE));
    let mut secrets: Vec<String> = faults
        .iter()
        .map(|(name, certificate, key, _)| {
            secret_yaml(name, None, &[("tls.crt", certificate), ("tls.key", key)])
        })
        .collect();
    secrets.push(secret_yaml("own", Some(&good), &[]));
    let gateway = start(&servers, &secrets, &["*.example.com"]);
    let addr = gateway.addr_of(443);
    let findings = gateway.admin("/findings").body;
    for (name, _, _, said) in faults {
        let secret = format!("Secret istio-system/{name}");
        let of_it = findings.lines().any(|line| {
            line.contains(&secret) && line.contains(said) && line.contains("secrets.yaml:")
        });
        assert!(of_it, "{name}: {said}\n{findings}");
        let name = format!("{name}.example.com");
        assert!(Asking::of(addr, &name).connect().is_none(), "{name}");
    }
    let answer = Outcome::Answered(200, "*.example.com".into());
    assert_eq!(Asking::of(addr, "good.example.com").get(), answer);
}

#[test]
fn the_ca_for_clients_is_looked_for_where_istio_looks_for_it() {
    let [one, two, three] = ["one", "two", "three"].map(Authority::new);
    let own = one.issue(&["*.example.com"]);
    let client = |authority: &Authority| authority.issue(&["client"]);
    let (by_one, by_two, by_three) = (client(&one), client(&two), client(&three));
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: roots, namespace: other}}\ndata:\n  ca.crt: |\n    {}\n",
        three.pem.trim_end().replace('\n', "\n    ")
    );
    let generic = secret_yaml(
        "generic",
        None,
        &[
            ("cert", &own.certificate),
            ("key", &own.key),
            ("cacert", &one.pem),
        ],
    );
    let gateway = start(
        &[
            (
                "itself",
                &["itself.example.com"],
                "mode: MUTUAL, credentialName: generic",
            ),
            (
                "companion",
                &["companion.example.com"],
                "mode: MUTUAL, credentialName: 'kubernetes://both'",
            ),
            (
                "named",
                &["named.example.com"],
                "mode: MUTUAL, credentialName: 'kubernetes://istio-system/both', caCertCredentialName: generic",
            ),
            (
                "map",
                &["map.example.com"],
                "mode: MUTUAL, credentialName: both, caCertCredentialName: 'configmap://other/roots'",
            ),
        ],
        &[
            generic,
            secret_yaml("both", Some(&own), &[("ca.crt", &one.pem)]),
            secret_yaml("both-cacert", None, &[("ca.crt", &two.pem)]),
            map,
        ],
        &["*.example.com"],
    );
    let addr = gateway.addr_of(443);
    for (name, taken) in [
        ("itself.example.com", 0),
        ("companion.example.com", 1),
        ("named.example.com", 0),
        ("map.example.com", 2),
    ] {
        for (number, client) in [&by_one, &by_two, &by_three].into_iter().enumerate() {
            let answer = Asking::of(addr, name).with(client).get();
            let is_served = answer == Outcome::Answered(200, "*.example.com".into());
            assert_eq!(is_served, number == taken, "{name}, {number}: {answer:?}");
        }
    }
}
