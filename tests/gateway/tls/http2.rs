//! HTTP/2 frame by frame, inside TLS and without it: its bounds, and how it ends.

use std::io::{Read, Write};
use std::net::TcpStream;

use boring::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};

use super::*;

const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    content: Vec<u8>,
}

fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn frame(stream: &mut impl Read) -> Frame {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    let mut content = vec![0; number(&head[..3]) as usize];
    stream.read_exact(&mut content).expect("its content");
    Frame {
        kind: head[3],
        flags: head[4],
        stream: number(&head[5..]),
        content,
    }
}

/// The next frame of a kind that is no mere acknowledgement.
fn await_frame(stream: &mut impl Read, kind: u8) -> Frame {
    loop {
        let frame = frame(stream);
        if frame.kind == kind && frame.flags & 1 == 0 {
            return frame;
        }
    }
}

fn rig(settings: &str) -> Gateway {
    let root = Authority::new("root");
    let own = root.issue(&["a.example.com"]);
    let servers = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: own}}\n    - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}\n";
    Start::with(&[
        ("gateway.yaml", servers.to_owned()),
        ("routes.yaml", routes(&["a.example.com"])),
        ("secrets.yaml", secret_yaml("own", Some(&own), &[])),
    ])
    .port(443)
    .settings(settings)
    .ready()
}

fn secure(gateway: &Gateway) -> SslStream<TcpStream> {
    let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x02h2").unwrap();
    let stream = Wire::open(gateway.addr_of(443)).0;
    let ssl = builder.build().configure().unwrap().verify_hostname(false);
    ssl.connect("a.example.com", stream).unwrap()
}

/// The bounds that are said: of settings by their number, and of the connection's window.
fn bounds(mut stream: impl Read + Write) -> (Vec<(u32, u32)>, u32) {
    stream.write_all(OPENING).unwrap();
    let settings = await_frame(&mut stream, SETTINGS).content;
    let window = await_frame(&mut stream, WINDOW_UPDATE);
    assert_eq!(window.stream, 0);
    let mut all: Vec<_> = settings
        .chunks(6)
        .map(|setting| (number(&setting[..2]), number(&setting[2..])))
        .collect();
    all.sort_unstable();
    // Every connection begins with 65,535 (RFC 9113 section 6.9.2).
    (all, number(&window.content) + 65_535)
}

#[test]
fn streams_windows_and_heads_have_bounds_whichever_way_a_connection_came_to_http2() {
    const STREAMS: u32 = 3;
    const WINDOW: u32 = 4;
    const HEAD: u32 = 6;
    let gateway = rig("  limits: {maxHeaderBytes: 10000, maxHeaders: 50}\n");
    // A head is refused with 431 below where the codec would end the stream.
    let head = 10_000 + 50 * 32 + 4096;
    let expected = vec![(STREAMS, 100), (WINDOW, 256 * 1024), (HEAD, head)];
    for (settings, window) in [
        bounds(secure(&gateway)),
        bounds(Wire::open(gateway.addr()).0),
    ] {
        let told: Vec<_> = settings
            .into_iter()
            .filter(|(number, _)| [STREAMS, WINDOW, HEAD].contains(number))
            .collect();
        assert_eq!(told, expected);
        assert_eq!(window, 1024 * 1024);
    }
}

#[test]
fn streams_windows_and_pings_are_settings() {
    const STREAMS: u32 = 3;
    const WINDOW: u32 = 4;
    const PING: u8 = 6;
    let gateway = rig(
        "  http2: {maxConcurrentStreams: 7, initialStreamWindowSize: 70000, initialConnectionWindowSize: 200000, keepaliveInterval: 0.1s, keepaliveTimeout: 0.5s}\n",
    );
    let (settings, window) = bounds(Wire::open(gateway.addr()).0);
    assert!(settings.contains(&(STREAMS, 7)) && settings.contains(&(WINDOW, 70_000)));
    assert_eq!(window, 200_000);
    let mut stream = secure(&gateway);
    stream.write_all(OPENING).unwrap();
    let ping = await_frame(&mut stream, PING);
    let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &ping.content[..]].concat();
    stream.write_all(&answer).unwrap();
    // Answered, it is asked again; then not answered, it is closed.
    await_frame(&mut stream, PING);
    while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
}

#[test]
fn an_idle_connection_ends_when_its_time_is_over_and_is_told_of_the_end_of_the_process() {
    let gateway = rig("  limits: {keepaliveIdle: 0.3s}\n");
    let mut stream = secure(&gateway);
    stream.write_all(OPENING).unwrap();
    await_frame(&mut stream, SETTINGS);
    // NO_ERROR (RFC 9113 section 7).
    assert_eq!(await_frame(&mut stream, GOAWAY).content[4..], [0; 4]);
    while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    // One that agreed on HTTP/2 and never speaks it waits no longer.
    let mut silent = secure(&gateway);
    while silent.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    let mut gateway = rig("  drain: {delay: 0s, deadline: 30s}\n");
    let mut inside = secure(&gateway);
    let mut plain = Wire::open(gateway.addr()).0;
    inside.write_all(OPENING).unwrap();
    plain.write_all(OPENING).unwrap();
    await_frame(&mut inside, SETTINGS);
    await_frame(&mut plain, SETTINGS);
    gateway.signal("TERM");
    await_frame(&mut inside, GOAWAY);
    await_frame(&mut plain, GOAWAY);
    // What the end waits for is an answer to a ping, or that they leave.
    drop((inside, plain));
    assert!(gateway.await_exit().success());
}
