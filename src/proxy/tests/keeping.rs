//! What a failure of the origin's does to the client's HTTP/1 connection: nothing.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::origins;
use super::rig::*;
use super::script::{Act, Script};
use crate::plan::{Action, Protocol, RetryPolicy};

/// Path, status and flags of each failure, over the routes of [`failing`].
const FAILURES: [(&str, u16, &str); 7] = [
    ("/uh", 503, "UH"),
    ("/uf", 503, "UF"),
    ("/uc", 503, "UC"),
    ("/ur", 503, "UR"),
    ("/upe", 502, "UPE"),
    ("/ut", 504, "UT"),
    ("/try", 504, "UT"),
];

async fn failing() -> Rig {
    let good = origins::echo().await;
    let (resetting, _) = origins::h2c_resetting(usize::MAX, h2::Reason::INTERNAL_ERROR).await;
    let in_time = |cluster| {
        let mut forward = to(&[(cluster, 1)]);
        forward.timeout = Some(Duration::from_millis(100));
        Action::Forward(forward)
    };
    let mut per_try = to(&[(5, 1)]);
    per_try.retry = Some(std::sync::Arc::new(RetryPolicy {
        retries: 0,
        per_try_timeout: Some(Duration::from_millis(100)),
        ..RetryPolicy::default()
    }));
    Site::of(vec![
        route("/uh", forward(0)),
        route("/uf", forward(1)),
        route("/uc", forward(2)),
        route("/ur", forward(3)),
        route("/upe", forward(4)),
        route("/ut", in_time(5)),
        route("/try", Action::Forward(per_try)),
        route("/", forward(6)),
    ])
    .cluster(Protocol::Http1, &[])
    .cluster(Protocol::Http1, &[origins::nobody().await])
    .cluster(Protocol::Http1, &[Script::of(&[Act::Close]).await.addr])
    .cluster(Protocol::H2c, &[resetting])
    .cluster(
        Protocol::Http1,
        &[origins::answering(b"no HTTP at all\r\n\r\n").await],
    )
    .cluster(Protocol::Http1, &[Script::of(&[Act::Stall]).await.addr])
    .cluster(Protocol::Http1, &[good])
    .serve()
    .await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.com\r\n\r\n")
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: a.com\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_of_an_origin_leaves_the_clients_connection_open() {
    let rig = failing().await;
    let mut client = Client::connect(rig.address).await;
    let own = client.stream.local_addr().unwrap();
    for (path, status, flags) in FAILURES {
        for request in [get(path), post(path, "", "hello")] {
            let answer = client.ask(&request).await;
            assert_eq!(answer.status, status, "{path} {}", answer.body);
            assert_ne!(answer.header("connection"), "close", "{path}");
            let record = rig.record().await;
            assert_eq!((record.status, &*record.flags), (status, flags), "{path}");
            assert_eq!(record.bytes.1, answer.body.len() as u64, "{path}");
            // Nothing is left of it: neither bytes nor a deadline.
            let next = client.ask(post("/next", "", "again")).await;
            assert_eq!(next.status, 200, "after {path}");
            assert_eq!(next.request_line(), "POST /next HTTP/1.1");
            assert!(next.body.ends_with("\n\nagain"), "{}", next.body);
            let record = rig.record().await;
            assert_eq!((&*record.flags, record.bytes.0), ("", 5), "after {path}");
        }
    }
    assert_eq!(client.stream.local_addr().unwrap(), own);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelined_request_behind_a_failure_is_answered() {
    let rig = failing().await;
    for (path, status, _) in FAILURES {
        let mut client = Client::connect(rig.address).await;
        client
            .send([get(path), get("/next"), get(path), get("/last")].concat())
            .await;
        for (expected, line) in [
            (status, ""),
            (200, "GET /next HTTP/1.1"),
            (status, ""),
            (200, "GET /last HTTP/1.1"),
        ] {
            let answer = client.answer(false).await;
            assert_eq!(answer.status, expected, "{path}");
            if expected == 200 {
                assert_eq!(answer.request_line(), line);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_to_close_is_closed_after_a_failure_too() {
    let rig = failing().await;
    for (path, status, _) in FAILURES {
        let mut client = Client::connect(rig.address).await;
        let answer = client.ask(post(path, "Connection: close\r\n", "")).await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, "close")
        );
        assert!(client.is_closed().await, "{path}");
    }
}

/// Sends a head that announces a body, and of that only a part.
async fn cut_upload(address: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(address).await;
    let head = format!("POST {path} HTTP/1.1\r\nHost: a.com\r\nContent-Length: 100000\r\n\r\nxx");
    client.send(head).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_failed_requests_body_is_no_next_request() {
    let rig = failing().await;
    for path in ["/uf", "/ur"] {
        // The rest comes after the answer.
        let mut client = cut_upload(rig.address, path).await;
        assert_eq!(client.answer(false).await.status, 503, "{path}");
        client.send(vec![b'G'; 99_998]).await;
        assert_eq!(client.ask(get("/next")).await.status, 200, "{path}");
        // The rest does not come: the connection is closed in the end, and nothing is answered.
        let mut client = cut_upload(rig.address, path).await;
        assert_eq!(client.answer(false).await.status, 503, "{path}");
        let mut more = Vec::new();
        // Closed or reset.
        let _ = within(client.stream.read_to_end(&mut more)).await;
        assert_eq!(String::from_utf8_lossy(&more), "", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_keeps_failing_holds_nothing_when_it_is_gone() {
    let rig = failing().await;
    let mut client = Client::connect(rig.address).await;
    for _ in 0..3 {
        assert_eq!(client.ask(get("/uf")).await.status, 503);
    }
    // The server's side sees the end and closes its own.
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream)
        .await
        .unwrap();
    assert!(client.is_closed().await);
}
