//! HTTP/1.0, HTTP/1.1 and HTTP/2 with prior knowledge on one port.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::rig::*;
use crate::base::CauseKind;
use crate::listener::ListenerLimits;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub async fn http2(
    address: std::net::SocketAddr,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = within(h2::client::handshake(stream)).await.unwrap();
    (
        within(sender.ready()).await.unwrap(),
        tokio::spawn(async move { connection.await.unwrap() }),
    )
}

pub async fn ask(sender: &mut SendRequest<Bytes>, request: Request<()>) -> (StatusCode, String) {
    let (answer, _) = sender.send_request(request, true).unwrap();
    let (head, mut body) = within(answer).await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(chunk) = within(body.data()).await {
        text.extend(chunk.unwrap());
    }
    (head.status, String::from_utf8(text).unwrap())
}

pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_with_prior_knowledge_and_http1_share_a_port() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let (mut sender, _connection) = http2(address).await;
    for number in 1..=3 {
        let (status, body) = ask(&mut sender, get("/")).await;
        assert_eq!(status, 200);
        assert!(
            body.contains(&format!("request {number} at")) && body.ends_with("by HTTP/2"),
            "{body}"
        );
    }
    assert!(
        Client::connect(address)
            .await
            .ask(GET)
            .await
            .ends_with("by HTTP/1")
    );
    assert_eq!(rig.ear.refusals(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preface_in_many_pieces_is_recognised() {
    let (_rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    client.0.set_nodelay(true).unwrap();
    for byte in PREFACE {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut header = [0; 9];
    within(tokio::io::AsyncReadExt::read_exact(
        &mut client.0,
        &mut header,
    ))
    .await
    .unwrap();
    assert_eq!(
        header[3], 4,
        "the first frame of an HTTP/2 server is SETTINGS"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_head_without_its_end_is_cut_by_the_deadline_and_an_idle_connection_is_not() {
    let (rig, address) = Rig::open(impatient()).await;
    let (mut idle, _connection) = http2(address).await;
    ask(&mut idle, get("/")).await;
    let mut client = Client::connect(address).await;
    client.send(PREFACE).await;
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    // HEADERS with one indexed field, END_STREAM but not END_HEADERS.
    client.send([0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82]).await;
    client.rest().await;
    let refusal = rig.ear.refusal().await;
    assert_eq!(
        (refusal.kind, refusal.status),
        (CauseKind::HeaderTimeout, None)
    );
    assert_eq!(ask(&mut idle, get("/")).await.0, 200);
    assert_eq!(rig.ear.refusals(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_over_http2_is_refused_and_recorded() {
    let (rig, address) = Rig::open(ListenerLimits::default()).await;
    let (mut sender, _connection) = http2(address).await;
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("a:1")
        .body(())
        .unwrap();
    assert_eq!(ask(&mut sender, connect).await.0, 405);
    let refusal = rig.ear.refusal().await;
    assert_eq!(
        (refusal.kind, refusal.status),
        (CauseKind::MethodNotAllowed, Some(405))
    );
    assert_eq!(refusal.request_line, "CONNECT a:1 HTTP/2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_shorter_than_the_http2_preface_is_answered() {
    let (_rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_said_all_it_will_say_still_gets_its_answer() {
    let (_rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    client.0.shutdown().await.unwrap();
    assert!(client.rest().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order_and_the_connection_lives_on() {
    let (rig, address) = Rig::open(impatient()).await;
    let mut client = Client::connect(address).await;
    let get = "GET / HTTP/1.1\r\nHost: a\r\nPipelining: on\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nPipelining: on\r\nContent-Length: 3\r\n\r\nabc";
    client
        .send(format!("{get}{post}{get}{}", &post[..20]))
        .await;
    for number in 1..=3 {
        let answer = client.answer().await;
        assert!(answer.contains(&format!("request {number} at")), "{answer}");
    }
    let answer = client.ask(&post[20..]).await;
    assert!(answer.contains("request 4 at"), "{answer}");
    // Nothing is pipelined any more, and the last request had a body: idle all the same.
    let mut slow = Client::connect(address).await;
    slow.send("GET").await;
    assert!(slow.rest().await.starts_with("HTTP/1.1 408"));
    assert!(client.ask(get).await.contains("request 5 at"));
    assert_eq!(rig.ear.refusals(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipelined_head_without_its_end_meets_the_deadline() {
    let (rig, address) = Rig::open(impatient()).await;
    let mut client = Client::connect(address).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nPipelining: on\r\n\r\nGET /un")
        .await;
    assert!(client.answer().await.starts_with("HTTP/1.1 200"));
    assert!(client.rest().await.starts_with("HTTP/1.1 408"));
    assert_eq!(rig.ear.refusal().await.kind, CauseKind::HeaderTimeout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_larger_than_every_buffer_arrives_whole() {
    let (_rig, address) = Rig::open(ListenerLimits::default()).await;
    let mut client = Client::connect(address).await;
    for length in (200..300).chain([4000, 4096, 4097, 5000, 20_000]) {
        let answer = client
            .ask(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(length)
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{length}: {answer}");
    }
}
