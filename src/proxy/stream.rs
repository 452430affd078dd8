//! Connections that are not HTTP: bytes both ways between a client and an endpoint of the cluster
//! that the plan's route chooses.
//!
//! `server` gives [`Streams`] to the listeners, which hand over what is left after PROXY protocol
//! and TLS. A connection keeps its origin whatever plans come; it holds two buffers and one timer,
//! and is recorded once, however it ends.

mod record;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::protocols::Stream;

use super::hash;
use crate::base::{Cause, CauseKind};
use crate::listener::{Connection, StreamHandler};
use crate::plan::stream::Came;
use crate::plan::{Cluster, HashKey, Hello, StreamAction, Target};
use crate::upstream::{Ask, ClusterState, Dialled, NotDialled, Refused, Serving};

use record::Session;
pub use record::StreamSink;
use relay::{End, Limits};

/// Serves connections that are not HTTP.
pub struct Streams {
    serving: Arc<ArcSwap<Serving>>,
    sink: Arc<dyn StreamSink>,
}

impl Streams {
    pub fn new(serving: Arc<ArcSwap<Serving>>, sink: Arc<dyn StreamSink>) -> Self {
        Self { serving, sink }
    }

    /// The cluster that a connection goes to.
    fn decide(&self, serving: &Serving, session: &mut Session<'_>) -> Option<Arc<ClusterState>> {
        let connection = session.connection.clone();
        let Some(route) = serving.plan.stream(connection.listener, &came(&connection)) else {
            let message = "no Gateway takes this connection any more";
            session.end(Cause::new(CauseKind::RouteNotFound, message));
            return None;
        };
        session.owner = Some(route.origin.clone());
        let client = connection.peer.map(|peer| peer.ip().to_canonical());
        let access = route.access.iter();
        let mut access = access.filter_map(|id| serving.plan.checks.access.get(id.0));
        if let Some(refusing) = access.find(|policy| !policy.policy.admits(client)) {
            session.end(refusing.refusal());
            return None;
        }
        let forward = match &route.action {
            StreamAction::Forward(forward) => forward,
            StreamAction::Fenced(fence) => {
                let cause = Cause::new(CauseKind::Fenced, fence.reason.to_string());
                session.end(cause.owner(&fence.origin));
                return None;
            }
        };
        match &forward.pick(fastrand::u64(..))?.target {
            Target::Cluster(id) => {
                session.cluster = serving.plan.cluster(*id).cloned();
                let state = serving.cluster(*id).cloned();
                if state.is_none() {
                    session.end(Cause::new(CauseKind::Internal, "the cluster has no state"));
                }
                state
            }
            Target::Missing { name, reason } => {
                let message = format!("{name}: {reason}");
                session.end(Cause::new(CauseKind::ClusterNotFound, message));
                None
            }
        }
    }

    async fn dial(&self, state: &ClusterState, session: &mut Session<'_>) -> Option<Dialled> {
        let hash = session.cluster.as_deref().and_then(|cluster| {
            let peer = session.connection.peer?;
            source_hash(cluster, peer)
        });
        let ask = Ask {
            hash,
            ..Ask::default()
        };
        let ends = session.connection.peer.zip(session.connection.local);
        match state.dial(&ask, ends).await {
            Ok(dialled) => {
                session.connected(&dialled);
                Some(dialled)
            }
            Err(NotDialled::Refused(refused)) => {
                let (kind, message) = match refused {
                    Refused::NoEndpoint => (
                        CauseKind::NoHealthyUpstream,
                        "the cluster has no usable endpoint",
                    ),
                    Refused::Overflow => (
                        CauseKind::UpstreamOverflow,
                        "the cluster's maxConnections is reached",
                    ),
                };
                session.end(Cause::new(kind, message));
                None
            }
            Err(NotDialled::Failed {
                held,
                kind,
                message,
            }) => {
                session.upstream_host = Some(held.pick.addr());
                session.end(Cause::new(kind, message.clone()));
                session.upstream_failure = Some(message);
                None
            }
        }
    }
}

#[async_trait]
impl StreamHandler for Streams {
    async fn serve(&self, stream: Stream, connection: Arc<Connection>) {
        let mut session = Session::new(&*self.sink, connection);
        // Not held over the connection's life: its plan may go.
        let state = {
            let serving = self.serving.load_full();
            self.decide(&serving, &mut session)
        };
        let Some(state) = state else { return };
        let Some(dialled) = Box::pin(self.dial(&state, &mut session)).await else {
            return;
        };
        let limits = Limits::of(session.cluster.as_deref());
        let Dialled {
            stream: origin,
            held,
        } = dialled;
        let end = relay::relay(stream, origin, &mut session, limits).await;
        if let Some(cause) = end.map(End::cause) {
            session.end(cause);
        }
        drop(held);
    }
}

/// How a connection came, as the plan asks.
fn came(connection: &Connection) -> Came<'_> {
    if let Some(details) = connection.tls() {
        return Came::Inside {
            name: details.server_name.as_deref(),
            client: &details.terms.client,
        };
    }
    match connection.passed() {
        Some(hello) => Came::Through(Hello {
            name: hello.server_name.as_deref(),
            offers_mesh: hello.offers_mesh,
        }),
        None => Came::Plain,
    }
}

/// Only the source's address can be hashed; for any other key the choice is random, as in Istio.
fn source_hash(cluster: &Cluster, peer: SocketAddr) -> Option<u64> {
    matches!(cluster.balancing.key, Some(HashKey::SourceIp))
        .then(|| hash::of_address(peer.ip().to_canonical()))
}
