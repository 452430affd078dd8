//! One port number for everything that may share it: HTTPS and TCP inside TLS that ends here, TLS
//! passed through, and, on an address of its own, plain TCP. Asked by curl, openssl and a socket.

use std::process::{Command, Stdio};

use super::*;
use crate::tls::material::{Authority, secret_yaml};

const SERVERS: [&str; 5] = [
    "port: {number: 443, name: here, protocol: HTTPS}, hosts: [here.example.com], tls: {mode: SIMPLE, credentialName: own}",
    "port: {number: 443, name: through, protocol: TLS}, hosts: [through.example.com], tls: {mode: PASSTHROUGH}",
    "port: {number: 443, name: inside, protocol: TLS}, hosts: [inside.example.com], tls: {mode: SIMPLE, credentialName: own}",
    "port: {number: 443, name: late, protocol: TCP}, hosts: ['*']",
    "port: {number: 443, name: plain, protocol: TCP}, hosts: [plain.example.com], bind: 127.0.0.2",
];

/// What a client prints, both outputs, and whether it succeeded.
fn run(program: &str, arguments: &[&str]) -> (String, String, bool) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed (see `make deps`): {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let succeeded = output.status.success();
    (text(output.stdout), text(output.stderr), succeeded)
}

#[test]
fn https_passthrough_and_tcp_inside_tls_share_a_port_and_plain_tcp_needs_an_address_of_its_own() {
    let root = Authority::new("root");
    let own = root.issue(&["here.example.com", "inside.example.com"]);
    let its = root.issue(&["through.example.com"]);
    let through = ByteOrigin::tls("through", &its.certificate, &its.key);
    let (inside, plain) = (ByteOrigin::echo("inside"), ByteOrigin::echo("plain"));
    let named = "tls: [{match: [{sniHosts: [through.example.com]}], route: [{destination: {host: through.test}}]}]";
    let answer = "http: [{directResponse: {status: 200, body: {string: here}}}]";
    let gateway = Start::with(&[
        ("gateway.yaml", gateway(&SERVERS)),
        ("here.yaml", routes("here", "here.example.com", answer)),
        (
            "through.yaml",
            routes("through", "through.example.com", named),
        ),
        (
            "inside.yaml",
            routes("inside", "inside.example.com", &all_to("inside.test")),
        ),
        (
            "plain.yaml",
            routes("plain", "plain.example.com", &all_to("plain.test")),
        ),
        ("o1.yaml", service("through.test", &[through.port])),
        ("o2.yaml", service("inside.test", &[inside.port])),
        ("o3.yaml", service("plain.test", &[plain.port])),
        ("secrets.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .port(443)
    .ready();
    let addr = gateway.addr_of(443);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &root.pem).unwrap();
    let ca = ca.display().to_string();

    for name in ["here", "through"] {
        let resolve = format!("{name}.example.com:{}:127.0.0.1", addr.port());
        let url = format!("https://{name}.example.com:{}/", addr.port());
        let curl = [
            "-sS",
            "--resolve",
            &resolve,
            "--cacert",
            &ca,
            "-w",
            " %{http_code} %{http_version}",
            &url,
        ];
        let (said, errors, succeeded) = run("curl", &curl);
        let version = if name == "here" { "2" } else { "1.1" };
        assert_eq!(said, format!("{name} 200 {version}"), "{errors}");
        assert!(succeeded, "{errors}");
    }

    let target = addr.to_string();
    let openssl = |name: &str| {
        let arguments = [
            "s_client",
            "-connect",
            &target,
            "-servername",
            name,
            "-CAfile",
            &ca,
            "-verify_return_error",
            "-verify_hostname",
            name,
        ];
        run("openssl", &arguments)
    };
    for (name, certificate) in [
        ("here.example.com", "here.example.com"),
        // Issued once, for both.
        ("inside.example.com", "here.example.com"),
        ("through.example.com", "through.example.com"),
    ] {
        let (said, errors, succeeded) = openssl(name);
        assert!(succeeded, "{name}: {said}{errors}");
        let subject = format!("CN = {certificate}");
        let is_its = said.contains(&subject) || said.contains(&subject.replace(' ', ""));
        assert!(is_its, "{name}: {said}");
    }
    // A name that no server has is closed without a word.
    let (said, errors, succeeded) = openssl("other.example.com");
    assert!(!succeeded, "{said}");
    assert!(!errors.contains("alert"), "{errors}");
    assert!(said.contains("no peer certificate available"), "{said}");

    let mut open = crate::tls::client::Asking::of(addr, "inside.example.com")
        .connect()
        .expect("a handshake");
    let mut first = [0; 7];
    std::io::Read::read_exact(&mut open.stream, &mut first).unwrap();
    assert_eq!(&first, b"inside\n");

    // What is not TLS is closed as soon as that is seen, whatever server it may be for.
    let mut wire = Wire::open(addr);
    wire.say("hello\n");
    assert_eq!(wire.rest(), "");
    let not_tls = ["pingress_tls_handshakes_total", "\"not_tls\""];
    await_until("it is counted", || metric(&gateway, &not_tls));
    let own_address = std::net::SocketAddr::from(([127, 0, 0, 2], addr.port()));
    let mut wire = Wire::open(own_address);
    assert_eq!(wire.line(), "plain");
    wire.say("hello\n");
    assert_eq!(wire.line(), "hello");

    let findings = gateway.admin("/findings").body;
    assert!(
        findings.contains("already serves another protocol"),
        "{findings}"
    );
    assert!(findings.contains("spec.servers[3]"), "{findings}");
    assert!(!findings.contains("spec.servers[4]"), "{findings}");
    // Each by the one connection of curl and of openssl, and that of the socket.
    assert_eq!((through.count(), inside.count(), plain.count()), (2, 2, 1));
}
