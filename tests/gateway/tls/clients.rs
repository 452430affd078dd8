//! Clients of the protocols inside TLS, in implementations other than ours: h2load, gRPC's own, and
//! a WebSocket library at both ends.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use super::*;

const SIMPLE: &str = "mode: SIMPLE, credentialName: own";

/// A gateway that serves `a.example.com` in TLS and sends on as `http`, a list of rules, says.
fn forwarding(root: &Authority, http: &str, services: &[String]) -> Gateway {
    let own = root.issue(&["a.example.com"]);
    Start::with(&[
        (
            "gateway.yaml",
            gateway(&[("https", &["a.example.com"], SIMPLE)]),
        ),
        ("routes.yaml", routes_yaml("r", &["a.example.com"], http)),
        ("services.yaml", services.join("---\n")),
        ("secrets.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .port(443)
    .ready()
}

#[test]
fn h2load_gets_every_answer_over_either_protocol() {
    let root = Authority::new("root");
    let origin = Origin::echo("origin");
    let gateway = forwarding(
        &root,
        &everything_to("origin.test"),
        &[service_yaml("origin.test", &[(origin.port, "")])],
    );
    let port = gateway.addr_of(443).port();
    let target = format!("--connect-to=127.0.0.1:{port}");
    let url = format!("https://a.example.com:{port}/");
    for (more, protocol) in [(&["-m", "20"][..], "h2"), (&["--h1"], "http/1.1")] {
        let output = Command::new("h2load")
            .args(["-n", "1000", "-c", "10", &target])
            .args(more)
            .arg(&url)
            .output()
            .unwrap_or_else(|error| panic!("h2load must be installed (see `make deps`): {error}"));
        let said = String::from_utf8_lossy(&output.stdout);
        let all = "requests: 1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(said.contains(all), "{protocol}: {said}");
        let agreed = format!("Application protocol: {protocol}");
        assert!(said.contains(&agreed), "{protocol}: {said}");
    }
    assert_eq!(origin.count(), 2_000);
}

/// Python with gRPC as `make test` puts it there, or its own.
fn python(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("tests/gateway/tls").join(script));
    let ours = root.join("target/tools/grpc");
    if ours.exists() {
        command.env("PYTHONPATH", ours);
    }
    command
}

#[test]
fn grpcs_own_client_and_server_understand_each_other_in_all_four_kinds_of_call() {
    let root = Authority::new("root");
    let mut server = python("grpc_peer.py")
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 must be installed (see `make deps`)");
    let mut port = String::new();
    let mut said = BufReader::new(server.stdout.take().unwrap());
    said.read_line(&mut port).unwrap();
    let port: u16 = port
        .trim()
        .parse()
        .expect("gRPC must be there for python3: `make target/tools/grpc`");
    let service = |host: &str, port| {
        service_yaml(host, &[(port, "")])
            .replace("name: http\n", "name: grpc\n")
            .replace("protocol: HTTP\n", "protocol: GRPC\n")
            .replace("        http: ", "        grpc: ")
    };
    let to = |path: &str, host: &str| {
        format!(
            "    - match: [{{uri: {{prefix: {path}}}}}]\n      route: [{{destination: {{host: {host}}}}}]\n"
        )
    };
    let rules = to("/test.Echo/", "echo.test") + &to("/gone.Echo/", "gone.test");
    let services = [
        service("echo.test", port),
        service("gone.test", free_port()),
    ];
    let gateway = forwarding(&root, &rules, &services);
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.crt");
    std::fs::write(&authority, &root.pem).unwrap();
    let output = python("grpc_peer.py")
        .args(["call", &gateway.addr_of(443).port().to_string()])
        .arg(&authority)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let outcomes: Value = serde_json::from_slice(&output.stdout).expect(&errors);
    assert_eq!(
        outcomes,
        json!({
            "unary": ["HELLO", {"began": "yes", "ended": "yes"}],
            "down": ["message 0", "message 1", "message 2"],
            "up": "5000000 bytes",
            "both": ["MESSAGE 0", "MESSAGE 1", "MESSAGE 2", "MESSAGE 3", "MESSAGE 4"],
            "failed": ["FAILED_PRECONDITION", "as asked: 100 % ü", {"why": "asked for"}],
            "late": "DEADLINE_EXCEEDED",
            "cancelled": "yes",
            "unrouted": "UNIMPLEMENTED",
            "unreachable": "UNAVAILABLE",
        })
    );
    // It ends with its standard input.
    drop(server.stdin.take());
    server.wait().unwrap();
}

/// Sends every message back, and ends the connection as it is told to.
fn websocket_origin() -> u16 {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = |stream: TcpStream| -> tungstenite::Result<()> {
        let mut socket = tungstenite::accept(stream).unwrap();
        loop {
            let message = socket.read()?;
            if message == Message::text("leave") {
                socket.close(Some(CloseFrame {
                    code: CloseCode::from(4001),
                    reason: "as asked".into(),
                }))?;
            } else if message.is_text() || message.is_binary() {
                socket.send(message)?;
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

#[test]
fn a_websocket_librarys_messages_pings_and_closes_pass_unchanged_in_both_directions() {
    let root = Authority::new("root");
    let port = websocket_origin();
    let gateway = forwarding(
        &root,
        &everything_to("origin.test"),
        &[service_yaml("origin.test", &[(port, "")])],
    );
    let open = || {
        let open = Asking::of(gateway.addr_of(443), "a.example.com")
            .connect()
            .expect("a handshake");
        let (socket, answer) =
            tungstenite::client("wss://a.example.com/talk", open.stream).expect("an upgrade");
        assert_eq!(answer.status(), 101);
        socket
    };
    let mut socket = open();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for message in [
        Message::text("hello"),
        Message::binary(large),
        Message::text(""),
    ] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message);
    }
    socket.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(
        socket.read().unwrap(),
        Message::Pong("are you there".into())
    );
    socket.send(Message::text("leave")).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!((u16::from(frame.code), &*frame.reason), (4001, "as asked"));

    let mut socket = open();
    socket
        .close(Some(CloseFrame {
            code: CloseCode::Away,
            reason: "gone".into(),
        }))
        .unwrap();
    // The origin answers with the same.
    let Message::Close(Some(frame)) = socket.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(frame.code, CloseCode::Away);
    socket.get_mut().get_mut().flush().unwrap();
}
