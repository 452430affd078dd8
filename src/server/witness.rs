//! Carries what the listeners and the proxy see to the access log and the metrics: the link between
//! rooms that know no metrics and one that knows no sockets.

use std::sync::Arc;

use crate::base::clock;
use crate::listener::{Connection, ConnectionObserver, EarlyRefusal};
use crate::observe::{self, Observe, Record};
use crate::proxy::Sink;

/// Hears the listeners.
pub struct Witness(pub Arc<Observe>);

impl ConnectionObserver for Witness {
    fn opened(&self, _connection: &Connection) {
        self.0.connection_opened();
    }

    fn closed(&self, _connection: &Connection) {
        self.0.connection_closed();
    }

    fn refused(&self, refusal: EarlyRefusal) {
        self.0.early_refusal(&observe::EarlyRefusal {
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
