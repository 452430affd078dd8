//! Origins that tell what they received, or misbehave.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub type Body = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// Answers with the request line, the headers and the body it received.
pub async fn echo() -> SocketAddr {
    http1(Arc::new(|request| Box::pin(echoed(request)))).await
}

/// The same after a while.
pub async fn slow_echo(after: std::time::Duration) -> SocketAddr {
    http1(Arc::new(move |request| {
        Box::pin(async move {
            tokio::time::sleep(after).await;
            echoed(request).await
        })
    }))
    .await
}

/// `echo` over prior-knowledge HTTP/2.
pub async fn echo_h2c() -> SocketAddr {
    http2(Arc::new(|request| Box::pin(echoed(request)))).await
}

pub async fn http1(handler: Handler) -> SocketAddr {
    raw(move |stream| {
        let handler = handler.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        }
    })
    .await
}

pub async fn http2(handler: Handler) -> SocketAddr {
    raw(move |stream| {
        let handler = handler.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

/// An HTTP/2 origin that resets so many streams with a reason, and answers `ok` from then on.
/// The count is of the streams.
pub async fn h2c_resetting(times: usize, reason: h2::Reason) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = count.clone();
    let address = raw(move |stream| {
        let count = counts.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let is_reset = count.fetch_add(1, Ordering::SeqCst) < times;
                if is_reset {
                    // By the head, while the body is on its way.
                    respond.send_reset(reason);
                    continue;
                }
                tokio::spawn(async move {
                    let mut received = request.into_body();
                    while let Some(Ok(_)) = received.data().await {}
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data("ok".into(), true).unwrap();
                });
            }
        }
    })
    .await;
    (address, count)
}

/// An HTTP/2 origin whose first connections each end in good order (`GOAWAY`) when a request
/// comes, without having looked at it; the others echo. The count is of the connections.
pub async fn h2c_going_away(times: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    const PREFACE: usize = 24;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // The last stream is 0, and the reason is NO_ERROR.
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let count = Arc::new(AtomicUsize::new(0));
    let counts = count.clone();
    let address = raw(move |mut stream| {
        let number = counts.fetch_add(1, Ordering::SeqCst);
        async move {
            if number >= times {
                let service =
                    service_fn(|request| async { Ok::<_, Infallible>(echoed(request).await) });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                return;
            }
            stream.write_all(&SETTINGS).await.unwrap();
            stream.read_exact(&mut [0; PREFACE]).await.unwrap();
            let mut head = [0; 9];
            while stream.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                if stream.read_exact(&mut payload).await.is_err() {
                    return;
                }
                // The end of the request: whoever still writes a kept body would not learn why
                // the stream ended.
                if matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
                    stream.write_all(&GOAWAY).await.unwrap();
                }
            }
        }
    })
    .await;
    (address, count)
}

/// An origin on bytes: each connection is handed to `serve`.
pub async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Reads a request up to the end of its head, then writes `answer` and closes.
pub async fn answering(answer: &'static [u8]) -> SocketAddr {
    raw(move |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    })
    .await
}

pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

pub async fn echoed(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version);
    for (name, value) in &head.headers {
        text.push_str(&format!(
            "{name}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&body));
    let mut response = Response::new(full(text));
    response
        .headers_mut()
        .insert("server", "origin".parse().unwrap());
    response
        .headers_mut()
        .insert("x-origin", "yes".parse().unwrap());
    response
}

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// A body followed by trailers.
pub fn with_trailers(text: &'static str, trailers: HeaderMap) -> Body {
    let frames = [
        Frame::data(Bytes::from_static(text.as_bytes())),
        Frame::trailers(trailers),
    ];
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames.map(Ok))))
}
