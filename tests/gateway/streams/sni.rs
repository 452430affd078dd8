//! Who a TLS connection is for: passed through or ended here, on one port, by its server name.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use boring::ssl::{SslConnector, SslMethod, SslVerifyMode};

use super::*;
use crate::tls::client::{Asking, Outcome};
use crate::tls::material::{Authority, secret_yaml};

/// The servers of one port: HTTPS for `here`, passthrough for everything below `example.com`.
const BOTH: [&str; 2] = [
    "port: {number: 443, name: here, protocol: HTTPS}, hosts: [here.example.com], tls: {mode: SIMPLE, credentialName: own}",
    "port: {number: 443, name: through, protocol: TLS}, hosts: ['*.example.com'], tls: {mode: PASSTHROUGH}",
];

fn tls_to(names: &str, host: &str) -> String {
    format!("{{match: [{{sniHosts: [{names}]}}], route: [{{destination: {{host: {host}}}}}]}}")
}

/// Two TLS origins behind a passthrough server, beside one that ends TLS.
struct Rig {
    gateway: Gateway,
    exact: ByteOrigin,
    wildcard: ByteOrigin,
    root: Authority,
}

fn rig(settings: &str) -> Rig {
    let root = Authority::new("root");
    let own = root.issue(&["here.example.com"]);
    let origin = |name: &str| {
        let issued = root.issue(&[name, "a.example.com", "x.wild.example.com"]);
        ByteOrigin::tls(name, &issued.certificate, &issued.key)
    };
    let (exact, wildcard) = (origin("exact"), origin("wildcard"));
    let rules = format!(
        "tls: [{}, {}]",
        tls_to("a.example.com", "exact.test"),
        tls_to("'*.wild.example.com'", "wildcard.test")
    );
    let here = "http: [{directResponse: {status: 200, body: {string: here}}}]";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&BOTH)),
        ("through.yaml", routes("through", "'*.example.com'", &rules)),
        ("here.yaml", routes("here", "here.example.com", here)),
        ("exact.yaml", service("exact.test", &[exact.port])),
        ("wildcard.yaml", service("wildcard.test", &[wildcard.port])),
        ("secrets.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .settings(settings)
    .port(443)
    .ready();
    Rig {
        gateway,
        exact,
        wildcard,
        root,
    }
}

fn answered(name: &str) -> Outcome {
    Outcome::Answered(200, name.to_owned())
}

fn handshakes(gateway: &Gateway, result: &str) -> Option<u64> {
    let result = format!("result=\"{result}\"");
    metric(gateway, &["pingress_tls_handshakes_total", &result])
}

#[test]
fn one_port_ends_tls_for_some_names_and_passes_it_on_for_others() {
    let rig = rig("");
    let addr = rig.gateway.addr_of(443);
    let open = Asking::of(addr, "a.example.com").connect().unwrap();
    assert_eq!(open.server_name(), "exact", "the origin's own certificate");
    for (name, said) in [
        ("a.example.com", "exact"),
        ("A.EXAMPLE.com", "exact"),
        ("x.wild.example.com", "wildcard"),
        ("deep.x.wild.example.com", "wildcard"),
        ("here.example.com", "here"),
    ] {
        assert_eq!(Asking::of(addr, name).get(), answered(said), "{name}");
    }
    for name in ["b.example.com", "wild.example.com", "other.test"] {
        assert_eq!(Asking::of(addr, name).get(), Outcome::Refused, "{name}");
    }
    let nameless = Asking::of(addr, "a.example.com").nameless();
    assert_eq!(nameless.get(), Outcome::Refused);
    assert_eq!(handshakes(&rig.gateway, "unknown_name"), Some(4));
    assert_eq!(handshakes(&rig.gateway, "passed"), Some(5));
    assert_eq!((rig.exact.count(), rig.wildcard.count()), (3, 2));
    let line = rig.gateway.await_log("outbound|1||wildcard.test");
    assert!(line.contains("x.wild.example.com"), "{line}");
}

#[test]
fn without_a_name_the_star_takes_a_connection() {
    let root = Authority::new("root");
    let issued = root.issue(&["any"]);
    let origin = ByteOrigin::tls("any", &issued.certificate, &issued.key);
    let server = "port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {}";
    let rules = format!("tls: [{}]", tls_to("'*'", "origin.test"));
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[server])),
        ("routes.yaml", routes("r", "'*'", &rules)),
        ("origin.yaml", service("origin.test", &[origin.port])),
    ])
    .port(443)
    .ready();
    let addr = gateway.addr_of(443);
    assert_eq!(Asking::of(addr, "x.test").get(), answered("any"));
    assert_eq!(Asking::of(addr, "x").nameless().get(), answered("any"));
}

/// A handshake that offers `protocols`, written in pieces of `piece` bytes; what is answered.
fn ask_in_pieces(addr: std::net::SocketAddr, name: &str, protocols: &[u8], piece: usize) -> String {
    struct Pieces(std::net::TcpStream, usize);
    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let piece = bytes.len().min(self.1);
            self.0.write(&bytes[..piece])
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(protocols).unwrap();
    let stream = Wire::open(addr).0;
    stream.set_nodelay(true).unwrap();
    let ssl = builder.build().configure().unwrap().verify_hostname(false);
    let Ok(mut stream) = ssl.connect(name, Pieces(stream, piece)) else {
        return String::new();
    };
    let head = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = [0; 1024];
    let mut text = String::new();
    while let Some(got) = stream.read(&mut said).ok().filter(|got| *got > 0) {
        text.push_str(&String::from_utf8_lossy(&said[..got]));
        if text
            .split_once("\r\n\r\n")
            .is_some_and(|(_, body)| !body.is_empty())
        {
            break;
        }
    }
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.unwrap_or_default()
}

#[test]
fn a_client_hello_may_come_in_single_bytes_and_have_16_kib() {
    let rig = rig("");
    let addr = rig.gateway.addr_of(443);
    let mut many = Vec::new();
    // BoringSSL takes 16,384 bytes at most; the rest of the message is about 1,500.
    for number in 0..58_u8 {
        many.push(255);
        many.extend([number + 1; 255]);
    }
    many.extend(b"\x08http/1.1");
    for (name, said) in [("a.example.com", "exact"), ("here.example.com", "here")] {
        assert_eq!(ask_in_pieces(addr, name, b"\x08http/1.1", 1), said);
        assert_eq!(ask_in_pieces(addr, name, &many, usize::MAX), said);
        assert_eq!(ask_in_pieces(addr, name, &many, 1000), said);
    }
}

#[test]
fn a_client_hello_that_never_ends_is_given_up_in_time_and_garbage_at_once() {
    let rig = rig("  limits: {tlsHandshake: 0.3s}\n");
    let addr = rig.gateway.addr_of(443);
    // The beginning of a record of 512 bytes.
    let mut wire = Wire::open(addr);
    wire.say([22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]);
    assert_eq!(wire.rest(), "");
    assert_eq!(handshakes(&rig.gateway, "timeout"), Some(1));
    let mut silent = Wire::open(addr);
    assert_eq!(silent.rest(), "");
    assert_eq!(handshakes(&rig.gateway, "timeout"), Some(2));
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 64],
        &[22, 3, 1, 255, 255],
    ] {
        let mut wire = Wire::open(addr);
        wire.say(garbage);
        assert_eq!(wire.rest(), "");
    }
    assert_eq!(handshakes(&rig.gateway, "not_tls"), Some(3));
    assert_eq!((rig.exact.count(), rig.wildcard.count()), (0, 0));
}

#[test]
fn a_route_that_is_broken_closes_its_own_name_and_nothing_else() {
    let rig = rig("");
    let addr = rig.gateway.addr_of(443);
    let rules = format!(
        "tls: [{}, {}]",
        tls_to("a.example.com", "exact.test").replace("}}]}", "}, weight: -1}]}"),
        tls_to("'*.wild.example.com'", "wildcard.test")
    );
    // A new object, so that no earlier version stands in for it.
    rig.gateway
        .write("through.yaml", &routes("other", "'*.example.com'", &rules));
    await_until("the rule is fenced", || {
        (Asking::of(addr, "a.example.com").get() == Outcome::Refused).then_some(())
    });
    rig.gateway.await_log("pingress_fenced");
    assert_eq!(
        Asking::of(addr, "x.wild.example.com").get(),
        answered("wildcard")
    );
    assert_eq!(Asking::of(addr, "here.example.com").get(), answered("here"));
}

#[test]
fn auto_passthrough_leads_to_the_service_that_the_name_names_for_clients_of_the_mesh_only() {
    let root = Authority::new("root");
    let issued = root.issue(&["sidecar"]);
    let origin = |name: &str| ByteOrigin::tls(name, &issued.certificate, &issued.key);
    let (one, two) = (origin("one"), origin("two"));
    let server = "port: {number: 443, name: cross, protocol: TLS}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}";
    let subset = rule("one.local", "tls: {mode: ISTIO_MUTUAL}") + "  subsets: [{name: v1}]\n";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&[server])),
        ("one.yaml", service("one.local", &[one.port])),
        ("two.yaml", service("two.local", &[two.port])),
        ("out.yaml", service("out.test", &[two.port])),
        ("rule.yaml", subset),
    ])
    .port(443)
    .ready();
    let addr = gateway.addr_of(443);
    let mesh = b"\x05istio\x08istio-h2";
    for (name, said) in [
        ("outbound_.1_._.one.local", "one"),
        ("outbound_.1_.v1_.one.local", "one"),
        ("outbound_.1_._.two.local", "two"),
        ("outbound_.2_._.two.local", ""),
        ("outbound_.1_.v9_.one.local", ""),
        ("outbound_.1_._.out.test", ""),
        ("one.local", ""),
    ] {
        assert_eq!(ask_in_pieces(addr, name, mesh, usize::MAX), said, "{name}");
    }
    let plain = ask_in_pieces(addr, "outbound_.1_._.one.local", b"\x02h2", usize::MAX);
    assert_eq!(plain, "");
    assert_eq!(handshakes(&gateway, "not_of_mesh"), Some(1));
    gateway.await_log("outbound_.1_.v1_.one.local");
}

fn run(program: &str, arguments: &[&str]) -> (String, bool) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed (see `make deps`): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.success())
}

#[test]
fn curl_and_openssl_verify_the_origin_itself_through_the_gateway() {
    let rig = rig("");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &rig.root.pem).unwrap();
    let ca = ca.display().to_string();
    let addr = rig.gateway.addr_of(443);
    let port = addr.port();
    let resolve = format!("a.example.com:{port}:127.0.0.1");
    let url = format!("https://a.example.com:{port}/");
    let curl = ["-sS", "--resolve", &resolve, "--cacert", &ca, &url];
    assert_eq!(run("curl", &curl), ("exact".to_owned(), true));
    let addr = addr.to_string();
    let common = ["s_client", "-connect", &addr, "-CAfile", &ca];
    let strict = ["-verify_return_error", "-verify_hostname", "a.example.com"];
    let named = ["-servername", "a.example.com"];
    let (said, ok) = run("openssl", &[&common[..], &strict, &named].concat());
    assert!(ok, "{said}");
    assert!(
        said.contains("CN = exact") || said.contains("CN=exact"),
        "{said}"
    );
    let unnamed = ["-noservername"];
    let (_, ok) = run("openssl", &[&common[..], &unnamed].concat());
    assert!(!ok);
}
