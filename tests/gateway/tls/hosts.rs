//! Which server a name reaches, and which hosts are served on its connections.

use std::sync::{Arc, Mutex};

use boring::ssl::SslVersion;

use super::*;

const SIMPLE: &str = "mode: SIMPLE, credentialName: own";

/// A server open to all for `host`, and one that wants certificates for `secret.example.com`; with
/// a client's that it takes.
fn guarded(host: &str) -> (Gateway, Issued) {
    let root = Authority::new("root");
    let own = root.issue(&["*.example.com"]);
    let mutual = "mode: MUTUAL, credentialName: own";
    let gateway = start(
        &[
            ("open", &[host], SIMPLE),
            ("closed", &["secret.example.com"], mutual),
        ],
        &[secret_yaml("own", Some(&own), &[("ca.crt", &root.pem)])],
        &["secret.example.com", "open.example.com"],
    );
    (gateway, root.issue(&["one.client"]))
}

#[test]
fn a_name_reaches_the_server_with_the_closest_host_and_an_unknown_one_is_closed() {
    let root = Authority::new("root");
    let names = ["a.example.com", "wild.example.com"];
    let [exact, wild] = names.map(|name| root.issue(&[name]));
    let gateway = start(
        &[
            (
                "exact",
                &["a.example.com"],
                "mode: SIMPLE, credentialName: exact",
            ),
            (
                "wild",
                &["*.example.com"],
                "mode: SIMPLE, credentialName: wild",
            ),
        ],
        &[
            secret_yaml("exact", Some(&exact), &[]),
            secret_yaml("wild", Some(&wild), &[]),
        ],
        &["a.example.com", "b.example.com"],
    );
    let addr = gateway.addr_of(443);
    let shown = |name: &str| {
        Asking::of(addr, name)
            .connect()
            .map(|open| open.server_name())
    };
    assert_eq!(shown("a.example.com").as_deref(), Some("a.example.com"));
    assert_eq!(shown("A.Example.COM").as_deref(), Some("a.example.com"));
    assert_eq!(shown("b.example.com").as_deref(), Some("wild.example.com"));
    assert_eq!(
        shown("x.y.example.com").as_deref(),
        Some("wild.example.com")
    );
    assert_eq!(shown("other.org"), None);
    assert!(
        Asking::of(addr, "a.example.com")
            .nameless()
            .connect()
            .is_none()
    );
}

#[test]
fn a_client_without_a_name_reaches_the_server_of_any_host() {
    let root = Authority::new("root");
    let own = root.issue(&["any.example.com"]);
    let gateway = start(
        &[("https", &["*"], SIMPLE)],
        &[secret_yaml("own", Some(&own), &[])],
        &["*"],
    );
    let asking = Asking::of(gateway.addr_of(443), "x").nameless();
    assert_eq!(asking.get(), Outcome::Answered(200, "*".into()));
}

#[test]
fn gotcha_4_a_host_of_another_server_is_unknown_on_this_servers_connection() {
    let root = Authority::new("root");
    let own = root.issue(&["*.example.com"]);
    let gateway = start(
        &[
            ("a", &["a.example.com"], SIMPLE),
            ("b", &["b.example.com"], SIMPLE),
        ],
        &[secret_yaml("own", Some(&own), &[])],
        &["a.example.com", "b.example.com"],
    );
    let mut open = Asking::of(gateway.addr_of(443), "a.example.com")
        .connect()
        .unwrap();
    assert_eq!(
        open.get("a.example.com"),
        Outcome::Answered(200, "a.example.com".into())
    );
    assert_eq!(
        open.get("b.example.com"),
        Outcome::Answered(404, String::new())
    );
}

#[test]
fn no_host_behind_a_client_certificate_is_reached_over_a_connection_that_showed_none() {
    // Both servers carry secret.example.com: the wildcard one would route it without a certificate.
    let (gateway, client) = guarded("*.example.com");
    let addr = gateway.addr_of(443);
    let mut open = Asking::of(addr, "open.example.com").connect().unwrap();
    assert_eq!(
        open.get("open.example.com"),
        Outcome::Answered(200, "open.example.com".into())
    );
    assert_eq!(
        open.get("secret.example.com"),
        Outcome::Answered(421, String::new())
    );
    let mut open = Asking::of(addr, "secret.example.com")
        .with(&client)
        .connect()
        .unwrap();
    assert_eq!(
        open.get("secret.example.com"),
        Outcome::Answered(200, "secret.example.com".into())
    );
}

#[test]
fn a_connection_of_http2_that_is_shared_among_hosts_reaches_none_behind_a_client_certificate() {
    let (gateway, _) = guarded("*.example.com");
    let port = gateway.addr_of(443).port();
    let resolve = format!("open.example.com:{port}:127.0.0.1");
    let url = format!("https://open.example.com:{port}/");
    // As a browser does for a host whose address and certificate are those of an open connection.
    for (authority, said) in [
        ("open.example.com", "open.example.com200 2"),
        ("secret.example.com", "421 2"),
        ("SECRET.example.com:443", "421 2"),
        // No host of anybody's.
        ("secret.example.com.", "404 2"),
    ] {
        let host = format!("Host: {authority}");
        let output = std::process::Command::new("curl")
            .args(["-sSk", "--http2", "--resolve", &resolve, "-H", &host])
            .args(["-w", "%{http_code} %{http_version}", &url])
            .output()
            .expect("curl must be installed (see `make deps`)");
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{authority}");
    }
}

#[test]
fn a_session_is_resumed_by_its_own_server_and_by_no_other() {
    let (gateway, client) = guarded("open.example.com");
    let addr = gateway.addr_of(443);
    let open = Asking::of(addr, "open.example.com");
    assert_eq!(
        open.get(),
        Outcome::Answered(200, "open.example.com".into())
    );
    let again = open.connect().unwrap();
    assert!(again.stream.ssl().session_reused());
    // The same ticket, shown to the server that wants a certificate.
    let mut elsewhere = Asking::of(addr, "secret.example.com");
    elsewhere.session = open.session.clone();
    assert_eq!(elsewhere.get(), Outcome::Refused);
    let mut elsewhere = Asking::of(addr, "secret.example.com").with(&client);
    elsewhere.session = open.session.clone();
    let mut connection = elsewhere.connect().unwrap();
    assert!(!connection.stream.ssl().session_reused());
    assert_eq!(
        connection.get("secret.example.com"),
        Outcome::Answered(200, "secret.example.com".into())
    );
}

#[test]
fn a_clients_session_is_resumed_only_where_its_certificate_would_be_accepted() {
    let [one, two, three] = ["one", "two", "three"].map(Authority::new);
    let own = one.issue(&["*.example.com"]);
    let secret = |name: &str, authority: &Authority| {
        secret_yaml(name, Some(&own), &[("ca.crt", &authority.pem)])
    };
    let gateway = start(
        &[
            ("a", &["a.example.com"], "mode: MUTUAL, credentialName: a"),
            ("b", &["b.example.com"], "mode: MUTUAL, credentialName: b"),
        ],
        &[secret("a", &one), secret("b", &two)],
        &["a.example.com", "b.example.com"],
    );
    let addr = gateway.addr_of(443);
    let client = one.issue(&["one.client"]);
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let first = Asking::of(addr, "a.example.com")
            .with(&client)
            .speaking(version, version);
        let answer = Outcome::Answered(200, "a.example.com".into());
        assert_eq!(first.get(), answer, "{version:?}");
        // Its ticket stands for the certificate at the server that gave it,
        let with_ticket = |name| {
            let mut again = Asking::of(addr, name).speaking(version, version);
            again.session = Arc::new(Mutex::new(first.session.lock().unwrap().clone()));
            again
        };
        let mut open = with_ticket("a.example.com").connect().unwrap();
        assert!(open.stream.ssl().session_reused(), "{version:?}");
        assert_eq!(open.get("a.example.com"), answer, "{version:?}");
        // and for nothing where others are accepted, with or without the certificate.
        let elsewhere = with_ticket("b.example.com");
        assert_eq!(elsewhere.get(), Outcome::Refused, "{version:?}");
        let elsewhere = elsewhere.with(&client);
        assert_eq!(elsewhere.get(), Outcome::Refused, "{version:?}");
    }
    // Nor does it stand for anything once the server accepts others.
    let first = Asking::of(addr, "a.example.com").with(&client);
    assert_eq!(first.get(), Outcome::Answered(200, "a.example.com".into()));
    gateway.write(
        "secrets.yaml",
        &[secret("a", &three), secret("b", &two)].join("---\n"),
    );
    let allowed = three.issue(&["three.client"]);
    await_until("the other clients are accepted", || {
        let answer = Asking::of(addr, "a.example.com").with(&allowed).get();
        (answer != Outcome::Refused).then_some(())
    });
    assert_eq!(first.get(), Outcome::Refused);
}

#[test]
fn the_edge_profile_calls_a_host_of_another_server_misdirected() {
    let root = Authority::new("root");
    let own = root.issue(&["*.example.com"]);
    let gateway = Start::with(&[
        (
            "gateway.yaml",
            gateway(&[
                ("a", &["a.example.com"], SIMPLE),
                ("b", &["b.example.com"], SIMPLE),
            ]),
        ),
        ("routes.yaml", routes(&["a.example.com", "b.example.com"])),
        ("secrets.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .settings("  profile: edge\n")
    .port(443)
    .ready();
    let mut open = Asking::of(gateway.addr_of(443), "a.example.com")
        .connect()
        .unwrap();
    assert_eq!(
        open.get("b.example.com"),
        Outcome::Answered(421, String::new())
    );
    assert_eq!(
        open.get("c.example.com"),
        Outcome::Answered(404, String::new())
    );
}
