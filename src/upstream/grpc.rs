//! Calls of policies' own to a gRPC service: one message, one answer.
//!
//! Endpoints are picked as for traffic, each has one HTTP/2 connection for all calls. A task of its
//! own makes the connection, so that a call with little time does not give up what the next one
//! needs; one that cannot be made is not tried again for a while, and one on which nothing is
//! answered any more is made anew. The calls share nothing with clients' requests.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
use tokio::sync::watch;

use crate::base::clock;
use crate::policy::outcall::Failed;

use super::dial::Dialer;
use super::peer::{Caller, Wants};
use super::tls::tls_host;
use super::{Ask, ClusterState, Outcome, Pick, Refused};

/// More than any answer needs.
const LONGEST: usize = 64 * 1024;

/// After a connection that could not be made; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Calls in a row that may go unanswered before their connection is taken for dead.
const PATIENCE: u32 = 8;

/// Bytes before a gRPC message.
const PREFIX: usize = 5;

/// What `grpc-timeout` can say.
const MOST_MILLIS: u128 = 99_999_999;

/// A gRPC service.
pub struct GrpcCaller {
    state: Arc<ClusterState>,
    dialer: Arc<Dialer>,
    /// By what may share a connection.
    lines: ArcSwap<HashMap<u64, Arc<Line>>>,
    runtime: Handle,
}

/// The connection to one endpoint.
struct Line {
    addr: SocketAddr,
    peer: HttpPeer,
    /// What its certificate must be for.
    host: String,
    dialer: Arc<Dialer>,
    runtime: Handle,
    link: watch::Sender<Link>,
    /// Connections that were made.
    made: AtomicU64,
    /// Calls in a row that were not answered in time.
    unanswered: AtomicU32,
    /// Whether any was answered since the connection was made.
    answered: AtomicBool,
}

/// How a connection stands.
#[derive(Clone)]
enum Link {
    None,
    /// It is being made.
    Dialling,
    Up {
        client: SendRequest<Bytes>,
        number: u64,
    },
    /// The next one is made after `until` at the earliest.
    Failed {
        until: Instant,
        pause: Duration,
    },
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
            let client = line.client().await?;
            is_sent.store(true, Ordering::Relaxed);
            converse(client, line.peer.is_tls(), call).await
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
                debug!("{} gives no answer at {}: {failed}", self.name(), line.addr);
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
    fn line(&self, pick: &Pick, host: String) -> Arc<Line> {
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
        let line = Arc::new(Line {
            addr: pick.addr(),
            peer,
            host,
            dialer: self.dialer.clone(),
            runtime: self.runtime.clone(),
            link: watch::Sender::new(Link::None),
            made: AtomicU64::new(0),
            unanswered: AtomicU32::new(0),
            answered: AtomicBool::new(false),
        });
        let members: HashSet<SocketAddr> = self.state.addresses().into_iter().collect();
        self.lines.rcu(|known| {
            let mut lines = HashMap::clone(known);
            lines.retain(|own, known| {
                let is_older = (known.addr, &known.host) == (line.addr, &line.host);
                *own == key || (!is_older && members.contains(&known.addr))
            });
            lines.entry(key).or_insert_with(|| line.clone());
            lines
        });
        let known = self.lines.load().get(&key).cloned();
        known.unwrap_or(line)
    }
}

impl Line {
    /// The connection, once there is one.
    async fn client(self: &Arc<Self>) -> Result<SendRequest<Bytes>, Unanswered> {
        if let Link::Up { client, .. } = &*self.link.borrow() {
            return Ok(client.clone());
        }
        let mut link = self.link.subscribe();
        loop {
            let now = clock::now();
            let seen = link.borrow_and_update().clone();
            match seen {
                Link::Up { client, .. } => return Ok(client),
                Link::Failed { until, .. } if now < until => {
                    return Err(Failed::Unconnected.into());
                }
                Link::None | Link::Failed { .. } => self.dial(now),
                Link::Dialling => {}
            }
            link.changed().await.map_err(|_| Failed::Unconnected)?;
        }
    }

    /// Begins a connection, unless somebody did.
    fn dial(self: &Arc<Self>, now: Instant) {
        let mut pause = PAUSE;
        let begins = self.link.send_if_modified(|link| {
            match link {
                Link::None => {}
                Link::Failed { until, pause: next } if now >= *until => pause = *next,
                _ => return false,
            }
            *link = Link::Dialling;
            true
        });
        if begins {
            self.runtime.spawn(keep(self.clone(), pause));
        }
    }

    /// The endpoint answers.
    fn heard(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.answered.store(true, Ordering::Relaxed);
    }

    /// A call was not answered in time. The connection is given up when it was not the first.
    fn missed(&self) {
        if self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 < PATIENCE {
            return;
        }
        self.unanswered.store(0, Ordering::Relaxed);
        self.link.send_if_modified(|link| {
            let is_up = matches!(link, Link::Up { .. });
            if is_up {
                *link = Link::None;
            }
            is_up
        });
    }
}

/// Makes a connection and drives it to its end.
async fn keep(line: Arc<Line>, pause: Duration) {
    let failed = |line: &Line| Link::Failed {
        until: line.later(pause),
        pause: (pause * 2).min(LONGEST_PAUSE),
    };
    let host = Some(&*line.host);
    let stream = line.dialer.dial(line.peer.clone(), Some(ALPN::H2), host);
    let made = match stream.await {
        Ok(stream) => h2::client::handshake(stream)
            .await
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let (client, connection) = match made {
        Ok(made) => made,
        Err(error) => {
            debug!("no connection to {}: {error}", line.addr);
            line.link.send_replace(failed(&line));
            return;
        }
    };
    let number = line.made.fetch_add(1, Ordering::Relaxed);
    line.unanswered.store(0, Ordering::Relaxed);
    line.answered.store(false, Ordering::Relaxed);
    line.link.send_replace(Link::Up { client, number });
    let weak = Arc::downgrade(&line);
    drop(line);
    // Also when nobody can call over it any more.
    let ended = connection.await;
    let Some(line) = weak.upgrade() else {
        return;
    };
    debug!("the connection to {} has ended: {ended:?}", line.addr);
    line.link.send_if_modified(|link| {
        let is_own = matches!(link, Link::Up { number: own, .. } if *own == number);
        if is_own {
            *link = match line.answered.load(Ordering::Relaxed) {
                true => Link::None,
                false => failed(&line),
            };
        }
        is_own
    });
}

impl Line {
    fn later(&self, pause: Duration) -> Instant {
        let now = clock::now();
        now.checked_add(pause).unwrap_or(now)
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
    body.send_data(framed(message), true)
        .map_err(|_| Failed::Broken)?;
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
