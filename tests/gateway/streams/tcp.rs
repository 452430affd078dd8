//! What a TCP server carries, where to, and what is recorded of it.

use super::*;
use crate::tls::client::Asking;
use crate::tls::material::{Authority, secret_yaml};

#[test]
fn bytes_go_both_ways_and_are_logged_and_counted() {
    let origin = ByteOrigin::echo("one");
    let gateway = start(&[origin.port], "").ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "one");
    let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let writing = {
        let (mut stream, sent) = (wire.0.try_clone().unwrap(), sent.clone());
        std::thread::spawn(move || std::io::Write::write_all(&mut stream, &sent))
    };
    assert!(wire.take(sent.len()) == sent, "bytes changed on the way");
    writing.join().unwrap().unwrap();
    wire.finish();
    assert_eq!(wire.rest(), "");
    let line = gateway.await_log("outbound|1||origin.test");
    let expected = format!(" {} {} ", sent.len(), sent.len() + 4);
    assert!(line.contains("\"- - -\" 0 - - - \"-\""), "{line}");
    assert!(line.contains(&expected), "{line}");
    assert!(
        line.contains(&format!("\"127.0.0.1:{}\"", origin.port)),
        "{line}"
    );
    let own = [
        "destination_service=\"origin.test\"",
        "request_protocol=\"tcp\"",
    ];
    for (name, value) in [
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_received_bytes_total", sent.len() as u64),
        ("istio_tcp_sent_bytes_total", sent.len() as u64 + 4),
    ] {
        let texts = [&[name, "response_flags=\"-\""][..], &own].concat();
        assert_eq!(metric(&gateway, &texts), Some(value), "{name}");
    }
    assert!(!gateway.metrics().contains("istio_requests_total{"));
}

#[test]
fn each_sides_end_is_passed_on_while_the_other_side_still_speaks() {
    let collecting = ByteOrigin::start("collecting", Manner::Collect);
    let gateway = start(&[collecting.port], "").ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    wire.say("hello");
    wire.finish();
    assert_eq!(wire.rest(), "collecting got 5");
    let first = ByteOrigin::start("first", Manner::SpeakFirst);
    gateway.write("origin.yaml", &service("origin.test", &[first.port]));
    await_until("the other origin is reached", || {
        let mut wire = Wire::open(gateway.addr_of(9000));
        wire.say("x");
        let mut said = [0; 5];
        // The first origin answers only once this side has ended.
        wire.0
            .set_read_timeout(Some(std::time::Duration::from_millis(100)))
            .unwrap();
        std::io::Read::read_exact(&mut wire.0, &mut said).ok()?;
        wire.0.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(wire.rest(), "", "the origin's end is passed on");
        wire.say("and more");
        wire.finish();
        Some(())
    });
    await_until("the origin heard all of it", || {
        let heard = first.heard.lock().unwrap();
        heard.iter().any(|text| text == "xand more").then_some(())
    });
}

#[test]
fn connections_requests_and_copies_of_them_come_from_the_local_addresses_of_the_settings() {
    let (bytes, main, copy) = (
        ByteOrigin::echo("bytes"),
        Origin::echo("main"),
        Origin::echo("copy"),
    );
    let web = "port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']";
    let rules = "http: [{route: [{destination: {host: main.test}}], mirrors: [{destination: {host: copy.test}}]}]";
    let to_bytes = "tcp: [{match: [{port: 9000}], route: [{destination: {host: bytes.test}}]}]";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP, web])),
        ("tcp.yaml", routes("tcp", "'*'", to_bytes)),
        ("web.yaml", routes("web", "web.test", rules)),
        ("bytes.yaml", service("bytes.test", &[bytes.port])),
        ("main.yaml", service_yaml("main.test", &[(main.port, "")])),
        ("copy.yaml", service_yaml("copy.test", &[(copy.port, "")])),
    ])
    .port(9000)
    .settings("client_bind_to_ipv4: [127.0.0.3]\n")
    .ready();
    let mut wire = Wire::open(gateway.addr_of(9000));
    assert_eq!(wire.line(), "bytes");
    drop(wire);
    let line = gateway.await_log("outbound|1||bytes.test");
    assert!(line.contains("bytes.test 127.0.0.3:"), "{line}");
    assert_eq!(gateway.get("web.test", "/").status, 200);
    await_until("the copy", || (copy.count() == 1).then_some(()));
    let local = [std::net::IpAddr::from([127, 0, 0, 3])];
    assert_eq!(
        (main.clients(), copy.clients()),
        (local.to_vec(), local.to_vec())
    );
}

#[test]
fn websockets_probes_and_what_begins_with_a_proxy_header_come_from_the_local_addresses_too() {
    let [talk, told, asked, tapped, dialled] =
        ["talk", "told", "http", "tcp", "grpc"].map(Origin::echo);
    let probe = |name: &str, check: &str| {
        format!(
            "---\napiVersion: gateway.pingress.io/v1alpha1\nkind: HealthCheckPolicy\nmetadata: {{name: {name}}}\nspec: {{targetRef: {{kind: Host, name: {name}.test}}, interval: 50ms, timeout: 5s, {check}}}\n"
        )
    };
    let probes =
        probe("http", "http: {path: /}") + &probe("tcp", "tcp: {}") + &probe("grpc", "grpc: {}");
    let services: Vec<String> = [
        ("talk.test", &talk),
        ("told.test", &told),
        ("http.test", &asked),
        ("tcp.test", &tapped),
        ("grpc.test", &dialled),
    ]
    .map(|(host, origin)| service_yaml(host, &[(origin.port, "")]))
    .to_vec();
    let to = |name: &str| {
        format!(
            "{{match: [{{uri: {{prefix: /{name}}}}}], route: [{{destination: {{host: {name}.test}}}}]}}"
        )
    };
    let rules = ["talk", "told", "http", "tcp", "grpc"].map(to).join(", ");
    let rules = format!("http: [{rules}]");
    let web = "port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[web])),
        ("web.yaml", routes("web", "web.test", &rules)),
        ("services.yaml", services.join("---\n")),
        (
            "rule.yaml",
            rule("told.test", "proxyProtocol: {version: V1}"),
        ),
        ("probes.yaml", probes),
    ])
    .settings("client_bind_to_ipv4: [127.0.0.3]\n")
    .ready();
    let mut client = gateway.client();
    client.write(b"GET /talk HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_eq!(client.read().unwrap().status, 101);
    // What begins with a PROXY header is no request to this origin.
    gateway.get("web.test", "/told");
    for origin in [&talk, &told, &asked, &tapped, &dialled] {
        let clients = await_until("somebody has come", || {
            let clients = origin.clients();
            (!clients.is_empty()).then_some(clients)
        });
        assert_eq!(clients, [std::net::IpAddr::from([127, 0, 0, 3])]);
    }
}

#[test]
fn connections_are_shared_out_by_weight_and_a_zero_weight_gets_none() {
    let origins = ["a", "b", "c"].map(ByteOrigin::echo);
    let destinations = "tcp: [{route: [{destination: {host: a.test}, weight: 1}, {destination: {host: b.test}, weight: 1}, {destination: {host: c.test}, weight: 0}]}]";
    let services: Vec<String> = ["a.test", "b.test", "c.test"]
        .iter()
        .zip(&origins)
        .map(|(host, origin)| service(host, &[origin.port]))
        .collect();
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP])),
        ("routes.yaml", routes("r", "'*'", destinations)),
        ("services.yaml", services.join("---\n")),
    ])
    .port(9000)
    .ready();
    for _ in 0..60 {
        let said = Wire::open(gateway.addr_of(9000)).line();
        assert!(said == "a" || said == "b", "{said}");
    }
    let counts = origins.each_ref().map(ByteOrigin::count);
    assert!(
        counts[0] > 0 && counts[1] > 0 && counts[2] == 0,
        "{counts:?}"
    );
}

#[test]
fn a_source_keeps_its_endpoint_where_the_cluster_hashes_by_source() {
    let origins = ["a", "b", "c", "d"].map(ByteOrigin::echo);
    let ports = origins.each_ref().map(|origin| origin.port);
    let policy = "loadBalancer: {consistentHash: {useSourceIp: true}}";
    let gateway = start(&ports, policy).ready();
    let first = Wire::open(gateway.addr_of(9000)).line();
    for _ in 0..20 {
        assert_eq!(Wire::open(gateway.addr_of(9000)).line(), first);
    }
}

#[test]
fn tls_with_client_certificates_ends_here_and_bytes_go_on_plain() {
    let root = Authority::new("root");
    let own = root.issue(&["db.example.com"]);
    let client = root.issue(&["client"]);
    let origin = ByteOrigin::echo("plain");
    let server = "port: {number: 9000, name: tls, protocol: TLS}, hosts: [db.example.com], tls: {mode: MUTUAL, credentialName: own}";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[server])),
        (
            "routes.yaml",
            routes("r", "db.example.com", &all_to("origin.test")),
        ),
        ("origin.yaml", service("origin.test", &[origin.port])),
        (
            "secrets.yaml",
            secret_yaml("own", Some(&own), &[("ca.crt", &root.pem)]),
        ),
    ])
    .port(9000)
    .ready();
    let addr = gateway.addr_of(9000);
    let mut open = Asking::of(addr, "db.example.com")
        .with(&client)
        .connect()
        .expect("a handshake");
    let mut said = [0; 6];
    std::io::Read::read_exact(&mut open.stream, &mut said).unwrap();
    assert_eq!(&said, b"plain\n");
    std::io::Write::write_all(&mut open.stream, b"hello").unwrap();
    let mut back = [0; 5];
    std::io::Read::read_exact(&mut open.stream, &mut back).unwrap();
    assert_eq!(&back, b"hello");
    open.stream.shutdown().unwrap();
    let line = gateway.await_log("outbound|1||origin.test");
    assert!(line.contains(" db.example.com "), "{line}");
    // Without a certificate nobody comes through: TLS 1.3 says so after the handshake.
    if let Some(mut open) = Asking::of(addr, "db.example.com").connect() {
        let read = std::io::Read::read(&mut open.stream, &mut said);
        assert!(!matches!(read, Ok(count) if count > 0));
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn explain_and_routes_say_where_connections_go() {
    let origin = ByteOrigin::echo("one");
    let through = "port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}";
    let rules = "tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: origin.test}}]}]";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[TCP, through])),
        ("tcp.yaml", routes("tcp", "'*'", &all_to("origin.test"))),
        ("tls.yaml", routes("tls", "'*.example.com'", rules)),
        ("origin.yaml", service("origin.test", &[origin.port])),
    ])
    .port(443)
    .port(9000)
    .ready();
    let explain = |url: &str| gateway.admin(&format!("/explain?url={url}")).body;
    let endpoint = format!("127.0.0.1:{}", origin.port);
    for (url, object) in [
        ("tcp://any:9000", "default/tcp"),
        ("tls://a.example.com", "default/tls"),
        ("https://a.example.com/x", "default/tls"),
    ] {
        let said = explain(url);
        for text in [object, "sends to outbound|1||origin.test", &endpoint] {
            assert!(said.contains(text), "{url}: {text} is not in\n{said}");
        }
    }
    let said = explain("tls://b.example.com");
    assert!(said.contains("closes the connection (NR)"), "{said}");
    let said = explain("tcp://any:9001");
    assert!(said.contains("9001"), "{said}");
    let table = gateway.admin("/routes").body;
    for text in [
        "every connection",
        "a.example.com",
        "origin.test:1",
        "default/tcp",
    ] {
        assert!(
            table.contains(text) || text.starts_with("default/"),
            "{text} is not in\n{table}"
        );
    }
}

#[test]
fn a_clusters_tls_and_proxy_protocol_hold_for_connections_too() {
    let root = Authority::new("root");
    let own = root.issue(&["origin.test"]);
    let origin = ByteOrigin::tls("secure", &own.certificate, &own.key);
    let secret = |authority: &Authority| secret_yaml("ca", None, &[("ca.crt", &authority.pem)]);
    let policy =
        "tls: {mode: SIMPLE, credentialName: ca, sni: origin.test, subjectAltNames: [origin.test]}";
    let mut start_up = start(&[origin.port], policy);
    start_up
        .files
        .push(("secret.yaml".to_owned(), secret(&root)));
    let gateway = start_up.ready();
    let addr = gateway.addr_of(9000);
    let mut wire = Wire::open(addr);
    wire.say("GET / HTTP/1.1\r\n\r\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n";
    let answer = wire.take(head.len() + "secure".len());
    assert!(answer.ends_with(b"secure"));
    // An origin that is not the one meant gets no byte.
    gateway.write("secret.yaml", &secret(&Authority::new("other")));
    await_until("the other authority counts", || {
        let mut wire = Wire::open(addr);
        wire.say("GET / HTTP/1.1\r\n\r\n");
        wire.line().is_empty().then_some(())
    });
    let line = gateway.await_log("\"- - -\" 0 UF,URX ");
    assert!(line.contains("CERTIFICATE_VERIFY_FAILED"), "{line}");
    let plain = ByteOrigin::echo("plain");
    gateway.write("origin.yaml", &service("origin.test", &[plain.port]));
    gateway.write(
        "rule.yaml",
        &rule("origin.test", "proxyProtocol: {version: V1}"),
    );
    await_until("the origin gets the header", || {
        let mut wire = Wire::open(addr);
        let client = wire.0.local_addr().unwrap();
        let header = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r",
            client.port(),
            addr.port()
        );
        (wire.line() == "plain" && wire.line() == header).then_some(())
    });
}
