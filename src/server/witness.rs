//! Carries what the listeners and the proxy see to the access log and the metrics: the link between
//! rooms that know no metrics and one that knows no sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::clock;
use crate::listener::{Connection, ConnectionObserver, EarlyRefusal, HandshakeError, TlsDetails};
use crate::observe::{self, Observe, Record, Transfer};
use crate::plan::Cluster;
use crate::proxy::{Sink, StreamSink};

/// Failed handshakes that are logged in one second; the metrics count all of them.
const LOGGED_FAILURES: u32 = 5;

/// Hears the listeners.
pub struct Witness {
    observe: Arc<Observe>,
    /// The second at hand since the Unix epoch, and how many failures were logged in it.
    logged: AtomicU64,
}

impl Witness {
    pub fn new(observe: Arc<Observe>) -> Self {
        Self {
            observe,
            logged: AtomicU64::new(0),
        }
    }

    /// Says why a handshake failed, unless a flood of them would fill the log.
    fn log_failure(&self, connection: &Connection, error: &HandshakeError) {
        let second = clock::since_epoch().as_secs() << 32;
        let counted = self
            .logged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |logged| {
                match logged >> 32 << 32 == second {
                    true => Some(logged + 1),
                    false => Some(second + 1),
                }
            });
        let before = counted.unwrap_or_default();
        let in_this_second = before >> 32 << 32 == second;
        if !in_this_second || (before & u64::from(u32::MAX)) < u64::from(LOGGED_FAILURES) {
            let peer = connection
                .peer
                .map_or("-".to_owned(), |peer| peer.to_string());
            log::info!(
                "TLS handshake of {peer} on {}: {error}",
                connection.listener
            );
        }
    }
}

impl ConnectionObserver for Witness {
    fn opened(&self, _connection: &Connection) {
        self.observe.connection_opened();
    }

    fn closed(&self, _connection: &Connection) {
        self.observe.connection_closed();
    }

    fn handshake(&self, connection: &Connection, outcome: Result<&TlsDetails, &HandshakeError>) {
        match outcome {
            Ok(details) if details.resumed => self.observe.handshake("resumed"),
            Ok(_) => self.observe.handshake("full"),
            Err(error) => {
                self.observe.handshake(error.code());
                self.log_failure(connection, error);
            }
        }
    }

    fn passed(&self, _connection: &Connection) {
        self.observe.handshake("passed");
    }

    fn refused(&self, refusal: EarlyRefusal) {
        self.observe.early_refusal(&observe::EarlyRefusal {
            start: clock::since_epoch().saturating_sub(refusal.elapsed),
            kind: refusal.kind,
            status: refusal.status.unwrap_or(0),
            request_line: refusal.request_line.as_bytes(),
            bytes_received: refusal.bytes_received,
            bytes_sent: refusal.bytes_sent,
            duration: refusal.elapsed,
            listener: refusal.connection.listener,
            peer: refusal.connection.peer,
        });
    }
}

/// Hears the proxy.
pub struct Recorder(pub Arc<Observe>);

impl Sink for Recorder {
    fn finished(&self, record: &Record<'_>) {
        self.0.finished(record);
    }

    fn panicked(&self) {
        self.0.panicked();
    }
}

impl StreamSink for Recorder {
    fn opened(&self, cluster: Option<&Cluster>) {
        self.0.stream_opened(cluster);
    }

    fn moved(&self, cluster: Option<&Cluster>, transfer: Transfer) {
        self.0.stream_moved(cluster, transfer);
    }

    fn closed(&self, record: &Record<'_>, was_opened: bool, rest: Transfer) {
        self.0.stream_closed(record, was_opened, rest);
    }
}
