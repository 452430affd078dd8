//! HTTP/2 on either side, gRPC, WebSocket.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::origins;
use super::rig::*;
use crate::base::CauseKind;
use crate::plan::{Action, Protocol};

type Body = Full<Bytes>;

async fn http2(rig: &Rig) -> SendRequest<Body> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://a.com{path}"))
        .version(Version::HTTP_2)
}

async fn ask(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> (Response<()>, String, Option<HeaderMap>) {
    let response = within(sender.send_request(request)).await.unwrap();
    read(response).await
}

async fn read(response: Response<Incoming>) -> (Response<()>, String, Option<HeaderMap>) {
    let (head, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap();
    let trailers = body.trailers().cloned();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    (Response::from_parts(head, ()), text, trailers)
}

fn received<'a>(body: &'a str, name: &str) -> Vec<&'a str> {
    let prefix = format!("{name}: ");
    body.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_requests_reach_http1_origins_with_host_and_one_cookie() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut sender = http2(&rig).await;
    let mut crumbs = request("POST", "/a/../b?q")
        .body(Body::from("body"))
        .unwrap();
    for crumb in ["a=1", "b=2", "c=3"] {
        crumbs
            .headers_mut()
            .append("cookie", crumb.parse().unwrap());
    }
    let (head, body, _) = ask(&mut sender, crumbs).await;
    assert_eq!(
        (
            head.status().as_u16(),
            head.headers()["server"].to_str().unwrap()
        ),
        (200, "istio-envoy")
    );
    assert_eq!(body.lines().next(), Some("POST /b?q HTTP/1.1"));
    assert_eq!(received(&body, "host"), ["a.com"]);
    assert_eq!(received(&body, "cookie"), ["a=1; b=2; c=3"]);
    assert!(body.ends_with("\n\nbody"), "{body}");
    let record = rig.record().await;
    assert_eq!(
        (record.authority.as_deref(), record.path.as_deref()),
        (Some("a.com"), Some("/a/../b?q"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_requests_reach_http2_origins() {
    let site =
        Site::of(vec![route("/", forward(0))]).cluster(Protocol::H2c, &[origins::echo_h2c().await]);
    let rig = site.serve().await;
    let answer = rig
        .ask("POST /p?q HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(answer.request_line(), "POST http://a.com/p?q HTTP/2.0");
    assert!(answer.body.ends_with("\n\nhi"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_keeps_te_and_trailers_from_end_to_end() {
    let origin = origins::http2(std::sync::Arc::new(|request| {
        Box::pin(async move {
            let te = format!("{:?}", request.headers().get("te"));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "5".parse().unwrap());
            trailers.insert("x-te", te.parse().unwrap());
            Response::new(origins::with_trailers("data", trailers))
        })
    }))
    .await;
    let rig = Site::of(vec![route("/", forward(0))])
        .cluster(Protocol::H2c, &[origin])
        .serve()
        .await;
    let mut sender = http2(&rig).await;
    let call = request("POST", "/s/m")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (head, body, trailers) = ask(&mut sender, call.body(Body::from("x")).unwrap()).await;
    assert_eq!((head.status().as_u16(), &*body), (200, "data"));
    let trailers = trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "5");
    assert_eq!(trailers["x-te"], "Some(\"trailers\")");
    assert_eq!(rig.record().await.grpc_status, Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_grpc_answer_over_http2_is_trailers_only() {
    let rig = Site::of(Vec::new()).serve().await;
    let mut sender = http2(&rig).await;
    let call = request("POST", "/s/m").header("content-type", "application/grpc");
    let response = within(sender.send_request(call.body(Body::from("x")).unwrap()))
        .await
        .unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["grpc-status"]
        ),
        (200, &"12".parse().unwrap())
    );
    // END_STREAM came with the head: gRPC clients take anything else for a broken stream.
    assert!(hyper::body::Body::is_end_stream(response.body()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_heads_are_checked_beyond_what_the_codec_does() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut sender = http2(&rig).await;
    let mut many = request("GET", "/").body(Body::default()).unwrap();
    for _ in 0..101 {
        many.headers_mut().append("cookie", "a=1".parse().unwrap());
    }
    assert_eq!(ask(&mut sender, many).await.0.status(), 431);
    let large = request("GET", "/")
        .header("x", "y".repeat(61 * 1024))
        .body(Body::default())
        .unwrap();
    assert_eq!(ask(&mut sender, large).await.0.status(), 431);
    let long = request("GET", &format!("/{}", "x".repeat(17 * 1024)))
        .body(Body::default())
        .unwrap();
    assert_eq!(ask(&mut sender, long).await.0.status(), 414);
    let bad = Request::get("http://a,b/")
        .version(Version::HTTP_2)
        .body(Body::default())
        .unwrap();
    assert_eq!(ask(&mut sender, bad).await.0.status(), 400);
    let trace = request("TRACE", "/").body(Body::default()).unwrap();
    assert_eq!(ask(&mut sender, trace).await.0.status(), 405);
    // The connection and its other streams are unharmed.
    let fine = request("GET", "/").body(Body::default()).unwrap();
    assert_eq!(ask(&mut sender, fine).await.0.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_the_origin_resets_is_503_ur() {
    let origin = origins::raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    })
    .await;
    let rig = Site::of(vec![route("/", forward(0))])
        .cluster(Protocol::H2c, &[origin])
        .serve()
        .await;
    let answer = rig.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.ends_with("remote reset"), "{}", answer.body);
    let record = rig.record().await;
    assert_eq!(
        (&*record.flags, record.cause),
        ("UR", Some(CauseKind::UpstreamRemoteReset))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_over_http2_is_504_and_spares_the_connection() {
    let origin = origins::raw(|mut stream| async move {
        origins::read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut late = to(&[(0, 1)]);
    late.timeout = Some(std::time::Duration::from_millis(150));
    let rig = Site::of(vec![
        route("/late", Action::Forward(late)),
        route("/", forward(1)),
    ])
    .cluster(Default::default(), &[origin])
    .cluster(Default::default(), &[origins::echo().await])
    .serve()
    .await;
    let mut sender = http2(&rig).await;
    let (head, body, _) = ask(
        &mut sender,
        request("POST", "/late").body(Body::from("x")).unwrap(),
    )
    .await;
    assert_eq!(
        (head.status().as_u16(), &*body),
        (504, "upstream request timeout")
    );
    let (head, ..) = ask(
        &mut sender,
        request("GET", "/").body(Body::default()).unwrap(),
    )
    .await;
    assert_eq!(head.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_may_refuse_a_websocket_and_the_connection_goes_on() {
    let rig = Site::to(origins::echo().await).serve().await;
    let mut client = Client::connect(rig.address).await;
    let head = "GET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    for _ in 0..3 {
        let answer = client.ask(head).await;
        assert_eq!(
            (answer.status, answer.received("upgrade")),
            (200, Some("websocket"))
        );
        assert_eq!(answer.received("sec-websocket-version"), Some("13"));
    }
}

/// Sends back what it gets, over a WebSocket.
async fn websocket_origin() -> std::net::SocketAddr {
    origins::raw(|stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass_even_to_clusters_that_speak_http2_and_outlive_timeouts() {
    let origin = websocket_origin().await;
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let mut forward = to(&[(0, 1)]);
        forward.timeout = Some(std::time::Duration::from_millis(100));
        let rig = Site::of(vec![route("/", Action::Forward(forward))])
            .cluster(protocol, &[origin])
            .serve()
            .await;
        let stream = TcpStream::connect(rig.address).await.unwrap();
        let (mut socket, response) =
            within(tokio_tungstenite::client_async("ws://a.com/chat", stream))
                .await
                .unwrap();
        assert_eq!(response.status(), 101);
        let mut beat = tokio::time::interval(std::time::Duration::from_millis(100));
        for text in ["one", "two", "three", "four"] {
            beat.tick().await;
            within(socket.send(Message::text(text))).await.unwrap();
            let echoed = within(socket.next()).await.unwrap();
            assert_eq!(echoed.unwrap(), Message::text(text));
        }
        within(socket.close(None)).await.unwrap();
        drop(socket);
        assert_eq!(rig.record().await.status, 101, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_websocket_handshake_upgrades() {
    let rig = Site::to(origins::echo().await).serve().await;
    let handshake = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    for head in [
        format!("GET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: websocket\r\n{handshake}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: a.com\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n{handshake}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: tls/1.3\r\nConnection: Upgrade\r\n\r\n".into(),
    ] {
        let answer = rig.ask(&head).await;
        assert_eq!((answer.status, answer.received("upgrade")), (200, None), "{head}");
    }
}
