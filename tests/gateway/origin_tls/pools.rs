//! Whose connections are shared with whom.

use super::*;

fn asked(client: &mut Client, host: &str, name: &str) -> String {
    let answer = client.get(host, &format!("/{name}"), &[]);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[test]
fn hosts_share_no_connection_where_the_name_is_the_requests() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&["*.example.com"])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let limited =
        "tls: {mode: SIMPLE, credentialName: ca}, connectionPool: {tcp: {maxConnections: 1}}";
    let fixed = "tls: {mode: SIMPLE, credentialName: ca, sni: one.example.com, subjectAltNames: [one.example.com]}";
    let to = [
        To::new("h1", origin.port, policy),
        To::new("h2", origin.port, policy).over("HTTP2"),
        To::new("limited", origin.port, limited),
        To::new("fixed", origin.port, fixed),
        To::new("fixed2", origin.port, fixed).over("HTTP2"),
    ];
    let gateway = start(&to, &[ca(&root)]);
    let mut client = gateway.client();
    for name in ["h1", "h2", "limited", "fixed", "fixed2"] {
        let before = origin.seen().len();
        for _ in 0..2 {
            for host in ["a.example.com", "B.example.com:80"] {
                assert!(asked(&mut client, host, name).ends_with(host), "{name}");
            }
        }
        let seen = origin.seen().split_off(before);
        let names: Vec<_> = seen
            .iter()
            .map(|seen| seen.server_name.clone().unwrap())
            .collect();
        let expected: &[&str] = match name {
            // The one connection there may be is made anew for each host.
            "limited" => &[
                "a.example.com",
                "b.example.com",
                "a.example.com",
                "b.example.com",
            ],
            "fixed" | "fixed2" => &["one.example.com"],
            _ => &["a.example.com", "b.example.com"],
        };
        assert_eq!(names, expected, "{name}");
    }
}

#[test]
fn the_name_is_that_of_the_rewritten_host_and_no_address_is_sent_as_one() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST, "10.9.8.7"])));
    let to = To::new("to", origin.port, "tls: {mode: SIMPLE, credentialName: ca}");
    let rewritten = to.route().replace("/to", "/host").replace(
        "      retries",
        &format!("      rewrite: {{authority: {HOST}}}\n      retries"),
    );
    let address = rewritten
        .replace("/host", "/address")
        .replace(HOST, "10.9.8.7");
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "routes.yaml",
            routes_yaml("vs", &["*.com"], &[rewritten, address].concat()),
        ),
        ("services.yaml", to.service()),
        ("rules.yaml", to.rule()),
        ("secrets.yaml", ca(&root)),
    ])
    .ready();
    let answer = gateway.client().get("other.com", "/host", &[]);
    assert_eq!(answer.body, format!("connection 1 {HOST}"));
    assert_eq!(origin.seen()[0].server_name.as_deref(), Some(HOST));
    let answer = gateway.client().get("other.com", "/address", &[]);
    assert_eq!(answer.body, "connection 2 10.9.8.7");
    assert_eq!(origin.seen()[1].server_name, None);
}

#[test]
fn changed_settings_use_no_connection_that_was_made_before() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let first = "tls: {mode: SIMPLE, credentialName: ca, sni: any.name}";
    let second =
        "tls: {mode: SIMPLE, credentialName: ca, sni: any.name, subjectAltNames: [b.example.com]}";
    for protocol in ["HTTP", "HTTP2"] {
        let gateway = start(
            &[To::new("to", origin.port, first).over(protocol)],
            &[ca(&root)],
        );
        let mut client = gateway.client();
        asked(&mut client, HOST, "to");
        let before = origin.requests();
        gateway.write("rules.yaml", &To::new("to", origin.port, second).rule());
        await_until("the new rule holds", || {
            (get(&gateway, "to").status == 503).then_some(())
        });
        let served = origin.requests();
        let answer = client.get(HOST, "/to", &[]);
        assert_eq!(answer.status, 503, "{protocol}: {}", answer.body);
        assert_eq!(origin.requests(), served);
        assert!(served >= before);
    }
}

#[test]
fn a_client_certificate_is_not_lent_to_another_destination_at_the_same_address() {
    let root = Authority::new("root");
    let (one, two) = (root.issue(&["one"]), root.issue(&["two"]));
    let mut shows = Shows::of(&root.issue(&[HOST]));
    shows.clients = Some(root.pem.clone());
    let origin = TlsOrigin::start(shows);
    let policies =
        ["one", "two"].map(|name| format!("tls: {{mode: MUTUAL, credentialName: {name}}}"));
    let to = [
        To::new("one", origin.port, &policies[0]),
        To::new("two", origin.port, &policies[1]),
    ];
    let secret = |name, issued| secret_yaml(name, Some(issued), &[("ca.crt", &root.pem)]);
    let gateway = start(&to, &[secret("one", &one), secret("two", &two)]);
    let mut client = gateway.client();
    for _ in 0..2 {
        asked(&mut client, HOST, "one");
        asked(&mut client, HOST, "two");
    }
    let clients: Vec<_> = origin
        .seen()
        .into_iter()
        .filter_map(|seen| seen.client)
        .collect();
    assert_eq!(clients, ["one", "two"]);
}

#[test]
fn a_connection_with_a_proxy_header_belongs_to_one_client_connection() {
    let root = Authority::new("root");
    let mut shows = Shows::of(&root.issue(&[HOST]));
    shows.proxied = true;
    let origin = TlsOrigin::start(shows);
    let tls = "tls: {mode: SIMPLE, credentialName: ca}, proxyProtocol: {version: V1}";
    let binary = tls.replace("V1", "V2");
    let to = [
        To::new("v1", origin.port, tls),
        To::new("h2", origin.port, tls).over("HTTP2"),
        To::new("v2", origin.port, &binary),
    ];
    let gateway = start(&to, &[ca(&root)]);
    let (mut one, mut two) = (gateway.client(), gateway.client());
    let local = gateway.addr_of(80);
    for name in ["v1", "h2", "v2"] {
        let before = origin.seen().len();
        for client in [&mut one, &mut two] {
            for _ in 0..2 {
                asked(client, HOST, name);
            }
        }
        let seen = origin.seen().split_off(before);
        let headers: Vec<_> = seen.into_iter().map(|seen| seen.header).collect();
        let expected = [&one, &two].map(|client| {
            let port = client.local_port();
            match name {
                "v2" => format!("2111000c7f0000017f000001{port:04x}{:04x}", local.port()),
                _ => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}", local.port()),
            }
        });
        assert_eq!(headers, expected, "{name}");
    }
}
