//! Changes while a thousand WebSockets and a thousand streams are open: none of them is closed.

use std::io::{Read, Write};
use std::net::TcpStream;

use boring::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::*;
use crate::tls::material::{Authority, secret_yaml};

const EACH: usize = 1_000;
const SWAPS: usize = 500;
const GATEWAY: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: own}}
    - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}
";
const TCP: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tcp}
spec:
  hosts: ['*']
  gateways: [gw]
  tcp: [{match: [{port: 9000}], route: [{destination: {host: bytes.internal}}]}]
";

/// A client's side of TLS, made once: each connection shakes hands for itself.
struct Clients {
    connector: SslConnector,
    gateway: std::net::SocketAddr,
}

impl Clients {
    fn new(gateway: &Gateway) -> Self {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        Self {
            connector: builder.build(),
            gateway: gateway.addr_of(443),
        }
    }

    fn connect(&self) -> SslStream<TcpStream> {
        let stream = Wire::open(self.gateway).0;
        let ssl = self.connector.configure().unwrap().verify_hostname(false);
        ssl.connect("a.example.com", stream).unwrap()
    }

    fn websocket(&self) -> SslStream<TcpStream> {
        let mut stream = self.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }

    /// The first name of the certificate that is shown now.
    fn shown(&self) -> String {
        let stream = self.connect();
        let certificate = stream.ssl().peer_certificate().unwrap();
        let names = certificate.subject_alt_names().unwrap();
        names.iter().next().unwrap().dnsname().unwrap().to_owned()
    }
}

fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Says something that nobody else says, and hears it.
fn echoes(stream: &mut (impl Read + Write), number: usize) -> bool {
    let said = format!("{number:08}");
    let mut heard = [0; 8];
    stream.write_all(said.as_bytes()).is_ok()
        && stream.read_exact(&mut heard).is_ok()
        && heard == said.as_bytes()
}

/// The route that answers with the number of its change.
fn routes(turn: usize) -> String {
    let to = "route: [{destination: {host: web.internal}}]";
    let rules = format!(
        "    - match: [{{uri: {{exact: /turn}}}}]\n      directResponse: {{status: 200, body: {{string: \"{turn}\"}}}}\n    - name: r{turn}\n      {to}\n      timeout: {}s\n",
        turn + 1
    );
    routes_yaml("web", &["a.example.com"], &rules)
}

#[test]
fn a_thousand_websockets_and_streams_stay_open_over_five_hundred_swaps_and_new_certificates() {
    // Both ends of each are in this process, and in the gateway.
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, most).unwrap();
    let root = Authority::new("root");
    let secrets: Vec<String> = (0..8)
        .map(|number| secret_yaml("own", Some(&root.issue(&[&format!("c{number}")])), &[]))
        .collect();
    let (web, bytes) = (Origin::echo("web"), ByteOrigin::echo("bytes"));
    let gateway = Start::with(&[
        ("gateway.yaml", GATEWAY.to_owned()),
        ("tcp.yaml", TCP.to_owned()),
        ("routes.yaml", routes(0)),
        ("web.yaml", service_yaml("web.internal", &[(web.port, "")])),
        (
            "bytes.yaml",
            service_yaml("bytes.internal", &[(bytes.port, "")]),
        ),
        ("secrets.yaml", secrets[0].clone()),
    ])
    .port(443)
    .port(9000)
    .ready();
    let clients = Clients::new(&gateway);
    let mut websockets: Vec<_> = (0..EACH).map(|_| clients.websocket()).collect();
    let mut streams: Vec<_> = (0..EACH)
        .map(|_| {
            let mut wire = Wire::open(gateway.addr_of(9000));
            assert_eq!(wire.line(), "bytes");
            wire.0
        })
        .collect();

    let mut watching = clients.connect();
    for turn in 1..=SWAPS {
        gateway.write("routes.yaml", &routes(turn));
        await_until("the next plan serves", || {
            let ask = b"GET /turn HTTP/1.1\r\nHost: a.example.com\r\n\r\n";
            watching.write_all(ask).unwrap();
            let head = head(&mut watching);
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse().unwrap())
            });
            let mut body = vec![0; length.unwrap()];
            watching.read_exact(&mut body).unwrap();
            (body == turn.to_string().as_bytes()).then_some(())
        });
        if turn % 10 == 0 {
            let number = turn / 10 % secrets.len();
            gateway.write("secrets.yaml", &secrets[number]);
            await_until("the next certificate is shown", || {
                (clients.shown() == format!("c{number}")).then_some(())
            });
        }
        // A few each time, so that some are busy whatever happens.
        let some = turn % EACH;
        assert!(echoes(&mut websockets[some], turn), "after {turn} swaps");
        assert!(echoes(&mut streams[some], turn), "after {turn} swaps");
    }
    let all = websockets.iter_mut().enumerate();
    let lost = all.filter_map(|(number, stream)| (!echoes(stream, number)).then_some(number));
    assert_eq!(lost.collect::<Vec<_>>(), [0; 0], "WebSockets");
    let all = streams.iter_mut().enumerate();
    let lost = all.filter_map(|(number, stream)| (!echoes(stream, number)).then_some(number));
    assert_eq!(lost.collect::<Vec<_>>(), [0; 0], "streams");
    assert_eq!(bytes.count(), EACH, "no stream was connected anew");
}
