//! Messages on their way through: connections, framing, hop-by-hop fields, interim responses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::origins;
use super::rig::*;
use crate::base::CauseKind;
use crate::upstream::Ask;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_request_after_request_pipelined_ones_too() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut client = Client::connect(rig.address).await;
    client.send("GET /1 HTTP/1.1\r\nHost: a.com\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\nab\
                 GET /3 HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n").await;
    for path in ["/1", "/2", "/3"] {
        let answer = client.answer(false).await;
        assert!(answer.request_line().contains(path), "{}", answer.body);
    }
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_by_hop_fields_stop_here_in_both_directions() {
    let origin = origins::answering(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Connection: close\r\nTrailer: X\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let rig = Site::of(vec![route("/answer", forward(1)), route("/", forward(0))])
        .cluster(Default::default(), &[origins::echo().await])
        .cluster(Default::default(), &[origin])
        .serve()
        .await;
    let answer = rig
        .ask(
            "GET / HTTP/1.1\r\nHost: a.com\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\
             Proxy-Connection: 1\r\nProxy-Authorization: Basic x\r\nTE: trailers\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: x\r\nX-Kept: 1\r\n\r\n",
        )
        .await;
    for gone in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(answer.received(gone), None, "{gone}");
    }
    assert_eq!(answer.received("x-kept"), Some("1"));
    let answer = rig.get("/answer").await;
    assert_eq!(
        (
            answer.header("x-hop"),
            answer.header("keep-alive"),
            answer.header("trailer")
        ),
        ("", "", "")
    );
    assert_eq!(
        (
            answer.header("proxy-connection"),
            answer.header("connection")
        ),
        ("", "keep-alive")
    );
    assert_eq!((answer.header("x-kept"), &*answer.body), ("1", "ok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_waits_for_100_continue_is_told_to_go_on_and_the_origin_never_asked() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut client = Client::connect(rig.address).await;
    let head =
        "POST / HTTP/1.1\r\nHost: a.com\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(client.ask(head).await.status, 100);
    let answer = client.ask("hi").await;
    assert_eq!((answer.status, answer.received("expect")), (200, None));
    assert!(answer.body.ends_with("\n\nhi"), "{}", answer.body);
    // Nobody is asked to upload what will not be forwarded.
    let head =
        "POST / HTTP/1.1\r\nHost: b.com\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(
        Client::connect(rig.address).await.ask(head).await.status,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_keep_their_bytes_and_are_counted() {
    let rig = Site::to(origins::echo().await).serve().await;
    let body = "x".repeat(200_000);
    let mut chunked =
        String::from("POST / HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.as_bytes().chunks(33_333) {
        chunked.push_str(&format!(
            "{:x}\r\n{}\r\n",
            part.len(),
            "x".repeat(part.len())
        ));
    }
    chunked.push_str("0\r\n\r\n");
    let answer = rig.ask(chunked).await;
    assert!(answer.body.ends_with(&body));
    let record = rig.record().await;
    assert_eq!(record.bytes, (200_000, answer.body.len() as u64));
    assert_eq!(
        (record.status, &*record.flags, &*record.details),
        (200, "", "via_upstream")
    );
    assert_eq!(record.cause, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_never_sent_twice_and_a_get_that_met_a_closing_connection_is() {
    let seen = Arc::new(AtomicUsize::new(0));
    let posts = seen.clone();
    // Each connection serves one request in full, then closes on the second without a word.
    let origin = origins::raw(move |mut stream| {
        let posts = posts.clone();
        async move {
            for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", ""] {
                let head = origins::read_head(&mut stream).await;
                posts.fetch_add(usize::from(head.starts_with("POST")), Ordering::Relaxed);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    let rig = Site::to(origin).serve().await;
    let mut sent = 0;
    // Whether a pooled connection is met is up to the pool; soon enough one is.
    let unlucky = within(async {
        loop {
            assert_eq!(rig.get("/").await.status, 200);
            let head = "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 0\r\n\r\n";
            let answer = rig.ask(head).await;
            sent += 1;
            if answer.status != 200 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(unlucky.status, 503);
    assert!(
        unlucky.body.ends_with("connection termination"),
        "{}",
        unlucky.body
    );
    assert_eq!(seen.load(Ordering::Relaxed), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_recorded_and_its_endpoint_is_free_again() {
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let origin = origins::raw(move |mut stream| {
        let told = told.clone();
        async move {
            origins::read_head(&mut stream).await;
            told.send(()).unwrap();
            let _ = stream.read_u8().await;
        }
    })
    .await;
    let rig = Site::to(origin).serve().await;
    let mut client = Client::connect(rig.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
    within(hears.recv()).await.unwrap();
    drop(client);
    let record = rig.record().await;
    assert_eq!(
        (record.status, &*record.flags, record.cause),
        (0, "DC", Some(CauseKind::ClientDisconnect))
    );
    let serving = rig.serving.load_full();
    let pick = serving
        .cluster(crate::plan::ClusterId(0))
        .unwrap()
        .pick(&Ask::default())
        .unwrap();
    let active = &pick.endpoint().active;
    assert_eq!(active.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_stops_within_its_body_is_not_taken_for_complete() {
    let origin = origins::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    let rig = Site::to(origin).serve().await;
    let answer = rig.get("/").await;
    assert_eq!((answer.status, answer.complete), (200, false));
    let record = rig.record().await;
    assert_eq!((record.status, &*record.flags), (200, "UC"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_idles_too_long_is_closed() {
    let mut site = Site::to(origins::echo().await);
    site.limits.keepalive_idle = std::time::Duration::from_millis(200);
    let rig = site.serve().await;
    let mut client = Client::connect(rig.address).await;
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n")
            .await
            .status,
        200
    );
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_step_costs_no_other_request_of_its_connection() {
    let rig = Site::to(origins::echo().await).serve().await;
    rig.records
        .panics
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let mut client = Client::connect(rig.address).await;
    for _ in 0..2 {
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(rig.record().await.status, 200);
}
