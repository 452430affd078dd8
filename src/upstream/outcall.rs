//! Requests of policies' own to a cluster, through a connector and a pool of their own.
//!
//! They pick endpoints as traffic does and count against the cluster's limits and for its outlier
//! detection, as in Envoy; but they never share a connection with a client's request, so that a
//! stalled one is nobody else's concern. How many run at once is bounded for the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Uri, Version};
use log::debug;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::Semaphore;

use crate::policy::outcall::{Answer, Body, Caller, Failed, Outcall};

use super::dial::Locals;
use super::peer::Wants;
use super::tls::{accepted, tls_host};
use super::{Ask, ClusterState, Outcome, Pick, Refused};

/// Idle connections that are kept, over all clusters.
const IDLE: usize = 256;

/// What all outcalls of the process share.
pub struct Outcalls {
    connector: Connector,
    running: Semaphore,
}

/// A cluster, for policies.
pub struct ClusterCaller {
    pub(super) state: Arc<ClusterState>,
    pub(super) outcalls: Arc<Outcalls>,
}

/// What became of the copies that a cluster was to get.
#[derive(Debug, Default)]
pub struct CopyCounts {
    begun: AtomicU64,
    results: [AtomicU64; 5],
}

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyResult {
    Answered,
    /// No endpoint, no connection, or it broke.
    Failed,
    TimedOut,
    /// It lagged too far behind, or the client left.
    Cut,
    /// Too many were under way.
    Refused,
}

impl CopyResult {
    pub const ALL: [Self; 5] = [
        Self::Answered,
        Self::Failed,
        Self::TimedOut,
        Self::Cut,
        Self::Refused,
    ];

    /// For metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cut => "cut",
            Self::Refused => "refused",
        }
    }

    /// Of an outcall.
    pub fn of(result: &Result<Answer, Failed>) -> Self {
        match result {
            Ok(_) => Self::Answered,
            Err(Failed::TimedOut) => Self::TimedOut,
            Err(Failed::Cut) => Self::Cut,
            Err(Failed::Overflow) => Self::Refused,
            Err(Failed::NoEndpoint | Failed::Unconnected | Failed::Broken | Failed::Refused) => {
                Self::Failed
            }
        }
    }
}

impl CopyCounts {
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there ever was one.
    pub fn is_used(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0
    }

    /// Copies under way.
    pub fn active(&self) -> u64 {
        let ended: u64 = CopyResult::ALL
            .iter()
            .map(|result| self.read(*result))
            .sum();
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }

    pub fn note(&self, result: CopyResult) {
        if let Some(count) = self.results.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn read(&self, result: CopyResult) -> u64 {
        let count = self.results.get(result as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Outcalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcalls")
            .field("free", &self.running.available_permits())
            .finish()
    }
}

impl Outcalls {
    /// `at_once` may run at the same time.
    pub(super) fn new(at_once: usize, locals: &Locals) -> Arc<Self> {
        Arc::new(Self {
            connector: Connector::new(Some(locals.options(IDLE))),
            running: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
        })
    }
}

#[async_trait]
impl Caller for ClusterCaller {
    async fn call(&self, call: Outcall) -> Result<Answer, Failed> {
        let permit = self.outcalls.running.try_acquire();
        let _permit = permit.map_err(|_| Failed::Overflow)?;
        let within = call.within;
        match tokio::time::timeout(within, self.run(call)).await {
            Ok(result) => result,
            Err(_) => Err(Failed::TimedOut),
        }
    }
}

impl ClusterCaller {
    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.state.detector.cluster
    }

    /// What becomes of copies.
    pub fn copies(&self) -> &CopyCounts {
        &self.state.copies
    }

    async fn run(&self, call: Outcall) -> Result<Answer, Failed> {
        let pick = self.state.pick(&Ask::default());
        let pick = pick.map_err(|refused| match refused {
            Refused::NoEndpoint => Failed::NoEndpoint,
            Refused::Overflow => Failed::Overflow,
        })?;
        let host = match self.state.needs_host() {
            true => host_of(call.head.headers.get(HOST)),
            false => String::new(),
        };
        let peer = self.state.peer_apart(
            &pick,
            &super::Caller {
                wants: Wants::Http1,
                host: &host,
                addresses: None,
            },
        );
        let connector = &self.outcalls.connector;
        let Ok((mut session, _)) = connector.get_http_session(&peer).await else {
            pick.report(Outcome::ConnectFailed);
            return Err(Failed::Unconnected);
        };
        if let Err(refusal) = accepted(&peer, session.digest(), &host) {
            debug!("no request of a policy goes to {}: {refusal}", pick.addr());
            session.shutdown().await;
            pick.report(Outcome::ConnectFailed);
            return Err(Failed::Unconnected);
        }
        let result = converse(&mut session, call, &peer, &pick).await;
        match result {
            Ok(_) => {
                let idle = peer.options.idle_timeout;
                connector.release_http_session(session, &peer, idle).await;
            }
            Err(_) => session.shutdown().await,
        }
        result
    }
}

/// What a Host header names, for TLS.
fn host_of(header: Option<&HeaderValue>) -> String {
    let authority = header.and_then(|value| value.to_str().ok());
    tls_host(authority.unwrap_or_default())
}

async fn converse(
    session: &mut HttpSession,
    call: Outcall,
    peer: &HttpPeer,
    pick: &Pick,
) -> Result<Answer, Failed> {
    let Outcall {
        mut head,
        body,
        keep,
        ..
    } = call;
    frame(&mut head, &body, session, peer).ok_or(Failed::Broken)?;
    let broken = |_| {
        pick.report(Outcome::Reset);
        Failed::Broken
    };
    let written = session.write_request_header(Box::new(head)).await;
    written.map_err(broken)?;
    match body {
        Body::Empty => {}
        Body::Whole(data) => {
            let written = session.write_request_body(data, false).await;
            written.map_err(broken)?;
        }
        Body::Copied(mut copied) => {
            while let Some(data) = copied.next().await.map_err(|_| Failed::Cut)? {
                let written = session.write_request_body(data, false).await;
                written.map_err(broken)?;
            }
        }
    }
    session.finish_request_body().await.map_err(broken)?;
    let head = loop {
        session.read_response_header().await.map_err(broken)?;
        let head: &ResponseHeader = session.response_header().ok_or(Failed::Broken)?;
        if !head.status.is_informational() {
            break head.clone();
        }
    };
    pick.report(Outcome::Answered(head.status.as_u16()));
    let mut kept = BytesMut::new();
    while let Some(data) = session
        .read_response_body()
        .await
        .map_err(|_| Failed::Broken)?
    {
        let room = keep.saturating_sub(kept.len()).min(data.len());
        kept.extend_from_slice(data.get(..room).unwrap_or_default());
    }
    Ok(Answer {
        head,
        body: Bytes::from(kept),
    })
}

/// Makes the head fit the connection's protocol and the body. `None` if it fits none.
fn frame(
    head: &mut RequestHeader,
    body: &Body,
    session: &HttpSession,
    peer: &HttpPeer,
) -> Option<()> {
    for name in [CONNECTION, EXPECT, TRANSFER_ENCODING, UPGRADE] {
        head.remove_header(&name);
    }
    match body {
        Body::Empty => {}
        Body::Whole(data) => head.insert_header(CONTENT_LENGTH, data.len()).ok()?,
        Body::Copied(_) => {}
    }
    if session.as_http2().is_none() {
        head.set_version(Version::HTTP_11);
        head.remove_header(&TE);
        if matches!(body, Body::Copied(_)) && !head.headers.contains_key(CONTENT_LENGTH) {
            let chunked = HeaderValue::from_static("chunked");
            head.insert_header(TRANSFER_ENCODING, chunked).ok()?;
        }
        return Some(());
    }
    head.set_version(Version::HTTP_2);
    let host = head.remove_header(&HOST)?;
    let uri = Uri::builder()
        .scheme(if peer.is_tls() { "https" } else { "http" })
        .authority(Authority::try_from(host.as_bytes()).ok()?)
        .path_and_query(PathAndQuery::try_from(head.raw_path()).ok()?);
    head.set_uri(uri.build().ok()?);
    Some(())
}
