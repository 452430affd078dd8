//! The set of open ports. `server` calls [`Listeners::apply`] with what a new plan wants.
//!
//! Each port is its own Pingora listening service around one shared application, with a private
//! shutdown channel, on a socket that is bound here: so a failure is known at once and touches no
//! other port, and the descriptor table of the hand-over always tells the truth (Pingora only ever
//! adds to it, and adopting a dead number aborts the process; pingora.md section 6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora_core::apps::HttpServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::{Fds, ListenFds};
use pingora_core::services::{Service as _, listening::Service};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::application::Application;
use super::connection::ConnectionObserver;
use super::error::{ListenerError, ListenerOutcome};
use super::limits::ListenerLimits;
use super::serve::Front;
use super::shared::Shared;
use super::stream::StreamHandler;
use crate::plan::Plan;

/// The listening ports in front of one application, usually the shared `HttpProxy`.
pub struct Listeners<A> {
    application: Arc<Application<A>>,
    shared: Arc<Shared>,
    fds: ListenFds,
    open: Mutex<BTreeMap<SocketAddr, Port>>,
    /// Lets one caller at a time open and close.
    changing: tokio::sync::Mutex<()>,
}

/// One open port.
struct Port {
    /// With the real port number where 0 was asked for.
    actual: SocketAddr,
    /// Its name in the descriptor table.
    key: String,
    close: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// A socket that listens and has no owner but its number.
struct Bound {
    actual: SocketAddr,
    key: String,
    /// Where Pingora finds the number and adopts it: a table of this socket alone, because the one
    /// of the hand-over may have lost it again before Pingora looks.
    table: ListenFds,
}

impl<A: HttpServerApp + Send + Sync + 'static> Listeners<A> {
    /// No port is open yet. What is not HTTP goes to `streams`. `fds` may hold sockets inherited from a predecessor: they are adopted
    /// when their address is wanted.
    pub fn new(
        app: Arc<A>,
        fds: ListenFds,
        limits: ListenerLimits,
        observer: Arc<dyn ConnectionObserver>,
        streams: Arc<dyn StreamHandler>,
    ) -> Self {
        let shared = Arc::new(Shared::new(limits, observer, streams));
        Self {
            application: Arc::new(Application::new(app, shared.clone())),
            shared,
            fds,
            open: Mutex::new(BTreeMap::new()),
            changing: tokio::sync::Mutex::new(()),
        }
    }

    /// Opens and closes sockets so that exactly `wanted` listen. A failure concerns its address
    /// alone. Connections of a closed port end gracefully; those of other ports notice nothing.
    pub async fn apply(&self, wanted: &[SocketAddr]) -> Vec<ListenerOutcome> {
        let _changing = self.changing.lock().await;
        let wanted: BTreeSet<SocketAddr> = wanted.iter().copied().collect();
        let surplus: Vec<SocketAddr> = self
            .open()
            .keys()
            .filter(|address| !wanted.contains(address))
            .copied()
            .collect();
        let mut outcomes = Vec::with_capacity(wanted.len() + surplus.len());
        // First, so that 127.0.0.1:80 can follow 0.0.0.0:80.
        for address in surplus {
            self.close(address).await;
            outcomes.push(ListenerOutcome::Closed(address));
        }
        for address in wanted {
            if self.open().contains_key(&address) {
                outcomes.push(ListenerOutcome::Kept(address));
                continue;
            }
            outcomes.push(match self.start(address) {
                Ok(port) => {
                    self.open().insert(address, port);
                    ListenerOutcome::Opened(address)
                }
                Err(error) => ListenerOutcome::Failed(address, error),
            });
        }
        outcomes
    }

    /// Ends TLS for the plan's servers, or passes it and plain TCP on, from the next connection
    /// on; open ones notice nothing. To be called before [`apply`](Self::apply) opens their ports.
    /// Gives what is wrong with those that cannot be served; their handshakes fail.
    pub fn terminate(&self, plan: &Plan) -> Vec<String> {
        let (next, problems) = self.shared.tls.load().succeeded_by(plan);
        self.shared.tls.store(Arc::new(next));
        problems
    }

    /// The addresses that listen now, with the real port where 0 was asked for.
    pub fn open_addresses(&self) -> Vec<SocketAddr> {
        self.open().values().map(|port| port.actual).collect()
    }

    /// Connections open now, those of closed ports included.
    pub fn connections(&self) -> usize {
        self.shared.open()
    }

    /// Stops accepting everywhere and lets connections end: HTTP/1 answers once more with
    /// `Connection: close`, HTTP/2 gets GOAWAY. Returns once no port listens.
    pub async fn close_all(&self) {
        self.apply(&[]).await;
    }

    /// Waits until the last connection is gone.
    pub async fn drained(&self) {
        self.shared.empty().await;
    }

    /// Binds `address`, or adopts its inherited socket, and starts accepting.
    fn start(&self, address: SocketAddr) -> Result<Port, ListenerError> {
        let socket = self
            .bind(address)
            .map_err(|error| ListenerError::new(address, error))?;
        let limits = &self.shared.limits;
        let front = Front::new(self.application.clone(), self.shared.clone(), address);
        let mut service = Service::new(format!("listener {}", socket.key), front);
        service.add_listener(
            ListenerConfig::tcp(socket.key.clone())
                .l4_buffer(L4BufferSettings::default().read(limits.read_buffer)),
        );
        let (close, closing) = watch::channel(false);
        let tasks = limits.accept_tasks.max(1);
        let accepting = tokio::spawn(async move {
            service
                .start_service(Some(socket.table), closing, tasks)
                .await;
        });
        Ok(Port {
            actual: socket.actual,
            key: socket.key,
            close,
            accepting,
        })
    }

    /// Binds `address` or finds it among the inherited sockets.
    fn bind(&self, address: SocketAddr) -> std::io::Result<Bound> {
        let mut fds = self.fds.lock();
        let inherited = fds.get(&address.to_string()).copied();
        let (actual, number) = match inherited {
            Some(number) => (address, number),
            None => {
                // std sets SO_REUSEADDR; Pingora raises the backlog when it adopts the socket.
                let socket = TcpListener::bind(address)?;
                socket.set_nonblocking(true)?;
                (socket.local_addr()?, socket.into_raw_fd())
            }
        };
        let key = actual.to_string();
        fds.add(key.clone(), number);
        let table = ListenFds::new(Fds::new().into());
        table.lock().add(key.clone(), number);
        Ok(Bound { actual, key, table })
    }

    async fn close(&self, address: SocketAddr) {
        let Some(port) = self.open().remove(&address) else {
            return;
        };
        // While the number still means this socket: it must never be handed over once it does not.
        self.forget(&port.key);
        port.close.send_replace(true);
        if let Err(error) = port.accepting.await {
            log::error!("the listener on {} ended badly: {error}", port.actual);
        }
    }

    /// Takes one entry out of the descriptor table, which has no way to remove one.
    fn forget(&self, key: &str) {
        let mut fds = self.fds.lock();
        let mut rest = Fds::new();
        let (keys, numbers) = fds.serialize();
        for (other, number) in keys.into_iter().zip(numbers) {
            if other != key {
                rest.add(other, number);
            }
        }
        *fds = rest;
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Port>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
