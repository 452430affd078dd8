//! gRPC to origins behind TLS, from clients in the mesh's own protocol and from browsers.

use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Bytes, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use super::*;

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

#[test]
fn grpc_streams_pass_over_tls_with_their_trailers() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let strange = TlsOrigin::start(Shows::of(&Authority::new("other").issue(&[HOST])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let to = [
        To::new("right", origin.port, policy).over("GRPC"),
        To::new("strange", strange.port, policy).over("GRPC"),
    ];
    let routes = "    - match: [{uri: {prefix: /echo.Echo/}, headers: {to: {exact: strange}}}]\n      route: [{destination: {host: strange.internal}}]\n    - route: [{destination: {host: right.internal}}]\n";
    let mut start = prepare(&to, &[ca(&root)]);
    for (name, text) in &mut start.files {
        if name == "routes.yaml" {
            *text = routes_yaml("vs", &["*.com"], routes);
        }
    }
    let gateway = start.ready();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(stream_to_both(gateway.addr()));
    let seen = origin.seen().pop().unwrap();
    assert_eq!(seen.protocol.as_deref(), Some("h2"));
    assert_eq!((origin.requests(), strange.requests()), (1, 0));
}

async fn stream_to_both(gateway: std::net::SocketAddr) {
    let stream = tokio::net::TcpStream::connect(gateway).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut call = |to: &str| {
        let (sender, receiver) = mpsc::unbounded_channel::<Vec<u8>>();
        let messages = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let message = receiver.recv().await?;
            let frame = Frame::data(Bytes::from(message));
            Some((Ok::<_, std::convert::Infallible>(frame), receiver))
        });
        let request = Request::post(format!("http://{HOST}/echo.Echo/Stream"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("to", to)
            .body(StreamBody::new(Box::pin(messages)))
            .unwrap();
        (sender, client.send_request(request))
    };
    let (sender, response) = call("right");
    let mut response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    for message in ["one", "two", "three"] {
        sender.send(frame(message.as_bytes())).unwrap();
        let part = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(part.into_data().unwrap(), frame(message.as_bytes()));
    }
    drop(sender);
    let end = response.body_mut().collect().await.unwrap();
    let trailers = end.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-te"], "trailers");
    // Where the origin is not the one that is meant, the call fails in gRPC's way.
    let (sender, response) = call("strange");
    drop(sender);
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
}

#[test]
fn a_port_for_grpc_web_translates_it_and_another_one_does_not_unless_the_settings_say_so() {
    let root = Authority::new("root");
    let origin = TlsOrigin::start(Shows::of(&root.issue(&[HOST])));
    let policy = "tls: {mode: SIMPLE, credentialName: ca}";
    let to = [To::new("right", origin.port, policy).over("GRPC")];
    let gateways = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n    - {port: {number: 81, name: web, protocol: grpc-web}, hosts: ['*']}\n";
    let routes = "    - route: [{destination: {host: right.internal}}]\n";
    for (settings, at_80) in [("", false), ("  grpcWeb: true\n", true)] {
        let mut start = prepare(&to, &[ca(&root)]).port(81).settings(settings);
        for (name, text) in &mut start.files {
            match name.as_str() {
                "gateway.yaml" => *text = gateways.to_owned(),
                "routes.yaml" => *text = routes_yaml("vs", &["*.com"], routes),
                _ => {}
            }
        }
        let gateway = start.ready();
        for (port, translated) in [(80, at_80), (81, true)] {
            let mut client = Client::connect(gateway.addr_of(port));
            // A message without content.
            client.write(
                format!("POST /echo.Echo/One HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/grpc-web-text\r\nAccept: application/grpc-web-text\r\nContent-Length: 8\r\n\r\nAAAAAAA=").as_bytes(),
            );
            let answer = client.read().unwrap();
            assert_eq!(answer.status, 200, "{port}: {}", answer.body);
            let kind = answer.header("content-type").unwrap();
            match translated {
                true => {
                    assert_eq!(kind, "application/grpc-web-text+proto");
                    // The message, and the trailers.
                    assert!(answer.body.starts_with("AAAAAAA=gAAA"), "{}", answer.body);
                }
                false => {
                    assert_eq!(kind, "application/grpc");
                    assert_eq!(answer.body, "AAAAAAA=");
                }
            }
        }
    }
}
