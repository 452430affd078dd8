//! A gateway on a real socket with a plan made by hand, and clients that read bytes.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::proxy::http_proxy;
use pingora_core::server::configuration::ServerConf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::base::CauseKind;
use crate::listener::{ConnectionObserver, ListenerLimits, ListenerOutcome, Listeners};
use crate::observe::{CompressionRecord, Record};
use crate::plan::endpoints::Endpoint;
use crate::plan::hosts::HostIndex;
use crate::plan::*;
use crate::proxy::{Gateway, Limits, MAX_ATTEMPTS, Sink, h2_options, server_options};
use crate::upstream::{DnsOptions, Serving, Upstreams};

pub use super::routes::*;

/// No test waits longer for anything.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it took too long")
}

/// What a gateway serves.
pub struct Site {
    pub http: HttpOptions,
    pub limits: Limits,
    pub dns: DnsOptions,
    pub grpc_web: bool,
    pub hosts: Vec<VirtualHost>,
    /// What all requests must pass.
    pub guards: Guards,
    pub limited: Vec<PlacedLimit>,
    pub checks: Checks,
    clusters: Vec<Arc<Cluster>>,
    endpoints: Vec<Vec<SocketAddr>>,
}

impl Site {
    /// Host `a.com` whose every path goes to `origin`.
    pub fn to(origin: SocketAddr) -> Self {
        Self::of(vec![route("/", forward(0))]).cluster(Protocol::Http1, &[origin])
    }

    /// Host `a.com` with these routes.
    pub fn of(routes: Vec<Route>) -> Self {
        Self {
            http: HttpOptions::default(),
            limits: Limits::default(),
            dns: DnsOptions::default(),
            grpc_web: false,
            hosts: vec![host("a.com", routes)],
            guards: Guards::default(),
            limited: Vec::new(),
            checks: Checks::default(),
            clusters: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Adds the next cluster.
    pub fn cluster(mut self, protocol: Protocol, endpoints: &[SocketAddr]) -> Self {
        let name = format!("outbound|80||c{}.default", self.clusters.len());
        self.clusters.push(Arc::new(Cluster {
            name: name.into(),
            host: "c.default".into(),
            port: 80,
            subset: None,
            service_name: "c".into(),
            service_namespace: "default".into(),
            protocol,
            balancing: Balance::RoundRobin.into(),
            pool: Pool::default(),
            tls: None,
            proxy_protocol: None,
            outlier: None,
            health_check: None,
            origin: None,
            policy_origin: None,
        }));
        self.endpoints.push(endpoints.to_vec());
        self
    }

    /// Gives the last cluster a connection pool.
    pub fn pool(mut self, pool: Pool) -> Self {
        let cluster = self.clusters.last_mut().expect("there is a cluster");
        Arc::make_mut(cluster).pool = pool;
        self
    }

    pub async fn serve(self) -> Rig {
        // The key of a listener is the address asked for, so port 0 is one.
        let key = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut index = HostIndex::default();
        for (number, host) in (0..).zip(&self.hosts) {
            index.insert(&host.host, number);
        }
        let mut table = EndpointTable::default();
        for (number, (cluster, addresses)) in (1..).zip(self.clusters.iter().zip(&self.endpoints)) {
            let endpoints = addresses
                .iter()
                .map(|addr| Endpoint {
                    addr: *addr,
                    weight: 1,
                    place: Default::default(),
                    origin: None,
                })
                .collect();
            let resolution = Resolution::Static(endpoints);
            let endpoints = ClusterEndpoints {
                resolution,
                digest: Digest(number),
            };
            table
                .clusters
                .insert(cluster.name.clone(), Arc::new(endpoints));
        }
        let listener = Listener {
            addr: key,
            declared_port: 80,
            is_tls: false,
            grpc_web: self.grpc_web,
            origins: vec![origin()],
            hosts: index.into(),
            virtual_hosts: self.hosts.into_iter().map(Arc::new).collect(),
            fence: None,
            guarding: Guarding::new(self.guards, Vec::new()),
        };
        let plan = Plan {
            listeners: vec![listener],
            clusters: self.clusters.into_iter().collect(),
            limits: self.limited,
            checks: self.checks,
            http: self.http,
            ..Plan::default()
        };
        let upstreams = Upstreams::new(self.dns, tokio::runtime::Handle::current());
        upstreams.publish(&table);
        let serving = Arc::new(ArcSwap::new(upstreams.serve(Arc::new(plan))));

        let records = Arc::new(Records::default());
        let gateway = Gateway::new(serving.clone(), records.clone(), self.limits.clone());
        let conf = Arc::new(ServerConf {
            max_retries: MAX_ATTEMPTS,
            ..ServerConf::default()
        });
        let mut proxy = http_proxy(&conf, gateway);
        proxy.server_options = Some(server_options());
        proxy.h2_options = Some(h2_options(&self.limits));
        let observer = Arc::new(Deaf);
        let limits = ListenerLimits {
            keepalive_idle: self.limits.keepalive_idle,
            ..Default::default()
        };
        let listeners = Listeners::new(
            Arc::new(proxy),
            HashMap::new(),
            limits,
            observer,
            Arc::new(()),
        );
        let outcomes = listeners.apply(&[key]).await;
        assert!(
            matches!(outcomes[..], [ListenerOutcome::Opened(_)]),
            "{outcomes:?}"
        );
        let address = listeners.open_addresses()[0];
        Rig {
            address,
            records,
            serving,
            upstreams,
            _listeners: Box::new(listeners),
        }
    }
}

struct Deaf;
impl ConnectionObserver for Deaf {}

/// A running gateway.
pub struct Rig {
    pub address: SocketAddr,
    pub records: Arc<Records>,
    pub serving: Arc<ArcSwap<Serving>>,
    pub upstreams: Arc<Upstreams>,
    _listeners: Box<dyn std::any::Any + Send + Sync>,
}

impl Rig {
    /// One request on its own connection.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        Client::connect(self.address).await.ask(request).await
    }

    /// GET of a path on `a.com`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: a.com\r\n\r\n"))
            .await
    }

    /// The record of the next finished request.
    pub async fn record(&self) -> Recorded {
        within(async {
            loop {
                let more = self.records.more.notified();
                if let Some(record) = self.records.take() {
                    return record;
                }
                more.await;
            }
        })
        .await
    }
}

/// What tests compare of a [`Record`].
#[derive(Clone, Debug)]
pub struct Recorded {
    pub status: u16,
    pub flags: String,
    pub details: String,
    pub cause: Option<CauseKind>,
    pub owner: Option<String>,
    pub message: String,
    pub path: Option<String>,
    pub authority: Option<String>,
    pub request_id: Option<String>,
    pub route: Option<String>,
    pub upstream_host: Option<SocketAddr>,
    pub bytes: (u64, u64),
    pub grpc_status: Option<u16>,
    pub compression: Option<CompressionRecord>,
}

#[derive(Default)]
pub struct Records {
    kept: Mutex<Vec<Recorded>>,
    more: Notify,
    /// The next record is a bug.
    pub panics: std::sync::atomic::AtomicBool,
}

impl Records {
    fn take(&self) -> Option<Recorded> {
        let mut kept = self.kept.lock().unwrap();
        (!kept.is_empty()).then(|| kept.remove(0))
    }
}

impl Sink for Records {
    fn finished(&self, record: &Record<'_>) {
        let panics = self
            .panics
            .swap(false, std::sync::atomic::Ordering::Relaxed);
        assert!(!panics, "a bug, on purpose");
        let text = |value: Option<&str>| value.map(str::to_owned);
        self.kept.lock().unwrap().push(Recorded {
            status: record.status,
            flags: record.flags.into(),
            details: record.details.into(),
            cause: record.cause.map(|cause| cause.kind),
            owner: record
                .cause
                .and_then(|cause| cause.owner.as_ref().map(ToString::to_string)),
            message: record
                .cause
                .map(|cause| cause.message.to_string())
                .unwrap_or_default(),
            path: text(record.path),
            authority: text(record.authority),
            request_id: text(record.request_id),
            route: text(record.route_name),
            upstream_host: record.upstream_host,
            bytes: (record.bytes_received, record.bytes_sent),
            grpc_status: record.grpc_status,
            compression: record.compression,
        });
        self.more.notify_one();
    }
}

/// A client that sends and reads bytes.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: within(TcpStream::connect(address)).await.unwrap(),
            unread: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let head = request.as_ref().starts_with(b"HEAD ");
        self.send(request).await;
        self.answer(head).await
    }

    /// Reads one response, bounded by its framing or by the end of the connection.
    pub async fn answer(&mut self, to_head: bool) -> Answer {
        within(self.read_answer(to_head)).await
    }

    /// Whether the server closes the connection without sending more.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !within(self.fill()).await
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    async fn read_answer(&mut self, to_head: bool) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(
                self.fill().await,
                "closed within a head: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
            bytes: Vec::new(),
            complete: true,
        };
        if (100..200).contains(&status) || to_head || matches!(status, 204 | 304) {
            return answer;
        }
        let (body, complete) = if answer.header("transfer-encoding") == "chunked" {
            self.read_chunks().await
        } else {
            let length = answer
                .headers
                .get("content-length")
                .map(|length| length.parse().unwrap());
            self.read_length(length).await
        };
        answer.body = String::from_utf8_lossy(&body).into_owned();
        answer.bytes = body;
        answer.complete = complete;
        answer
    }

    async fn read_length(&mut self, length: Option<usize>) -> (Vec<u8>, bool) {
        while length.is_none_or(|length| self.unread.len() < length) {
            if !self.fill().await {
                return (std::mem::take(&mut self.unread), length.is_none());
            }
        }
        (self.unread.drain(..length.unwrap()).collect(), true)
    }

    async fn read_chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") else {
                if !self.fill().await {
                    return (body, false);
                }
                continue;
            };
            let size = std::str::from_utf8(&self.unread[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            while self.unread.len() < end + 2 + size + 2 {
                if !self.fill().await {
                    return (body, false);
                }
            }
            body.extend_from_slice(&self.unread[end + 2..end + 2 + size]);
            self.unread.drain(..end + 2 + size + 2);
            if size == 0 {
                return (body, true);
            }
        }
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
    /// The body did not end early.
    pub complete: bool,
}

impl Answer {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value)
    }

    /// A header as the echoing origin received it; `None` if it did not.
    pub fn received(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.body
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
    }

    /// The request line as the echoing origin received it.
    pub fn request_line(&self) -> &str {
        self.body.lines().next().unwrap_or("")
    }
}
