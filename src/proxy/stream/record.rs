//! What is recorded of a connection that is not HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::{Cause, CauseKind, Origin, clock};
use crate::listener::Connection;
use crate::observe::{Record, Transfer};
use crate::plan::Cluster;
use crate::proxy::known::tls_record;
use crate::upstream::Dialled;

/// Takes what happens to connections that are not HTTP: the access log and Istio's TCP metrics.
pub trait StreamSink: Send + Sync + 'static {
    /// The origin was reached.
    fn opened(&self, cluster: Option<&Cluster>);
    /// Bytes since the last report; the connection goes on.
    fn moved(&self, cluster: Option<&Cluster>, transfer: Transfer);
    /// It is over. `was_opened` says whether `opened` was told; `rest` has the bytes since the last
    /// report.
    fn closed(&self, record: &Record<'_>, was_opened: bool, rest: Transfer);
}

/// One connection. Dropping it records it.
pub(super) struct Session<'s> {
    sink: &'s dyn StreamSink,
    pub connection: Arc<Connection>,
    started: Instant,
    /// Since the Unix epoch.
    start: Duration,
    pub cluster: Option<Arc<Cluster>>,
    /// The rule that took it.
    pub owner: Option<Origin>,
    pub upstream_host: Option<SocketAddr>,
    upstream_local: Option<SocketAddr>,
    pub upstream_failure: Option<String>,
    cause: Option<Cause>,
    is_open: bool,
    reported: Transfer,
}

impl<'s> Session<'s> {
    pub fn new(sink: &'s dyn StreamSink, connection: Arc<Connection>) -> Self {
        Self {
            sink,
            connection,
            started: clock::now(),
            start: clock::since_epoch(),
            cluster: None,
            owner: None,
            upstream_host: None,
            upstream_local: None,
            upstream_failure: None,
            cause: None,
            is_open: false,
            reported: Transfer::default(),
        }
    }

    /// Notes why it ends, unless that is known.
    pub fn end(&mut self, cause: Cause) {
        if self.cause.is_none() {
            self.cause = Some(match (&cause.owner, &self.owner) {
                (None, Some(owner)) => cause.owner(owner),
                _ => cause,
            });
        }
    }

    pub fn connected(&mut self, dialled: &Dialled) {
        self.is_open = true;
        self.upstream_host = Some(dialled.held.pick.addr());
        let socket = dialled.stream.get_socket_digest();
        self.upstream_local = socket.and_then(|socket| socket.local_addr()?.as_inet().copied());
        self.sink.opened(self.cluster.as_deref());
    }

    /// Adds what moved since the last time to the metrics.
    pub fn report(&mut self) {
        let rest = self.unreported();
        if rest != Transfer::default() {
            self.sink.moved(self.cluster.as_deref(), rest);
        }
    }

    fn unreported(&mut self) -> Transfer {
        let now = Transfer {
            received: self.connection.bytes_received(),
            sent: self.connection.bytes_sent(),
        };
        let before = std::mem::replace(&mut self.reported, now);
        Transfer {
            received: now.received - before.received,
            sent: now.sent - before.sent,
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let rest = self.unreported();
        let kind = self.cause.as_ref().map(|cause| cause.kind);
        let flags = match kind {
            // The one attempt was the last one allowed.
            Some(CauseKind::UpstreamConnectFailure) => "UF,URX",
            Some(kind) => match kind.flag() {
                "-" => "",
                flag => flag,
            },
            None => "",
        };
        let connection = &self.connection;
        let record = Record {
            start: self.start,
            flags,
            details: kind.map_or("", details),
            cause: self.cause.as_ref(),
            upstream_failure: self.upstream_failure.as_deref(),
            bytes_received: connection.bytes_received(),
            bytes_sent: connection.bytes_sent(),
            duration: clock::now().saturating_duration_since(self.started),
            upstream_host: self.upstream_host,
            cluster: self.cluster.as_deref(),
            upstream_local_address: self.upstream_local,
            downstream_local_address: connection.local,
            downstream_remote_address: connection.peer,
            downstream_direct_remote_address: connection.direct_peer(),
            tls: connection.tls().map(tls_record),
            requested_server_name: connection.server_name(),
            ..Record::default()
        };
        self.sink.closed(&record, self.is_open, rest);
    }
}

/// Envoy's details of a connection; most of its response code details are about requests.
fn details(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::RouteNotFound => "filter_chain_not_found",
        CauseKind::AccessDenied
        | CauseKind::StreamIdle
        | CauseKind::StreamDuration
        | CauseKind::Released
        | CauseKind::Fenced => kind.details(),
        _ => "",
    }
}
