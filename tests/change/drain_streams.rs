//! What the end of the process does to answers that may have no end.

use std::time::{Duration, Instant};

use crate::harness::*;

fn streaming(drain: &str) -> (Gateway, Origin) {
    let origin = Origin::start("stream", Behaviour::Stream);
    let gateway = Start::with(&[
        ("gateway.yaml", gateway_yaml(&["*"])),
        (
            "service.yaml",
            service_yaml("stream.internal", &[(origin.port, "v1")]),
        ),
        (
            "routes.yaml",
            routes_yaml("stream", &["*"], &everything_to("stream.internal")),
        ),
    ])
    .settings(&format!("  drain: {{delay: 0s, {drain}}}\n"))
    .ready();
    (gateway, origin)
}

/// How a stream ended.
#[derive(Debug)]
struct End {
    after: Duration,
    /// The gRPC status of its trailers.
    status: Option<String>,
    /// Why it was reset.
    reset: Option<h2::Reason>,
}

/// Opens streams on one HTTP/2 connection, has `opened` called once all have begun, and waits until
/// they and the connection have ended; the connection must do so in good order.
async fn streams(gateway: &Gateway, kinds: &[&str], opened: impl FnOnce()) -> Vec<End> {
    let socket = tokio::net::TcpStream::connect(gateway.addr())
        .await
        .unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut bodies = Vec::new();
    let mut uploads = Vec::new();
    for kind in kinds {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = http::Request::post("http://a.example.com/")
            .header("content-type", *kind)
            .header("te", "trailers")
            .header("content-length", "0");
        let is_grpc = kind.contains("grpc");
        let (answer, upload) = sender
            .send_request(request.body(()).unwrap(), !is_grpc)
            .unwrap();
        // A gRPC client leaves its side of the stream open.
        uploads.push(upload);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "first");
        bodies.push(body);
    }
    drop(sender);
    opened();
    let began = Instant::now();
    let waiting = bodies.into_iter().map(|mut body| {
        tokio::spawn(async move {
            let reset = match body.data().await {
                None => None,
                Some(Err(error)) => Some(error.reason().expect("a reset, not a lost connection")),
                Some(Ok(more)) => panic!("more data: {more:?}"),
            };
            let trailers = match reset {
                None => body.trailers().await.unwrap(),
                Some(_) => None,
            };
            let status = trailers.map(|it| it["grpc-status"].to_str().unwrap().to_owned());
            End {
                after: began.elapsed(),
                status,
                reset,
            }
        })
    });
    let mut ends = Vec::new();
    for end in waiting.collect::<Vec<_>>() {
        ends.push(tokio::time::timeout(PATIENCE, end).await.unwrap().unwrap());
    }
    drop(uploads);
    tokio::time::timeout(PATIENCE, connection)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    ends
}

#[test]
fn long_streams_are_released_evenly_over_the_window_grpc_ones_with_a_status() {
    const COUNT: usize = 80;
    const PARTS: usize = 4;
    let (mut gateway, _origin) = streaming("window: 4s, deadline: 60s, streamAge: 0s");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kinds = ["application/grpc", "text/event-stream"].repeat(COUNT / 2);
    let ends = runtime.block_on(streams(&gateway, &kinds, || {
        gateway.signal("TERM");
        gateway.await_stderr("draining: 1 connections open, 80 of them streams");
    }));
    assert!(gateway.await_exit().success());
    for (kind, end) in kinds.iter().zip(&ends) {
        match *kind {
            "application/grpc" => {
                assert_eq!(end.status.as_deref(), Some("14"), "{end:?}");
                assert_eq!(end.reset, None);
            }
            _ => assert_eq!(end.reset, Some(h2::Reason::CANCEL), "{end:?}"),
        }
    }
    let last = ends.iter().map(|end| end.after).max().unwrap();
    let mut parts = [0; PARTS];
    for end in &ends {
        let part = end.after.as_secs_f64() / last.as_secs_f64() * PARTS as f64;
        parts[(part as usize).min(PARTS - 1)] += 1;
    }
    let even = COUNT / PARTS;
    for part in parts {
        assert!(part * 10 >= even * 8 && part * 10 <= even * 12, "{parts:?}");
    }
}

#[test]
fn an_endless_answer_on_http1_is_released_in_the_window_too() {
    let (mut gateway, _origin) = streaming("window: 0.2s, deadline: 1h, streamAge: 0s");
    let mut client = gateway.client();
    client.write(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    let begun = client.read_exactly(12);
    assert_eq!(begun, "HTTP/1.1 200");
    gateway.signal("TERM");
    let rest = client.read_all();
    assert!(rest.contains("first") && !rest.contains("last"), "{rest}");
    assert!(gateway.await_exit().success());
    gateway.await_log("released_while_draining");
}

#[test]
fn answers_that_are_young_or_say_their_length_are_left_to_end_by_themselves() {
    for (path, age) in [("/", "1h"), ("/length", "0s")] {
        let (mut gateway, origin) =
            streaming(&format!("window: 0s, deadline: 1h, streamAge: {age}"));
        let mut client = gateway.client();
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a.example.com\r\n\r\n").as_bytes());
        assert_eq!(client.read_exactly(12), "HTTP/1.1 200");
        gateway.signal("TERM");
        gateway.await_stderr("draining: 1 connections open, 0 of them streams");
        origin.release();
        assert!(client.read_all().contains("last"), "{path}");
        assert!(gateway.await_exit().success());
    }
}
