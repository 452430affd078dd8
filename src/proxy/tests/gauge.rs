//! An origin that counts its connections and requests, and answers when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use super::origins;
use super::rig::within;

#[derive(Default)]
pub struct Gauge {
    /// Connections that were made, that are open, and that were at most.
    pub made: AtomicUsize,
    pub open: AtomicUsize,
    pub most_open: AtomicUsize,
    /// Requests in flight now, and at most.
    pub active: AtomicUsize,
    pub most_active: AtomicUsize,
    change: Notify,
}

/// A counting origin.
#[derive(Clone)]
pub struct Counting {
    pub address: SocketAddr,
    pub gauge: Arc<Gauge>,
    /// One permit lets one request be answered.
    pub gate: Arc<Semaphore>,
}

/// How an HTTP/2 origin counts and answers.
#[derive(Clone, Copy)]
pub struct Http2 {
    /// Streams at a time that it announces.
    pub streams: u32,
    /// Sends an empty DATA frame before the trailers.
    pub empty_data: bool,
    /// Ends the response with trailers.
    pub trailers: bool,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            streams: 1000,
            empty_data: false,
            trailers: false,
        }
    }
}

impl Counting {
    /// Answers over HTTP/1.1.
    pub async fn http1() -> Self {
        let (gauge, gate) = (Arc::new(Gauge::default()), Arc::new(Semaphore::new(0)));
        let (counts, opens) = (gauge.clone(), gate.clone());
        let address = origins::raw(move |mut stream: TcpStream| {
            let (gauge, gate) = (counts.clone(), opens.clone());
            async move {
                gauge.connected(1);
                while read_request(&mut stream).await {
                    gauge.started();
                    gate.acquire().await.unwrap().forget();
                    gauge.ended();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
                drop(stream);
                gauge.connected(-1);
            }
        })
        .await;
        Self {
            address,
            gauge,
            gate,
        }
    }

    /// Answers over HTTP/2.
    pub async fn http2(how: Http2) -> Self {
        let (gauge, gate) = (Arc::new(Gauge::default()), Arc::new(Semaphore::new(0)));
        let (counts, opens) = (gauge.clone(), gate.clone());
        let address = origins::raw(move |stream: TcpStream| {
            let (gauge, gate) = (counts.clone(), opens.clone());
            async move {
                gauge.connected(1);
                serve_http2(stream, how, gauge.clone(), gate).await;
                gauge.connected(-1);
            }
        })
        .await;
        Self {
            address,
            gauge,
            gate,
        }
    }

    /// Lets everything be answered from now on.
    pub fn open_gate(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Waits until `holds`.
    pub async fn until(&self, holds: impl Fn(&Gauge) -> bool) {
        within(async {
            loop {
                let change = self.gauge.change.notified();
                tokio::pin!(change);
                change.as_mut().enable();
                if holds(&self.gauge) {
                    return;
                }
                change.await;
            }
        })
        .await;
    }
}

impl Gauge {
    pub fn get(number: &AtomicUsize) -> usize {
        number.load(Ordering::SeqCst)
    }

    fn connected(&self, by: isize) {
        if by > 0 {
            self.made.fetch_add(1, Ordering::SeqCst);
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_open.fetch_max(open, Ordering::SeqCst);
        } else {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
        self.change.notify_waiters();
    }

    fn started(&self) {
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_active.fetch_max(active, Ordering::SeqCst);
        self.change.notify_waiters();
    }

    fn ended(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
        self.change.notify_waiters();
    }
}

/// Reads a request without a body; `false` at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => head.extend_from_slice(&chunk[..count]),
        }
    }
    true
}

async fn serve_http2(stream: TcpStream, how: Http2, gauge: Arc<Gauge>, gate: Arc<Semaphore>) {
    let handshake = h2::server::Builder::new()
        .max_concurrent_streams(how.streams)
        .handshake::<_, Bytes>(stream);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (gauge, gate) = (gauge.clone(), gate.clone());
        tokio::spawn(async move {
            gauge.started();
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            gate.acquire().await.unwrap().forget();
            gauge.ended();
            let mut head = Response::new(());
            let kind = "application/grpc".parse().unwrap();
            head.headers_mut().insert("content-type", kind);
            let Ok(mut answer) = respond.send_response(head, false) else {
                return;
            };
            let _ = answer.send_data("ok".into(), !how.trailers);
            if how.trailers {
                if how.empty_data {
                    let _ = answer.send_data(Bytes::new(), false);
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                let _ = answer.send_trailers(trailers);
            }
        });
    }
}
