//! Responses in codings, as they come over the wire.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::origins::{self, Body, full};
use super::rig::*;
use crate::observe::CompressionRecord;
use crate::plan::{Action, CompressionId, Policy, Protocol};
use crate::policy::compression::spec::{Coding, Compression, Leveled, MediaTypes};
use crate::policy::direct_response::spec::DirectResponse;
use crate::policy::headers::spec::HeaderEdits;

fn compressing(mut site: Site, types: MediaTypes) -> Site {
    let leveled = |coding: Coding| Leveled {
        coding,
        level: coding.default_level(),
    };
    site.guards.compression = Some(CompressionId(0));
    site.checks.compression.push(Policy {
        id: "policy".into(),
        policy: Arc::new(Compression {
            codings: Coding::ALL.map(leveled).into(),
            min_bytes: 1024,
            types,
        }),
        origin: origin(),
    });
    site
}

/// A page of 20 KB that is not all the same.
fn page() -> String {
    let lines = (0..1000).map(|number| format!("<li>item {}</li>\n", number * number));
    lines.collect()
}

/// An origin that answers so.
async fn origin_of(answer: impl Fn() -> Response<Body> + Send + Sync + 'static) -> SocketAddr {
    origins::http1(Arc::new(move |_| {
        let answer = answer();
        Box::pin(async move { answer })
    }))
    .await
}

async fn serve_page() -> Rig {
    let origin = origin_of(|| {
        let mut response = Response::new(full(page()));
        let headers = response.headers_mut();
        headers.insert("content-type", "text/html".parse().unwrap());
        headers.insert("etag", "\"v1\"".parse().unwrap());
        headers.insert("vary", "origin".parse().unwrap());
        response
    })
    .await;
    compressing(Site::to(origin), MediaTypes::Texts)
        .serve()
        .await
}

fn asking(method: &str, accepts: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: a.com\r\nAccept-Encoding: {accepts}\r\n\r\n")
}

fn decoded(coding: &str, bytes: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text)?,
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text)?,
        "zstd" => zstd::Decoder::new(bytes)?.read_to_string(&mut text)?,
        other => panic!("{other}"),
    };
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_comes_in_the_coding_that_the_client_likes_best_and_is_recorded() {
    let rig = serve_page().await;
    let mut client = Client::connect(rig.address).await;
    for (accepts, coding) in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, br", "br"),
        ("gzip;q=1, br;q=0.5", "gzip"),
    ] {
        let answer = client.ask(asking("GET", accepts)).await;
        assert_eq!(answer.header("content-encoding"), coding);
        assert_eq!(decoded(coding, &answer.bytes).unwrap(), page());
        assert!(answer.bytes.len() < page().len() / 3, "{coding}");
        assert_eq!(answer.header("vary"), "origin, Accept-Encoding");
        assert_eq!(answer.header("etag"), "W/\"v1\"");
        assert_eq!(answer.header("content-length"), "");
        let record = rig.record().await;
        let Some(CompressionRecord::Compressed {
            coding: recorded,
            before,
            after,
        }) = record.compression
        else {
            panic!("{record:?}")
        };
        assert_eq!(
            (recorded, before, after),
            (coding, page().len() as u64, answer.bytes.len() as u64)
        );
    }
    let answer = client.ask(asking("GET", "identity, gzip;q=0")).await;
    assert_eq!(answer.header("content-encoding"), "");
    assert_eq!(answer.header("vary"), "origin, Accept-Encoding");
    assert_eq!(answer.header("etag"), "\"v1\"");
    assert_eq!(answer.body, page());
    assert_eq!(rig.record().await.compression, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_head_has_the_fields_of_the_answer_to_get() {
    let rig = serve_page().await;
    let mut client = Client::connect(rig.address).await;
    let mut heads = Vec::new();
    for method in ["GET", "HEAD", "GET"] {
        let mut headers = client.ask(asking(method, "br")).await.headers;
        headers.retain(|name, _| !matches!(&**name, "date" | "transfer-encoding"));
        headers.remove("x-envoy-upstream-service-time");
        heads.push(headers);
    }
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[0], heads[2]);
    assert_eq!(heads[0]["content-encoding"], "br");
}

/// A body whose parts are said one by one, with trailers at the end or without.
#[derive(Clone)]
struct Said {
    parts: Arc<Mutex<Option<UnboundedReceiver<Frame<Bytes>>>>>,
}

async fn speaker(protocol: Protocol) -> (SocketAddr, UnboundedSender<Frame<Bytes>>) {
    let (speak, parts) = unbounded_channel();
    let said = Said {
        parts: Arc::new(Mutex::new(Some(parts))),
    };
    let handler: origins::Handler = Arc::new(move |_| {
        let parts = said.parts.lock().unwrap().take();
        Box::pin(async move {
            let mut parts = parts.expect("one request");
            let stream = futures_util::stream::poll_fn(move |cx| {
                parts
                    .poll_recv(cx)
                    .map(|part| part.map(Ok::<_, Infallible>))
            });
            let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
            let kind = "text/event-stream".parse().unwrap();
            response.headers_mut().insert("content-type", kind);
            response
        })
    });
    let address = match protocol {
        Protocol::Http1 => origins::http1(handler).await,
        _ => origins::http2(handler).await,
    };
    (address, speak)
}

async fn ask_as(rig: &Rig, version: Version, coding: &str) -> Response<Incoming> {
    let stream = TokioIo::new(TcpStream::connect(rig.address).await.unwrap());
    let request = Request::builder()
        .method(Method::GET)
        .header("accept-encoding", coding)
        .version(version);
    let body = Empty::<Bytes>::new();
    if version == Version::HTTP_2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = request.uri("http://a.com/").body(body).unwrap();
        return within(sender.send_request(request)).await.unwrap();
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = request.uri("/").header("host", "a.com").body(body).unwrap();
    within(sender.send_request(request)).await.unwrap()
}

/// Reads a body as a browser does: what has come is shown.
enum Reader {
    Gzip(flate2::write::GzDecoder<Vec<u8>>),
    Brotli(Box<brotli::DecompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Reader {
    fn of(coding: &str) -> Self {
        match coding {
            "gzip" => Self::Gzip(flate2::write::GzDecoder::new(Vec::new())),
            "br" => Self::Brotli(Box::new(brotli::DecompressorWriter::new(Vec::new(), 4096))),
            _ => Self::Zstd(zstd::stream::write::Decoder::new(Vec::new()).unwrap()),
        }
    }

    /// Everything up to this part.
    fn read(&mut self, part: &[u8]) -> String {
        let text = match self {
            Self::Gzip(reader) => {
                reader.write_all(part).unwrap();
                reader.flush().unwrap();
                reader.get_ref()
            }
            Self::Brotli(reader) => {
                reader.write_all(part).unwrap();
                reader.flush().unwrap();
                reader.get_ref()
            }
            Self::Zstd(reader) => {
                reader.write_all(part).unwrap();
                reader.flush().unwrap();
                reader.get_ref()
            }
        };
        String::from_utf8(text.clone()).unwrap()
    }
}

async fn next(body: &mut Incoming) -> Option<Bytes> {
    let frame = within(body.frame()).await?.unwrap();
    Some(frame.into_data().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_read_before_the_next_is_said_and_the_stream_ends_whole_with_its_trailers() {
    let events = || MediaTypes::These(Box::new(["text/event-stream".into()]));
    for (origin, client) in [
        (Protocol::Http1, Version::HTTP_11),
        (Protocol::Http1, Version::HTTP_2),
        (Protocol::H2c, Version::HTTP_11),
        (Protocol::H2c, Version::HTTP_2),
    ] {
        for coding in ["gzip", "br", "zstd"] {
            for (trailers, is_late) in [(false, false), (true, false), (true, true)] {
                let (address, speak) = speaker(origin).await;
                let site = Site::of(vec![route("/", forward(0))]).cluster(origin, &[address]);
                let rig = compressing(site, events()).serve().await;
                let response = ask_as(&rig, client, coding).await;
                assert_eq!(response.headers()["content-encoding"], coding);
                let mut body = response.into_body();
                let (mut reader, mut all) = (Reader::of(coding), Vec::new());
                let mut said = String::new();
                for number in 0..5 {
                    let event = format!("data: {number}\n\n");
                    said.push_str(&event);
                    speak.send(Frame::data(event.into())).unwrap();
                    loop {
                        let part = next(&mut body).await.expect("the stream goes on");
                        all.extend_from_slice(&part);
                        if reader.read(&part) == said {
                            break;
                        }
                    }
                }
                if is_late {
                    // Comes together with the trailers.
                    speak.send(Frame::data("last".into())).unwrap();
                    said.push_str("last");
                }
                if trailers {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-end", "yes".parse().unwrap());
                    speak.send(Frame::trailers(trailers)).unwrap();
                }
                drop(speak);
                let mut end = None;
                while let Some(frame) = within(body.frame()).await {
                    match frame.unwrap().into_data() {
                        Ok(part) => all.extend_from_slice(&part),
                        Err(frame) => end = frame.into_trailers().ok(),
                    }
                }
                let case = format!("{origin:?} {client:?} {coding} {trailers} {is_late}");
                // Pingora carries trailers only from HTTP/2 to HTTP/2.
                let are_carried = (origin, client) == (Protocol::H2c, Version::HTTP_2);
                let expected = (trailers && are_carried).then_some("yes");
                let seen = end.as_ref().map(|end| end["x-end"].to_str().unwrap());
                assert_eq!(seen, expected, "{case}");
                assert_eq!(decoded(coding, &all).expect(&case), said, "{case}");
                if coding != "zstd" {
                    // It says that it ends, so one that was cut short is not taken for whole.
                    let cut = &all[..all.len() - 1];
                    assert!(decoded(coding, cut).is_err(), "{case}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_is_cut_off_is_not_made_to_look_whole() {
    let page = page();
    let half = &page[..page.len() / 2];
    let answer: &'static str = Box::leak(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{half}",
            page.len()
        )
        .into_boxed_str(),
    );
    let origin = origins::answering(answer.as_bytes()).await;
    let rig = compressing(Site::to(origin), MediaTypes::Texts)
        .serve()
        .await;
    let answer = rig.ask(asking("GET", "gzip")).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert!(!answer.complete);
    assert!(decoded("gzip", &answer.bytes).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_no_room_for_is_sent_as_it_is_and_room_comes_back() {
    let (address, speak) = speaker(Protocol::Http1).await;
    let site = Site::of(vec![route("/live", forward(0)), route("/", forward(1))])
        .cluster(Protocol::Http1, &[address])
        .cluster(
            Protocol::Http1,
            &[origin_of(|| {
                let mut response = Response::new(full(page()));
                let kind = "text/html".parse().unwrap();
                response.headers_mut().insert("content-type", kind);
                response
            })
            .await],
        );
    let every = MediaTypes::These(Box::new(["text/*".into()]));
    let mut site = compressing(site, every);
    site.limits.compressions = 1;
    let rig = site.serve().await;
    let mut client = Client::connect(rig.address).await;
    client
        .send("GET /live HTTP/1.1\r\nHost: a.com\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    speak.send(Frame::data("data: 0\n\n".into())).unwrap();
    let mut byte = [0];
    within(client.stream.peek(&mut byte)).await.unwrap();
    let answer = rig.ask(asking("GET", "gzip")).await;
    assert_eq!(answer.header("content-encoding"), "");
    assert_eq!(
        (&*answer.body, answer.header("vary")),
        (&*page(), "Accept-Encoding")
    );
    assert_eq!(
        rig.record().await.compression,
        Some(CompressionRecord::NoRoom)
    );
    drop(speak);
    assert!(client.answer(false).await.complete);
    rig.record().await;
    let answer = rig.ask(asking("GET", "gzip")).await;
    assert_eq!(answer.header("content-encoding"), "gzip");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_our_own_are_compressed_like_others() {
    let answer = Action::Direct {
        response: DirectResponse {
            status: 503,
            body: page().into(),
        },
        edits: HeaderEdits::default(),
    };
    let site = Site::of(vec![route("/", answer)]);
    let types = MediaTypes::These(Box::new(["text/plain".into()]));
    let rig = compressing(site, types).serve().await;
    let answer = rig.ask(asking("GET", "zstd")).await;
    assert_eq!(
        (answer.status, answer.header("content-encoding")),
        (503, "zstd")
    );
    assert_eq!(decoded("zstd", &answer.bytes).unwrap(), page());
    let response = ask_as(&rig, Version::HTTP_2, "br").await;
    assert_eq!(response.headers()["content-encoding"], "br");
    let body = within(response.into_body().collect()).await.unwrap();
    assert_eq!(decoded("br", &body.to_bytes()).unwrap(), page());
}
