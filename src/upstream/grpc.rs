//! Calls of policies' own to a gRPC service: one message, one answer.
//!
//! Endpoints are picked as for traffic; each has one HTTP/2 connection for all calls, which share
//! nothing with clients' requests.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, StatusCode};
use log::debug;
use pingora_core::protocols::tls::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use tokio::runtime::Handle;

use crate::base::clock;
use crate::policy::outcall::Failed;

use super::dial::Dialer;
use super::kept::{Dial, Driver, Kept};
use super::peer::{Caller, Wants};
use super::tls::tls_host;
use super::{Ask, ClusterState, Outcome, Pick, Refused};

/// More than any answer needs.
const LONGEST: usize = 64 * 1024;

/// Bytes before a gRPC message.
const PREFIX: usize = 5;

/// What `grpc-timeout` can say.
const MOST_MILLIS: u128 = 99_999_999;

/// A gRPC service.
pub struct GrpcCaller {
    state: Arc<ClusterState>,
    dialer: Arc<Dialer>,
    /// By what may share a connection.
    lines: ArcSwap<HashMap<u64, Arc<Kept<Line>>>>,
    runtime: Handle,
}

/// The connection to one endpoint.
struct Line {
    addr: SocketAddr,
    peer: HttpPeer,
    /// What its certificate must be for.
    host: String,
    dialer: Arc<Dialer>,
}

impl Dial for Line {
    type Client = SendRequest<Bytes>;

    async fn dial(&self) -> Result<(SendRequest<Bytes>, Driver), String> {
        let host = Some(&*self.host);
        let stream = self.dialer.dial(self.peer.clone(), Some(ALPN::H2), host);
        let stream = stream.await.map_err(|error| error.to_string())?;
        let made = h2::client::handshake(stream).await;
        let (client, connection) = made.map_err(|error| error.to_string())?;
        let driver = async move { format!("{:?}", connection.await) };
        Ok((client, Box::pin(driver)))
    }

    fn place(&self) -> String {
        self.addr.to_string()
    }
}

/// What became of a call that got no answer.
struct Unanswered {
    failed: Failed,
    /// The service has not seen it.
    unseen: bool,
}

/// What is called, and until when.
#[derive(Clone, Copy)]
struct Call<'c> {
    method: &'static str,
    authority: &'c str,
    message: &'c Bytes,
    deadline: Instant,
}

impl GrpcCaller {
    pub(super) fn new(state: Arc<ClusterState>, dialer: Arc<Dialer>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            state,
            dialer,
            lines: ArcSwap::default(),
            runtime,
        })
    }

    pub(super) fn is_of(&self, state: &Arc<ClusterState>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.state.detector.cluster
    }

    /// Calls a method (`/package.Service/Method`) with a serialized message; gives the answer's.
    ///
    /// # Errors
    /// There is no answer in time, or not a good one.
    pub async fn call(
        &self,
        method: &'static str,
        authority: &str,
        message: &Bytes,
        within: Duration,
    ) -> Result<Bytes, Failed> {
        let now = clock::now();
        let call = Call {
            method,
            authority,
            message,
            deadline: now.checked_add(within).unwrap_or(now),
        };
        let answered = match self.attempt(call).await {
            // Its connection was just ending.
            Err(Unanswered { unseen: true, .. }) => self.attempt(call).await,
            other => other,
        };
        answered.map_err(|unanswered| unanswered.failed)
    }

    /// Begins the connection that the next call is likely to need.
    pub(super) fn prepare(self: &Arc<Self>, authority: &str) {
        let host = self.host(authority);
        let this = self.clone();
        self.runtime.spawn(async move {
            if let Ok(pick) = this.state.pick(&Ask::default()) {
                // Whoever calls finds out what is wrong.
                let _ = this.line(&pick, host).client().await;
            }
        });
    }

    async fn attempt(&self, call: Call<'_>) -> Result<Bytes, Unanswered> {
        let pick = self.state.pick(&Ask::default());
        let pick = pick.map_err(|refused| match refused {
            Refused::NoEndpoint => Failed::NoEndpoint,
            Refused::Overflow => Failed::Overflow,
        })?;
        let line = self.line(&pick, self.host(call.authority));
        let is_sent = AtomicBool::new(false);
        let conversation = async {
            let client = line.client().await.map_err(|_| Failed::Unconnected)?;
            is_sent.store(true, Ordering::Relaxed);
            converse(client, line.dial.peer.is_tls(), call).await
        };
        let deadline = tokio::time::Instant::from_std(call.deadline);
        let result = match tokio::time::timeout_at(deadline, conversation).await {
            Ok(result) => result,
            Err(_) => Err(Failed::TimedOut.into()),
        };
        match &result {
            Ok(_) => {
                line.heard();
                pick.report(Outcome::Answered(200));
            }
            Err(Unanswered { failed, .. }) => {
                debug!(
                    "{} gives no answer at {}: {failed}",
                    self.name(),
                    line.dial.addr
                );
                match failed {
                    Failed::Refused => {
                        line.heard();
                        pick.report(Outcome::Answered(503));
                    }
                    Failed::TimedOut if is_sent.load(Ordering::Relaxed) => {
                        line.missed();
                        pick.report(Outcome::TimedOut);
                    }
                    Failed::Unconnected => pick.report(Outcome::ConnectFailed),
                    Failed::Broken => pick.report(Outcome::Reset),
                    _ => {}
                }
            }
        }
        result
    }

    /// The host that TLS asks for, where it depends on the caller.
    fn host(&self, authority: &str) -> String {
        match self.state.needs_host() {
            true => tls_host(authority),
            false => String::new(),
        }
    }

    /// The connection to an endpoint. Those of endpoints that are gone are given up.
    fn line(&self, pick: &Pick, host: String) -> Arc<Kept<Line>> {
        let caller = Caller {
            wants: Wants::Http2,
            host: &host,
            addresses: None,
        };
        let peer = self.state.peer_apart(pick, &caller);
        let key = peer.reuse_hash();
        if let Some(line) = self.lines.load().get(&key) {
            return line.clone();
        }
        let line = Line {
            addr: pick.addr(),
            peer,
            host,
            dialer: self.dialer.clone(),
        };
        let line = Kept::new(line, self.runtime.clone());
        let members: HashSet<SocketAddr> = self.state.addresses().into_iter().collect();
        self.lines.rcu(|known| {
            let mut lines = HashMap::clone(known);
            lines.retain(|own, known| {
                let (known, new) = (&known.dial, &line.dial);
                let is_older = (known.addr, &known.host) == (new.addr, &new.host);
                *own == key || (!is_older && members.contains(&known.addr))
            });
            lines.entry(key).or_insert_with(|| line.clone());
            lines
        });
        let known = self.lines.load().get(&key).cloned();
        known.unwrap_or(line)
    }
}

async fn converse(
    client: SendRequest<Bytes>,
    is_tls: bool,
    call: Call<'_>,
) -> Result<Bytes, Unanswered> {
    let Call {
        method,
        authority,
        message,
        deadline,
    } = call;
    let scheme = if is_tls { "https" } else { "http" };
    let left = deadline.saturating_duration_since(clock::now()).as_millis();
    let request = Request::post(format!("{scheme}://{authority}{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "Pingress")
        .header("grpc-timeout", format!("{}m", left.clamp(1, MOST_MILLIS)))
        .body(())
        .map_err(|_| Failed::Broken)?;
    let mut client = client.ready().await.map_err(|_| Unanswered::unseen())?;
    let sent = client.send_request(request, false);
    let (response, mut body) = sent.map_err(|_| Unanswered::unseen())?;
    // Fails where the stream has ended meanwhile, refused for instance: its answer says how.
    let _ = body.send_data(framed(message), true);
    let response = response.await.map_err(|error| broken(&error))?;
    if response.status() != StatusCode::OK {
        return Err(Failed::Refused.into());
    }
    let (head, body) = response.into_parts();
    Ok(read(&head.headers, body).await?)
}

/// The one message of an answer that is good.
async fn read(head: &HeaderMap, mut body: RecvStream) -> Result<Bytes, Failed> {
    let mut answer = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| Failed::Broken)?;
        let released = body.flow_control().release_capacity(data.len());
        released.map_err(|_| Failed::Broken)?;
        if answer.len() + data.len() > LONGEST {
            return Err(Failed::Broken);
        }
        answer.put(data);
    }
    let trailers = body.trailers().await.map_err(|_| Failed::Broken)?;
    // An answer of trailers alone has its status in the head.
    let status = trailers.as_ref().unwrap_or(head).get("grpc-status");
    match status.map(|status| status.as_bytes()) {
        Some(b"0") => {}
        Some(_) => return Err(Failed::Refused),
        None => return Err(Failed::Broken),
    }
    let mut answer = answer.freeze();
    if answer.len() < PREFIX {
        return Err(Failed::Broken);
    }
    let message = answer.split_off(PREFIX);
    let length = u32::try_from(message.len()).map_err(|_| Failed::Broken)?;
    // Not compressed, and no second message behind it.
    match answer.first() == Some(&0) && answer.ends_with(&length.to_be_bytes()) {
        true => Ok(message),
        false => Err(Failed::Broken),
    }
}

/// A message with its prefix: not compressed, and its length.
fn framed(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + PREFIX);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// Of a stream that ended without an answer (RFC 9113 section 8.7).
fn broken(error: &h2::Error) -> Unanswered {
    let is_leaving = error.is_go_away() && error.is_remote();
    Unanswered {
        failed: Failed::Broken,
        unseen: is_leaving || error.reason() == Some(Reason::REFUSED_STREAM),
    }
}

impl Unanswered {
    fn unseen() -> Self {
        Self {
            failed: Failed::Broken,
            unseen: true,
        }
    }
}

impl From<Failed> for Unanswered {
    fn from(failed: Failed) -> Self {
        Self {
            failed,
            unseen: false,
        }
    }
}

impl std::fmt::Debug for GrpcCaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcCaller")
            .field("cluster", &self.name())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
