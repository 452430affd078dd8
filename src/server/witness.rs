//! Carries what the listeners see to the access log and the metrics.

use std::sync::Arc;

use crate::listener::{Connection, ConnectionObserver, EarlyRefusal};
use crate::observe::Observe;

/// The link between `listener`, which knows no metrics, and `observe`, which knows no sockets.
pub struct Witness {
    pub observe: Arc<Observe>,
}

impl ConnectionObserver for Witness {
    fn opened(&self, _connection: &Connection) {
        self.observe.connection_opened();
    }

    fn closed(&self, _connection: &Connection) {
        self.observe.connection_closed();
    }

    fn refused(&self, refusal: EarlyRefusal) {
        let _ = (&self.observe, refusal);
    }
}
