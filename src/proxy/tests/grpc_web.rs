//! gRPC-Web clients and gRPC origins, with real frames.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::origins;
use super::rig::*;
use crate::plan::Protocol;

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const TRAILERS: &str = "grpc-status:0\r\ngrpc-message:fine\r\n";

fn frame(flags: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flags], &length.to_be_bytes()[..], message].concat()
}

/// A gRPC service that sends each part of the request back as it comes, after a message with the
/// head it received; then trailers. One without `te: trailers` gets none.
async fn echo() -> std::net::SocketAddr {
    origins::http2(Arc::new(|request| {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if head.uri.path() == "/no/grpc" {
                let mut response = Response::new(origins::full("<html>"));
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                return response;
            }
            if head.uri.path() == "/no/message" {
                let mut response = Response::new(origins::full(""));
                let headers = response.headers_mut();
                headers.insert("content-type", "application/grpc".parse().unwrap());
                headers.insert("grpc-status", "5".parse().unwrap());
                return response;
            }
            let value = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
            let told = [
                value("content-type"),
                value("te"),
                value("grpc-accept-encoding"),
                value("content-length"),
            ];
            let first = Frame::data(Bytes::from(frame(0, format!("{told:?}").as_bytes())));
            let rest = futures_util::stream::unfold(Some(body), |body| async move {
                let mut body = body?;
                match body.frame().await {
                    Some(Ok(part)) => Some((part, Some(body))),
                    Some(Err(_)) => None,
                    None => {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        trailers.insert("grpc-message", "fine".parse().unwrap());
                        Some((Frame::trailers(trailers), None))
                    }
                }
            });
            let all = futures_util::StreamExt::chain(futures_util::stream::iter([first]), rest);
            let body = StreamBody::new(futures_util::StreamExt::map(all, Ok));
            let mut response = Response::new(BodyExt::boxed(body));
            let kind = "application/grpc".parse().unwrap();
            response.headers_mut().insert("content-type", kind);
            response
        })
    }))
    .await
}

const TOLD: &str = "[Some(\"application/grpc\"), Some(\"trailers\"), Some(\"identity\"), None]";

async fn rig() -> Rig {
    let mut site = Site::of(vec![route("/", forward(0))]).cluster(Protocol::H2c, &[echo().await]);
    site.grpc_web = true;
    site.serve().await
}

/// Asks over HTTP/1.1 or HTTP/2: head, body, and whether trailers came.
async fn call(
    rig: &Rig,
    http2: bool,
    path: &str,
    [kind, accept]: [&str; 2],
    body: impl Into<Bytes>,
) -> (http::response::Parts, Bytes, bool) {
    let stream = TokioIo::new(TcpStream::connect(rig.address).await.unwrap());
    let request = Request::post(format!("http://a.com{path}"))
        .header("host", "a.com")
        .header("content-type", kind)
        .header("accept", accept)
        .body(Full::new(body.into()))
        .unwrap();
    let response = if http2 {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        within(sender.send_request(request)).await.unwrap()
    } else {
        let handshake = hyper::client::conn::http1::handshake(stream);
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        within(sender.send_request(request)).await.unwrap()
    };
    let (head, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap();
    let has_trailers = body.trailers().is_some();
    (head, body.to_bytes(), has_trailers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_grpc_web_reaches_its_origin_in_grpc_and_its_trailers_come_in_the_body() {
    let rig = rig().await;
    let sent = frame(0, b"hello");
    let frames = [
        frame(0, TOLD.replace("None", "Some(\"10\")").as_bytes()),
        sent.clone(),
        frame(0x80, TRAILERS.as_bytes()),
    ];
    for http2 in [false, true] {
        let (head, body, trailers) = call(&rig, http2, "/s/m", [BINARY, "*/*"], sent.clone()).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["content-type"], BINARY);
        assert!(!head.headers.contains_key("content-length"));
        assert_eq!(body, frames.concat());
        assert!(!trailers);
        assert_eq!(rig.record().await.grpc_status, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_text_is_translated_from_base64_and_answered_in_it_if_that_is_asked_for() {
    let rig = rig().await;
    let sent = [frame(0, b"hello"), frame(0, b"world!")];
    let text: String = sent.iter().map(|frame| STANDARD.encode(frame)).collect();
    let frames = [
        frame(0, TOLD.as_bytes()),
        sent[0].clone(),
        sent[1].clone(),
        frame(0x80, TRAILERS.as_bytes()),
    ];
    for http2 in [false, true] {
        let (head, body, trailers) = call(&rig, http2, "/s/m", [TEXT, TEXT], text.clone()).await;
        assert_eq!(
            head.headers["content-type"],
            "application/grpc-web-text+proto"
        );
        let expected: String = frames.iter().map(|frame| STANDARD.encode(frame)).collect();
        assert_eq!(body, expected);
        assert!(!trailers);
        // What is written says nothing of what is read.
        let (head, body, _) = call(&rig, http2, "/s/m", [TEXT, BINARY], text.clone()).await;
        assert_eq!(head.headers["content-type"], BINARY);
        assert_eq!(body, frames.concat());
    }
}

/// The chunks of a response that have come so far.
fn unchunked(response: &str) -> String {
    let mut text = String::new();
    let mut rest = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    while let Some((size, after)) = rest.split_once("\r\n")
        && let Some(chunk) = after.get(..usize::from_str_radix(size, 16).unwrap())
    {
        text += chunk;
        rest = after.get(chunk.len() + 2..).unwrap_or_default();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_pass_both_ways_while_the_call_is_open() {
    let rig = rig().await;
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    let head = format!(
        "POST /s/m HTTP/1.1\r\nHost: a.com\r\nContent-Type: {TEXT}\r\nAccept: {TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut received = String::new();
    for message in ["one", "two", "three"] {
        let text = STANDARD.encode(frame(0, message.as_bytes()));
        // In two pieces that are no whole groups of characters.
        for piece in [&text[..5], &text[5..]] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            client.write_all(chunk.as_bytes()).await.unwrap();
        }
        while !unchunked(&received).contains(&text) {
            let mut bytes = [0; 4096];
            let count = within(client.read(&mut bytes)).await.unwrap();
            assert!(count > 0, "{received}");
            received += &String::from_utf8_lossy(&bytes[..count]);
        }
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(rig.record().await.grpc_status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_grpc_gets_a_grpc_status_and_no_body() {
    let rig = rig().await;
    for http2 in [false, true] {
        let (head, body, _) = call(&rig, http2, "/no/grpc", [BINARY, "*/*"], "").await;
        assert_eq!(head.status, 503);
        assert_eq!(head.headers["grpc-status"], "14");
        assert_eq!(head.headers["content-type"], BINARY);
        assert!(body.is_empty());
        // gRPC without a message says all in its head.
        let (head, body, _) = call(&rig, http2, "/no/message", [BINARY, "*/*"], "").await;
        assert_eq!((head.status.as_u16(), body.len()), (200, 0));
        assert_eq!(head.headers["grpc-status"], "5");
    }
    // Nor is what is answered here.
    let mut site = Site::of(Vec::new());
    site.grpc_web = true;
    let rig = site.serve().await;
    let (head, body, _) = call(&rig, false, "/", [TEXT, TEXT], "").await;
    assert_eq!(head.status, 404);
    assert_eq!(head.headers["grpc-status"], "12");
    assert_eq!(head.headers["grpc-message"], "");
    assert_eq!(
        head.headers["content-type"],
        "application/grpc-web-text+proto"
    );
    assert!(body.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_no_base64_is_answered_400_and_its_call_is_not_completed() {
    let rig = rig().await;
    for body in ["a!b=", "AAAAA"] {
        let (head, _, _) = call(&rig, false, "/s/m", [TEXT, TEXT], body).await;
        assert_eq!(head.status, 400, "{body}");
        assert_eq!(head.headers["grpc-status"], "13");
        assert_eq!(
            head.headers["grpc-message"],
            "Bad gRPC-web request, invalid base64 data."
        );
        assert_eq!(rig.record().await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_requests_and_other_listeners_are_left_alone() {
    let rig = rig().await;
    let (head, body, trailers) = call(
        &rig,
        true,
        "/s/m",
        ["application/grpc", TEXT],
        frame(0, b"x"),
    )
    .await;
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert!(body.ends_with(b"x"));
    assert!(trailers);
    let origin = origins::echo().await;
    let rig = Site::to(origin).serve().await;
    let (_, body, _) = call(&rig, false, "/s/m", [TEXT, TEXT], "AAAAAAF4").await;
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains(&format!("content-type: {TEXT}\n")), "{body}");
    assert!(body.ends_with("\n\nAAAAAAF4"), "{body}");
}
