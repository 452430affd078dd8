//! What all listeners and connections have in common: limits, the observer and the number of
//! connections open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::connection::{Connection, ConnectionObserver};
use super::handshakes::Handshakes;
use super::limits::ListenerLimits;
use super::stream::StreamHandler;
use super::tls::Terminators;
use super::tunnels::Tunnels;
use crate::base::clock;

/// One per [`Listeners`](super::Listeners).
pub(super) struct Shared {
    pub limits: ListenerLimits,
    pub observer: Arc<dyn ConnectionObserver>,
    pub streams: Arc<dyn StreamHandler>,
    pub tls: ArcSwap<Terminators>,
    handshakes: Option<Handshakes>,
    pub tunnels: Arc<Tunnels>,
    open: AtomicUsize,
    accepted: AtomicU64,
    emptied: Notify,
}

/// A connection's place under the cap. Dropping it frees the place and tells the observer.
pub(super) struct Place {
    pub shared: Arc<Shared>,
    pub connection: Arc<Connection>,
}

impl Shared {
    pub fn new(
        limits: ListenerLimits,
        observer: Arc<dyn ConnectionObserver>,
        streams: Arc<dyn StreamHandler>,
    ) -> Self {
        Self {
            handshakes: limits.handshakes_per_source.map(Handshakes::new),
            limits,
            observer,
            streams,
            tls: ArcSwap::default(),
            tunnels: Arc::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            emptied: Notify::new(),
        }
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Gives a new connection its identity and, if one is free, its place.
    ///
    /// # Errors
    /// The connection itself, if the cap is reached.
    pub fn admit(
        self: &Arc<Self>,
        listener: SocketAddr,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    ) -> Result<Place, Arc<Connection>> {
        let id = self.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::new(id, listener, local, peer);
        let connection = Arc::new(connection.within(self.tunnels.clone()));
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.limits.max_connections {
            self.leave();
            return Err(connection);
        }
        self.observer.opened(&connection);
        Ok(Place {
            shared: self.clone(),
            connection,
        })
    }

    /// Whether a client may begin a TLS handshake now.
    pub fn may_shake_hands(&self, client: Option<SocketAddr>) -> bool {
        match (&self.handshakes, client) {
            (Some(handshakes), Some(client)) => handshakes.admit(client.ip(), clock::now()),
            _ => true,
        }
    }

    /// Waits until no connection is open.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Registered before looking, so that a connection that ends in between is not missed.
            emptied.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }
}

impl Place {
    /// Takes the addresses that a PROXY header tells for the connection's own. To be called before
    /// anybody else has a share in the connection.
    pub fn speak_for(&mut self, client: SocketAddr, local: SocketAddr) {
        if let Some(connection) = Arc::get_mut(&mut self.connection) {
            connection.proxy = connection.peer.replace(client);
            connection.local = Some(local);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.end_tunnel();
        self.shared.observer.closed(&self.connection);
        self.shared.leave();
    }
}
