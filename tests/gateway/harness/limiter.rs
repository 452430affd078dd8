//! A rate limit service: `envoy.service.ratelimit.v3` over tonic, its messages written anew from the
//! protocol, counted in memory. It can stall, fail, be killed and come back on its port.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, pending, ready};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{free_port, loopback};

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Pair>,
    #[prost(message, optional, tag = "2")]
    limit: Option<Override>,
    /// A `google.protobuf.UInt64Value`.
    #[prost(message, optional, tag = "3")]
    hits_addend: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
struct Pair {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Override {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    unit: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    overall_code: i32,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<Standing>,
    #[prost(message, repeated, tag = "3")]
    response_headers_to_add: Vec<Pair>,
    #[prost(message, repeated, tag = "4")]
    request_headers_to_add: Vec<Pair>,
    #[prost(bytes = "vec", tag = "5")]
    raw_body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Standing {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(message, optional, tag = "2")]
    current_limit: Option<Limit>,
    #[prost(uint32, tag = "3")]
    limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    duration_until_reset: Option<Seconds>,
}

#[derive(Clone, PartialEq, Message)]
struct Limit {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(int32, tag = "2")]
    unit: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Seconds {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

const HOUR: i32 = 3;

/// How the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Counts,
    /// Takes calls and never answers.
    Stalls,
    /// Answers with an error.
    Fails,
}

/// A running service; killed when dropped.
pub struct RateLimitService {
    pub port: u16,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    /// The value of the last entry, or any, and how many an hour.
    limits: Vec<(Option<String>, u32)>,
    mood: Mutex<Mood>,
    counts: Mutex<HashMap<Vec<Pair>, u32>>,
    asked: Mutex<Vec<Asked>>,
    extra: Mutex<Extra>,
    connections: AtomicUsize,
    held: AtomicUsize,
}

#[derive(Clone, Default)]
struct Extra {
    response: Vec<Pair>,
    request: Vec<Pair>,
    body: Vec<u8>,
}

impl RateLimitService {
    /// One with limits by the value of a descriptor's last entry; the first that fits holds.
    pub fn start(limits: &[(Option<&str>, u32)]) -> Self {
        let limits = limits.iter();
        let mut service = Self {
            port: free_port(),
            shared: Arc::new(Shared {
                limits: limits
                    .map(|(value, limit)| (value.map(str::to_owned), *limit))
                    .collect(),
                mood: Mutex::new(Mood::Counts),
                counts: Mutex::default(),
                asked: Mutex::default(),
                extra: Mutex::default(),
                connections: AtomicUsize::new(0),
                held: AtomicUsize::new(0),
            }),
            runtime: None,
        };
        service.start_again();
        service
    }

    /// Takes calls again, on the same port, after it was killed.
    pub fn start_again(&mut self) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind(loopback(self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(accept(listener, self.shared.clone()));
        self.runtime = Some(runtime);
    }

    /// Closes its port and all connections at once.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The port is free when nobody answers.
        super::await_until("the service is gone", || {
            std::net::TcpStream::connect(loopback(self.port)).err()
        });
    }

    pub fn be(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Adds a header to responses and one to requests, and gives refused ones a body.
    pub fn add(&self, response: (&str, &str), request: (&str, &str), body: &str) {
        let pair = |(key, value): (&str, &str)| Pair {
            key: key.into(),
            value: value.into(),
        };
        *self.shared.extra.lock().unwrap() = Extra {
            response: vec![pair(response)],
            request: vec![pair(request)],
            body: body.into(),
        };
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Calls that it stalls and that are not given up.
    pub fn held(&self) -> usize {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// What was asked: domain, then each descriptor as `key=value,… (requests per unit)`.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().map(Asked::to_text).collect()
    }
}

impl Drop for RateLimitService {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Asked {
    fn to_text(&self) -> String {
        let mut text = self.domain.clone();
        for descriptor in &self.descriptors {
            let pairs = descriptor.entries.iter();
            let pairs: Vec<_> = pairs
                .map(|Pair { key, value }| format!("{key}={value}"))
                .collect();
            text += &format!(" {}", pairs.join(","));
            if let Some(limit) = &descriptor.limit {
                text += &format!(" ({} per {})", limit.requests_per_unit, limit.unit);
            }
            if let Some(hits) = descriptor.hits_addend {
                text += &format!(" (counts as {hits})");
            }
        }
        text
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: http::Request<Incoming>| {
                let shared = shared.clone();
                async move {
                    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
                    assert_eq!(request.uri().path(), path);
                    assert!(request.headers().contains_key("grpc-timeout"));
                    let mut grpc = Grpc::new(ProstCodec::<Answer, Asked>::default());
                    Ok::<_, Infallible>(grpc.unary(Decide(shared), request).await)
                }
            });
            // An error means that the gateway has gone.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

struct Decide(Arc<Shared>);

impl UnaryService<Asked> for Decide {
    type Response = Answer;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: Request<Asked>) -> Self::Future {
        let asked = request.into_inner();
        self.0.asked.lock().unwrap().push(asked.clone());
        match *self.0.mood.lock().unwrap() {
            Mood::Counts => Box::pin(ready(Ok(Response::new(self.0.decide(&asked))))),
            Mood::Stalls => {
                let held = Held::of(self.0.clone());
                Box::pin(async move {
                    let _held = held;
                    pending().await
                })
            }
            Mood::Fails => Box::pin(ready(Err(Status::internal("on purpose")))),
        }
    }
}

/// A call without an answer, until it is given up.
struct Held(Arc<Shared>);

impl Held {
    fn of(shared: Arc<Shared>) -> Self {
        shared.held.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn decide(&self, asked: &Asked) -> Answer {
        let statuses: Vec<_> = asked
            .descriptors
            .iter()
            .map(|descriptor| self.standing(descriptor))
            .collect();
        let is_over = statuses.iter().any(|standing| standing.code == 2);
        let Extra {
            response,
            request,
            body,
        } = self.extra.lock().unwrap().clone();
        Answer {
            overall_code: if is_over { 2 } else { 1 },
            statuses,
            response_headers_to_add: response,
            request_headers_to_add: request,
            raw_body: if is_over { body } else { Vec::new() },
        }
    }

    fn standing(&self, descriptor: &Descriptor) -> Standing {
        let value = descriptor.entries.last().map(|pair| pair.value.as_str());
        let mut limits = self.limits.iter();
        let own = limits.find(|(wanted, _)| wanted.is_none() || wanted.as_deref() == value);
        let limit = match &descriptor.limit {
            Some(limit) => Some((limit.requests_per_unit, limit.unit)),
            None => own.map(|(_, requests)| (*requests, HOUR)),
        };
        let Some((requests_per_unit, unit)) = limit else {
            return Standing {
                code: 1,
                ..Standing::default()
            };
        };
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(descriptor.entries.clone()).or_default();
        let hits = descriptor.hits_addend.unwrap_or(1);
        *count = count.saturating_add(u32::try_from(hits).unwrap_or(u32::MAX));
        Standing {
            code: if *count > requests_per_unit { 2 } else { 1 },
            current_limit: Some(Limit {
                requests_per_unit,
                unit,
            }),
            limit_remaining: requests_per_unit.saturating_sub(*count),
            duration_until_reset: Some(Seconds { seconds: 1234 }),
        }
    }
}
