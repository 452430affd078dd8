//! Resident memory of an idle keep-alive connection: less than 12 KiB, whatever it did before.
//!
//! Envoy needs about 16 KB for one, Pingora's own loop 28 KB with the same buffer. A promise, so
//! that it is also a test: `cargo bench --bench idle_connections` and `cargo test` both run it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::upstreams::peer::HttpPeer;
use pingora_core::server::configuration::ServerConf;
use pingora_core::{Error, ErrorType, Result};
use pingress::listener::{Connection, ConnectionObserver, ListenerLimits, Listeners};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 2_000;
const WARM_UP: usize = 100;
const MOST_KIB: f64 = 12.0;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

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
    runtime.block_on(listeners.apply(&[SocketAddr::from(([127, 0, 0, 1], 0))]));
    let address = listeners.open_addresses()[0];

    // What the process needs once, whatever the number of connections.
    drop(open(address, WARM_UP.min(most), Some(GET)));
    runtime.block_on(listeners.drained());
    // All stay open to the end, so that no round lives in the memory of an earlier one.
    let mut clients = Vec::new();
    for (what, request) in [
        ("after a GET", Some(GET)),
        ("after a POST", Some(POST)),
        ("before any request", None),
    ] {
        if clients.len() + CONNECTIONS > most {
            println!(
                "idle connection {what}: not measured, {most} connections fit the open files limit"
            );
            continue;
        }
        let before = resident();
        clients.extend(open(address, CONNECTIONS, request));
        while listeners.connections() < clients.len() {
            std::thread::yield_now();
        }
        let each = resident().saturating_sub(before) as f64 / CONNECTIONS as f64 / 1024.0;
        println!("idle connection {what}: {each:.1} KiB resident, {CONNECTIONS} connections");
        assert!(
            each < MOST_KIB,
            "an idle connection must stay under {MOST_KIB} KiB"
        );
    }
}

fn open(address: SocketAddr, count: usize, request: Option<&[u8]>) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut client = TcpStream::connect(address).expect("a connection");
            if let Some(request) = request {
                client.write_all(request).expect("a request sent");
                let mut answer = [0; 1024];
                let count = client.read(&mut answer).expect("an answer");
                assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
            }
            client
        })
        .collect()
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
