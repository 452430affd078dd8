//! Another binary in place of the running one: nothing is lost, and what cannot serve the same does
//! not take over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::Request;

use crate::harness::*;

/// One gibibyte: in flight from before the first upgrade to after the last.
const DOWNLOAD: usize = 1 << 30;
const UPGRADES: usize = 10;

fn site(name: &str, port: u16, protocol: &str) -> [(String, String); 2] {
    let host = format!("{name}.internal");
    let service = service_yaml(&host, &[(port, "v1")])
        .replace("protocol: HTTP", &format!("protocol: {protocol}"));
    let routes = routes_yaml(
        name,
        &[&format!("{name}.example.com")],
        &everything_to(&host),
    );
    [
        (format!("{name}-service.yaml"), service),
        (format!("{name}-routes.yaml"), routes),
    ]
}

fn start(sites: &[(&str, u16, &str)], settings: &str) -> Start {
    let mut start = Start::with(&[("gateway.yaml", gateway_yaml(&["*"]))]).settings(settings);
    for (name, port, protocol) in sites {
        start.files.extend(site(name, *port, protocol));
    }
    start
}

/// Whether load goes on, and how much of each kind was done.
#[derive(Clone, Default)]
struct Going {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Going {
    /// Counts one success; false once it is time to stop.
    fn on(&self) -> bool {
        self.done.fetch_add(1, Ordering::SeqCst);
        !self.stop.load(Ordering::SeqCst)
    }

    fn finish(&self, worker: JoinHandle<()>) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        worker.join().unwrap();
        self.done.load(Ordering::SeqCst)
    }
}

fn keep_alive(address: SocketAddr, going: Going) {
    let mut client = Client::connect(address);
    loop {
        let answer = client.get("plain.example.com", "/", &[]);
        assert_eq!(answer.status, 200);
        if answer.header("connection") == Some("close") {
            client = Client::connect(address);
        }
        if !going.on() {
            return;
        }
    }
}

fn fresh(address: SocketAddr, going: Going) {
    loop {
        let answer = Client::connect(address).get("plain.example.com", "/", &["Connection: close"]);
        assert_eq!(answer.status, 200);
        if !going.on() {
            return;
        }
    }
}

fn websocket(address: SocketAddr, going: Going) {
    let mut stream = open_websocket(address);
    loop {
        stream.write_all(b"ping").unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"ping");
        if !going.on() {
            return;
        }
    }
}

fn open_websocket(address: SocketAddr) -> TcpStream {
    let mut client = Client::connect(address);
    let upgrade = ["Connection: upgrade", "Upgrade: websocket"];
    assert_eq!(client.get("plain.example.com", "/", &upgrade).status, 101);
    client.into_stream()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn connect(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Requests over HTTP/2; a new connection whenever the gateway has said GOAWAY.
fn http2(address: SocketAddr, going: Going) {
    runtime().block_on(async {
        let mut client = connect(address).await;
        loop {
            client = match client.ready().await {
                Ok(client) => client,
                Err(_) => connect(address).await,
            };
            let request = Request::get("http://plain.example.com/").body(()).unwrap();
            let (answer, _) = client.send_request(request, true).unwrap();
            let mut answer = match answer.await {
                Ok(answer) => answer,
                // The GOAWAY was on its way: what is beyond it was not sent (RFC 9113 section 6.8).
                Err(error)
                    if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) =>
                {
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            assert_eq!(answer.status(), 200);
            while let Some(piece) = answer.body_mut().data().await {
                let piece = piece.unwrap();
                let _ = answer
                    .body_mut()
                    .flow_control()
                    .release_capacity(piece.len());
            }
            if !going.on() {
                return;
            }
        }
    });
}

/// One gRPC call that sends and receives all the time.
fn grpc_stream(address: SocketAddr, going: Going) {
    runtime().block_on(async {
        let mut client = connect(address).await.ready().await.unwrap();
        let request = Request::post("http://grpc.example.com/chat.Chat/Talk")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (answer, mut sending) = client.send_request(request, false).unwrap();
        let message = Bytes::from_static(b"\0\0\0\0\x02hi");
        sending.send_data(message.clone(), false).unwrap();
        let mut answer = answer.await.unwrap().into_body();
        loop {
            let mut echo = Vec::new();
            while echo.len() < message.len() {
                let piece = answer.data().await.unwrap().unwrap();
                answer.flow_control().release_capacity(piece.len()).unwrap();
                echo.extend_from_slice(&piece);
            }
            assert_eq!(echo, message);
            if !going.on() {
                break;
            }
            sending.send_data(message.clone(), false).unwrap();
        }
        sending.send_data(Bytes::new(), true).unwrap();
        while let Some(rest) = answer.data().await {
            rest.unwrap();
        }
        let trailers = answer.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    });
}

/// An HTTP/2 origin that sends back what it gets, and a gRPC status at the end.
fn echoing_grpc() -> u16 {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        runtime().block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        tokio::spawn(async move {
                            let head = http::Response::builder()
                                .header("content-type", "application/grpc")
                                .body(())
                                .unwrap();
                            let mut answer = respond.send_response(head, false).unwrap();
                            let mut body = request.into_body();
                            while let Some(piece) = body.data().await {
                                let piece = piece.unwrap();
                                body.flow_control().release_capacity(piece.len()).unwrap();
                                answer.send_data(piece, false).unwrap();
                            }
                            let mut trailers = http::HeaderMap::new();
                            trailers.insert("grpc-status", "0".parse().unwrap());
                            answer.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
    });
    port
}

/// The download is made of pieces, each with its number in front and the same bytes behind.
const PIECE: usize = 1 << 18;

fn piece(number: usize) -> Vec<u8> {
    let mut piece = vec![0xa5; PIECE];
    piece[..8].copy_from_slice(&number.to_be_bytes());
    piece
}

/// An origin that sends the download's first half at once, and the rest when told.
fn download_origin(more: Receiver<()>) -> u16 {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {DOWNLOAD}\r\n\r\n"
        )
        .unwrap();
        for number in 0..DOWNLOAD / PIECE {
            if number == DOWNLOAD / PIECE / 2 {
                // As long as the upgrades take, which on a busy machine is long.
                more.recv().unwrap();
            }
            stream.write_all(&piece(number)).unwrap();
        }
    });
    port
}

/// Reads the download to its end; whether every byte is right.
fn download(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: large.example.com\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"));
    let mut got = vec![0; PIECE];
    for number in 0..DOWNLOAD / PIECE {
        stream.read_exact(&mut got).unwrap();
        assert!(got == piece(number), "piece {number}");
    }
    assert_eq!(stream.read(&mut got).unwrap(), 0);
}

#[test]
fn ten_upgrades_in_a_row_lose_no_request_no_connection_and_no_byte() {
    let plain = Origin::echo("plain");
    let (go_on, more) = channel();
    let sites = [
        ("plain", plain.port, "HTTP"),
        ("grpc", echoing_grpc(), "GRPC"),
        ("large", download_origin(more), "HTTP"),
    ];
    let settings = "  drain: {delay: 0s, window: 1h, deadline: 1h}\n";
    let gateway = start(&sites, settings).ready();
    let address = gateway.addr();
    let kinds: [fn(SocketAddr, Going); 5] = [keep_alive, fresh, websocket, http2, grpc_stream];
    let workers = kinds.map(|kind| {
        let going = Going::default();
        let own = going.clone();
        let worker = std::thread::spawn(move || kind(address, own));
        await_until("the load has begun", || {
            (going.done.load(Ordering::SeqCst) > 0).then_some(())
        });
        (going, worker)
    });
    let large = std::thread::spawn(move || download(address));
    for _ in 0..UPGRADES {
        let (worked, said) = gateway.upgrade();
        assert!(worked, "{said}");
        // Each kind gets something done between two upgrades.
        for (going, worker) in &workers {
            let before = going.done.load(Ordering::SeqCst);
            await_until("the load goes on", || {
                let goes_on = going.done.load(Ordering::SeqCst) > before + 1;
                (goes_on || worker.is_finished()).then_some(())
            });
        }
    }
    go_on.send(()).unwrap();
    for (going, worker) in workers {
        assert!(going.finish(worker) > UPGRADES);
    }
    large.join().unwrap();
}

#[test]
fn sigquit_starts_the_successor_and_the_old_process_ends() {
    let plain = Origin::echo("plain");
    let settings = "  drain: {delay: 0s, window: 0s, deadline: 30s}\n";
    let mut gateway = start(&[("plain", plain.port, "HTTP")], settings).ready();
    gateway.signal("QUIT");
    let line = gateway.await_stderr("as process ");
    let pid = line.rsplit(' ').next().unwrap().parse().unwrap();
    gateway.adopt(pid);
    assert!(gateway.await_exit().success());
    assert_eq!(gateway.get("plain.example.com", "/").status, 200);
    assert_eq!(gateway.try_status("/healthz/ready"), Some(200));
    // The successor can be upgraded as its predecessor was.
    let (worked, said) = gateway.upgrade();
    assert!(worked, "{said}");
    assert_eq!(gateway.get("plain.example.com", "/").status, 200);
}

/// A gateway whose upgrade fails after `spoil`: it says why and serves on.
fn upgrade_fails(start: Start, spoil: impl FnOnce(&Gateway), reason: &str) {
    let mut gateway = start.ready();
    spoil(&gateway);
    for _ in 0..2 {
        let (worked, said) = gateway.upgrade();
        assert!(!worked && said.contains(reason), "{said}");
        assert_eq!(gateway.get("plain.example.com", "/").status, 200);
        assert_eq!(gateway.try_status("/healthz/ready"), Some(200));
    }
    assert!(gateway.is_running());
}

#[test]
fn a_new_program_that_cannot_start_leaves_the_old_one_serving() {
    let plain = Origin::echo("plain");
    upgrade_fails(
        start(&[("plain", plain.port, "HTTP")], "").with_own_copy(),
        |gateway| {
            // Renamed into place, as package managers do it.
            let next = |name| gateway.folder.path().join(name);
            std::fs::write(next("text"), "#!/bin/sh\nexit 3\n").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(next("text"), mode).unwrap();
            install(&next("text"), &next("program"));
            std::fs::rename(next("program"), &gateway.program).unwrap();
        },
        "ended at once (exit status: 3)",
    );
}

#[test]
fn a_new_program_that_is_gone_leaves_the_old_one_serving() {
    let plain = Origin::echo("plain");
    upgrade_fails(
        start(&[("plain", plain.port, "HTTP")], "").with_own_copy(),
        |gateway| std::fs::remove_file(&gateway.program).unwrap(),
        "cannot start",
    );
}

#[test]
fn manifests_that_a_new_process_cannot_read_leave_the_old_one_serving() {
    let plain = Origin::echo("plain");
    upgrade_fails(
        start(&[("plain", plain.port, "HTTP")], ""),
        |gateway| gateway.write("broken.yaml", "kind: [\n"),
        "manifests cannot all be read",
    );
}

#[test]
fn a_rule_served_from_before_it_was_broken_keeps_the_old_process_serving() {
    let plain = Origin::echo("plain");
    upgrade_fails(
        start(&[("plain", plain.port, "HTTP")], ""),
        |gateway| {
            let [_, (name, routes)] = site("plain", plain.port, "HTTP");
            gateway.write(&name, &routes.replace("route:", "rout:"));
            gateway.await_stderr("ServesPreviousVersion");
        },
        "an earlier version is served",
    );
}

#[test]
fn a_port_that_another_program_took_meanwhile_leaves_the_old_one_serving() {
    let plain = Origin::echo("plain");
    let taken = TcpListener::bind(loopback(0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    upgrade_fails(
        start(&[("plain", plain.port, "HTTP")], ""),
        |gateway| {
            let text = std::fs::read_to_string(gateway.settings()).unwrap();
            let own = format!("127.0.0.1:{}", gateway.admin_addr().port());
            let moved = text.replace(&own, &format!("127.0.0.1:{port}"));
            std::fs::write(gateway.settings(), moved).unwrap();
        },
        "cannot listen on",
    );
}

#[test]
fn a_killed_gateway_leaves_nothing_that_keeps_the_next_from_starting_or_upgrading() {
    let plain = Origin::echo("plain");
    let mut gateway = start(&[("plain", plain.port, "HTTP")], "").ready();
    gateway.signal("KILL");
    gateway.await_exit();
    gateway.start_again();
    let (worked, said) = gateway.upgrade();
    assert!(worked, "{said}");
    assert_eq!(gateway.get("plain.example.com", "/").status, 200);
}

#[test]
fn nobody_else_may_enter_the_folder_of_the_upgrade() {
    use std::os::unix::fs::PermissionsExt;
    let plain = Origin::echo("plain");
    let gateway = start(&[("plain", plain.port, "HTTP")], "").ready();
    let folder = gateway.folder.path().join("upgrade");
    let facts = await_until("the folder is there", || std::fs::metadata(&folder).ok());
    assert_eq!(facts.permissions().mode() & 0o777, 0o700);
}

#[test]
fn without_a_running_gateway_an_upgrade_says_so() {
    let mut gateway = start(&[], "").ready();
    gateway.signal("TERM");
    gateway.await_exit();
    let (worked, said) = gateway.try_upgrade();
    assert!(!worked && said.contains("no gateway answers"), "{said}");
}
