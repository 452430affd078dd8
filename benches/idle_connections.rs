//! Resident memory of an idle keep-alive connection, whatever it did before: less than 12 KiB in
//! plaintext, less than 20 KiB with TLS, and less than 40 KiB with HTTP/2 in it.
//!
//! Envoy needs about 16 KB for a plaintext one, Pingora's own loop 28 KB with the same buffer. A
//! promise, so that it is also a test: `cargo bench --bench idle_connections` and `cargo test` both
//! run it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use async_trait::async_trait;
use boring::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use pingora::http::ResponseHeader;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::upstreams::peer::HttpPeer;
use pingora_core::server::configuration::ServerConf;
use pingora_core::{Error, ErrorType, Result};
use pingress::base::tls_material::KeyPair;
use pingress::base::{HostPattern, Origin, Position};
use pingress::listener::{Connection, ConnectionObserver, ListenerLimits, Listeners};
use pingress::plan::hosts::HostIndex;
use pingress::plan::{
    ClientCertificates, Plan, TlsServer, TlsService, TlsSocket, TlsTerms, TlsVersion,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WARM_UP: usize = 100;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
/// HTTP/2's preface, empty settings, and a request for `/` of `a` (RFC 9113, RFC 7541).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01a";
const PLAIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const SECURE: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2)),
    0,
);

struct Answering;

#[async_trait]
impl ProxyHttp for Answering {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "everything is answered here")
    }

    async fn early_request_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        if let Some(connection) = Connection::of(session.digest()) {
            connection.head_received();
        }
        session.set_pipelining_enabled(true);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        while session.read_request_body().await?.is_some() {}
        let mut header = ResponseHeader::build(200, None)?;
        header.insert_header("content-length", "0")?;
        session
            .write_response_header(Box::new(header), true)
            .await?;
        Ok(true)
    }
}

struct Deaf;
impl ConnectionObserver for Deaf {}

/// How connections are opened, and what they do before they are idle.
struct Round {
    what: &'static str,
    tls: Option<SslVersion>,
    request: Option<&'static [u8]>,
    count: usize,
    most_kib: f64,
}

impl Round {
    const fn plain(what: &'static str, request: Option<&'static [u8]>) -> Self {
        Self {
            what,
            tls: None,
            request,
            count: 2_000,
            most_kib: 12.0,
        }
    }

    const fn tls(what: &'static str, version: SslVersion, request: Option<&'static [u8]>) -> Self {
        Self {
            what,
            tls: Some(version),
            request,
            count: 700,
            most_kib: 20.0,
        }
    }
}

/// TLS for every name on one socket.
fn plan() -> Plan {
    let issued = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
    let (certificate, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    let names = ("certificate", "key");
    let pair = KeyPair::from_pem(certificate.as_bytes(), key.as_bytes(), names).expect("a pair");
    let terms = TlsTerms {
        pairs: vec![Arc::new(pair)],
        client: ClientCertificates::Ignored,
        min: TlsVersion::V1_2,
        max: TlsVersion::V1_3,
        ciphers: None,
    };
    let mut names = HostIndex::default();
    names.insert(&HostPattern::parse("*").expect("any host"), 0);
    let server = TlsServer {
        origin: Origin::new("bench".into(), Position::default(), 0),
        name: "bench".into(),
        service: TlsService::Http {
            listener: 0,
            terms: Arc::new(terms),
        },
    };
    Plan {
        tls: vec![TlsSocket {
            addr: SECURE,
            declared_port: 443,
            names,
            servers: vec![server],
            has_client_rules: false,
        }],
        ..Plan::default()
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), Answering));
    let limits = ListenerLimits::default();
    let most = limits.max_connections;
    let listeners = Listeners::new(app, HashMap::new(), limits, Arc::new(Deaf), Arc::new(()));
    assert_eq!(listeners.terminate(&plan()), Vec::<String>::new());
    runtime.block_on(listeners.apply(&[PLAIN, SECURE]));
    let address = |of: SocketAddr| {
        let open = listeners.open_addresses();
        *open.iter().find(|it| it.ip() == of.ip()).expect("open")
    };
    let clients = Clients {
        connector: connector(),
        plain: address(PLAIN),
        secure: address(SECURE),
    };

    // What the process needs once, whatever the number of connections.
    let warm_up = WARM_UP.min(most);
    drop(clients.open(None, warm_up, Some(GET)));
    drop(clients.open(Some(SslVersion::TLS1_3), warm_up, Some(GET)));
    runtime.block_on(listeners.drained());
    // All stay open to the end, so that no round lives in the memory of an earlier one.
    let mut open = Vec::new();
    for round in [
        Round::plain("after a GET", Some(GET)),
        Round::plain("after a POST", Some(POST)),
        Round::plain("before any request", None),
        Round::tls("of TLS 1.3 after a GET", SslVersion::TLS1_3, Some(GET)),
        Round::tls("of TLS 1.2 after a POST", SslVersion::TLS1_2, Some(POST)),
        Round::tls("of TLS 1.3 before any request", SslVersion::TLS1_3, None),
        Round {
            most_kib: 40.0,
            ..Round::tls("of HTTP/2 in TLS 1.3", SslVersion::TLS1_3, Some(HTTP2))
        },
    ] {
        let Round { what, count, .. } = round;
        if open.len() + count > most {
            println!(
                "idle connection {what}: not measured, {most} connections fit the open files limit"
            );
            continue;
        }
        let before = resident();
        open.extend(clients.open(round.tls, count, round.request));
        while listeners.connections() < open.len() {
            std::thread::yield_now();
        }
        let each = resident().saturating_sub(before) as f64 / count as f64 / 1024.0;
        println!("idle connection {what}: {each:.1} KiB resident, {count} connections");
        assert!(
            each < round.most_kib,
            "an idle connection {what} must stay under {} KiB",
            round.most_kib
        );
    }
}

struct Clients {
    connector: SslConnector,
    plain: SocketAddr,
    secure: SocketAddr,
}

impl Clients {
    /// Opens connections and keeps their sockets: what a client needs for TLS would be counted with
    /// what the gateway needs.
    fn open(
        &self,
        tls: Option<SslVersion>,
        count: usize,
        request: Option<&[u8]>,
    ) -> Vec<TcpStream> {
        let one = |_| match tls {
            None => {
                let mut client = TcpStream::connect(self.plain).expect("a connection");
                ask(&mut client, request);
                client
            }
            Some(version) => {
                let socket = TcpStream::connect(self.secure).expect("a connection");
                let kept = socket.try_clone().expect("a descriptor");
                let mut ssl = self.connector.configure().expect("a client");
                ssl.set_verify_hostname(false);
                let mut ssl = ssl.into_ssl("a").expect("a client");
                ssl.set_min_proto_version(Some(version)).expect("known");
                ssl.set_max_proto_version(Some(version)).expect("known");
                if request == Some(HTTP2) {
                    ssl.set_alpn_protos(b"\x02h2").expect("a protocol");
                }
                let mut client = ssl.connect(socket).expect("a handshake");
                ask(&mut client, request);
                kept
            }
        };
        (0..count).map(one).collect()
    }
}

fn connector() -> SslConnector {
    let mut connector = SslConnector::builder(SslMethod::tls()).expect("a client");
    connector.set_verify(SslVerifyMode::NONE);
    connector.build()
}

fn ask(client: &mut (impl Read + Write), request: Option<&[u8]>) {
    if let Some(request) = request {
        client.write_all(request).expect("a request sent");
        if request == HTTP2 {
            return await_head(client);
        }
        let mut answer = [0; 1024];
        let count = client.read(&mut answer).expect("an answer");
        assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
    }
}

/// Reads frames up to the head of an answer.
fn await_head(client: &mut impl Read) {
    const HEADERS: u8 = 1;
    loop {
        let mut frame = [0; 9];
        client.read_exact(&mut frame).expect("a frame");
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        let mut content = vec![0; length as usize];
        client.read_exact(&mut content).expect("its content");
        if frame[3] == HEADERS {
            return;
        }
    }
}

/// Bytes of this process in memory. The clients are part of it, with a descriptor each.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * 4096
}
