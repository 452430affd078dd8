//! The set of open ports. `server` calls [`Listeners::apply`] with what a new plan wants.
//!
//! Each port is its own Pingora listening service around one shared application, with a private
//! shutdown channel, on a socket that is bound here: so a failure is known at once and touches no
//! other port. A second handle of each socket is kept beside the one Pingora adopts, for a
//! successor of this process: Pingora's own descriptor table only ever grows, and adopting a dead
//! number out of it aborts the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::{Fds, ListenFds};
use pingora_core::services::{Service as _, listening::Service};
use rustix::net::sockopt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::ConnectionObserver;
use super::error::{ListenerError, ListenerOutcome};
use super::limits::ListenerLimits;
use super::serve::Front;
use super::shared::Shared;
use super::stream::StreamHandler;
use crate::plan::Plan;

/// The listening ports in front of one application, usually the shared `HttpProxy`.
pub struct Listeners<A> {
    application: Arc<A>,
    shared: Arc<Shared>,
    /// Sockets of a predecessor that no plan has asked for yet, by the address they were opened for.
    inherited: Mutex<HashMap<SocketAddr, TcpListener>>,
    open: Mutex<BTreeMap<SocketAddr, Port>>,
    /// Lets one caller at a time open and close.
    changing: tokio::sync::Mutex<()>,
}

/// One open port.
struct Port {
    /// With the real port number where 0 was asked for.
    actual: SocketAddr,
    /// The second handle: the socket lives until both are dropped.
    socket: TcpListener,
    close: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// Between probes of a client that has not answered the first, and how many of them it may miss.
const PROBE_AGAIN: Duration = Duration::from_secs(60);
const PROBES: u32 = 3;

/// Has the kernel probe clients that are silent. Linux gives it on from the listening socket to
/// each that it accepts.
fn keep_alive(socket: &TcpListener, silence: Option<Duration>) -> std::io::Result<()> {
    if let Some(silence) = silence {
        sockopt::set_tcp_keepidle(socket, silence)?;
        sockopt::set_tcp_keepintvl(socket, PROBE_AGAIN.min(silence))?;
        sockopt::set_tcp_keepcnt(socket, PROBES)?;
    }
    // A predecessor may have had it otherwise.
    sockopt::set_socket_keepalive(socket, silence.is_some())?;
    Ok(())
}

impl<A: HttpServerApp + Send + Sync + 'static> Listeners<A> {
    /// No port is open yet. What is not HTTP goes to `streams`. Sockets inherited from a
    /// predecessor, by the address they were opened for, are adopted when it is wanted.
    pub fn new(
        app: Arc<A>,
        inherited: HashMap<SocketAddr, TcpListener>,
        limits: ListenerLimits,
        observer: Arc<dyn ConnectionObserver>,
        streams: Arc<dyn StreamHandler>,
    ) -> Self {
        let shared = Arc::new(Shared::new(limits, observer, streams));
        Self {
            application: app,
            shared,
            inherited: Mutex::new(inherited),
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

    /// Has answers that say no length and have been open for so long count among the tunnels.
    pub fn gather_answers(&self, age: Duration) {
        self.shared.tunnels.gather(age);
    }

    /// Tunnels open now: WebSockets and streams, which end only when a side wants it.
    pub fn tunnels(&self) -> usize {
        self.shared.tunnels.open()
    }

    /// Ends the `count` oldest tunnels, so that their clients connect again elsewhere.
    pub fn release_tunnels(&self, count: usize) {
        self.shared.tunnels.release(count);
    }

    /// Waits until the last connection is gone.
    pub async fn drained(&self) {
        self.shared.empty().await;
    }

    /// A handle of every open socket, by the address it was opened for, for a successor of this
    /// process to accept on.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn handles(&self) -> std::io::Result<Vec<(SocketAddr, TcpListener)>> {
        let open = self.open();
        open.iter()
            .map(|(address, port)| Ok((*address, port.socket.try_clone()?)))
            .collect()
    }

    /// Binds `address`, or adopts its inherited socket, and starts accepting.
    fn start(&self, address: SocketAddr) -> Result<Port, ListenerError> {
        self.bind(address)
            .and_then(|socket| self.accept_on(address, socket))
            .map_err(|error| ListenerError::new(address, error))
    }

    fn bind(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        let mut inherited = self
            .inherited
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // std sets SO_REUSEADDR; Pingora raises the backlog when it adopts the socket.
        let socket = match inherited.remove(&address) {
            Some(socket) => socket,
            None => TcpListener::bind(address)?,
        };
        socket.set_nonblocking(true)?;
        keep_alive(&socket, self.shared.limits.tcp_keepalive)?;
        Ok(socket)
    }

    fn accept_on(&self, address: SocketAddr, socket: TcpListener) -> std::io::Result<Port> {
        let actual = socket.local_addr()?;
        let adopted = socket.try_clone()?;
        let limits = &self.shared.limits;
        let front = Front::new(self.application.clone(), self.shared.clone(), address);
        let key = actual.to_string();
        let mut service = Service::new(format!("listener {key}"), front);
        service.add_listener(
            ListenerConfig::tcp(key.clone())
                .l4_buffer(L4BufferSettings::default().read(limits.read_buffer)),
        );
        // Where Pingora finds the number and adopts it: a table of this socket alone.
        let table = ListenFds::new(Fds::new().into());
        table.lock().add(key, adopted.into_raw_fd());
        let (close, closing) = watch::channel(false);
        let tasks = limits.accept_tasks.max(1);
        let accepting = tokio::spawn(async move {
            service.start_service(Some(table), closing, tasks).await;
        });
        Ok(Port {
            actual,
            socket,
            close,
            accepting,
        })
    }

    async fn close(&self, address: SocketAddr) {
        let Some(port) = self.open().remove(&address) else {
            return;
        };
        // First, so that the socket is closed with Pingora's handle: a client that connects to one
        // on which nobody accepts would wait.
        drop(port.socket);
        port.close.send_replace(true);
        if let Err(error) = port.accepting.await {
            log::error!("the listener on {} ended badly: {error}", port.actual);
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Port>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
