//! The one Pingora service: it owns the listeners, the operator's endpoints and the
//! configuration loop.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info};
use pingora::proxy::HttpProxy;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use crate::admin::{self, Page};
use crate::compile::Options;
use crate::listener::{ListenerLimits, Listeners};
use crate::observe::Observe;
use crate::proxy::{Gateway, Streams};
use crate::source::{Loader, Watcher};
use crate::upstream::{DnsOptions, Locals, Serving, Upstreams};

use super::config::{Config, State};
use super::handover::{Giver, Launch, Successor};
use super::life::{Life, Stage};
use super::witness::Witness;

/// The one HTTP proxy that every listener hands its connections to.
pub type App = HttpProxy<Gateway>;

/// Everything of the gateway that needs a runtime.
pub struct GatewayService {
    pub app: Arc<App>,
    /// Serves what is not HTTP.
    pub streams: Arc<Streams>,
    pub operator: Vec<(Page, TcpListener)>,
    /// Host names the admin endpoint answers beside loopback ones.
    pub hosts: Vec<String>,
    /// Listening sockets of a predecessor, by the address they were opened for.
    pub inherited: HashMap<SocketAddr, TcpListener>,
    /// What a successor is started with, and how long it may take.
    pub upgrade: Option<(Launch, Duration)>,
    /// The conversation with the predecessor.
    pub successor: Option<Successor>,
    pub loader: Option<(Loader, Receiver<Vec<PathBuf>>, Watcher)>,
    pub options: Options,
    pub limits: ListenerLimits,
    pub dns: DnsOptions,
    /// Where connections to origins come from.
    pub locals: Locals,
    pub start_partial: bool,
    pub serving: Arc<ArcSwap<Serving>>,
    pub observe: Arc<Observe>,
    pub life: Arc<Life>,
}

#[async_trait]
impl Service for GatewayService {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
    ) {
        let Some((loader, changes, watcher)) = self.loader.take() else {
            error!("the gateway service was started twice");
            return;
        };
        let witness = Arc::new(Witness::new(self.observe.clone()));
        let listeners = Arc::new(Listeners::new(
            self.app.clone(),
            std::mem::take(&mut self.inherited),
            self.limits.clone(),
            witness,
            self.streams.clone(),
        ));
        // The service starts once: nothing is set yet.
        let _ = self.life.listeners.set(listeners);
        let upstreams = Upstreams::from(
            self.locals.clone(),
            self.dns.clone(),
            tokio::runtime::Handle::current(),
        );
        let state = Arc::new(admin::State {
            serving: self.serving.clone(),
            upstreams: upstreams.clone(),
            findings: self.life.findings.clone(),
            ready: self.life.ready.clone(),
            observe: self.observe.clone(),
            hosts: std::mem::take(&mut self.hosts),
        });
        for (page, socket) in std::mem::take(&mut self.operator) {
            tokio::spawn(operate(page, socket, state.clone(), self.life.clone()));
        }
        if let Some(upgrade) = self.upgrade.take() {
            tokio::spawn(await_successors(upgrade, self.life.clone()));
        }
        let config = Config {
            loader,
            watcher,
            options: self.options.clone(),
            start_partial: self.start_partial,
            serving: self.serving.clone(),
            upstreams,
            findings: self.life.findings.clone(),
            observe: self.observe.clone(),
            life: self.life.clone(),
            successor: self.successor.take(),
            state: State::default(),
        };
        let runtime = tokio::runtime::Handle::current();
        let mut stop = self.life.ending();
        let following = std::thread::Builder::new()
            .name("config".into())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => {}
                        () = config.follow(changes) => {}
                    }
                });
            });
        if let Err(error) = following {
            error!("cannot start the thread that follows the configuration: {error}");
        }
        // An error means that the server is gone, which ends the service as well.
        let _ = shutdown.wait_for(|stop| *stop).await;
    }

    fn name(&self) -> &str {
        "gateway"
    }
}

/// Serves one of the operator's endpoints while its socket is this process's.
async fn operate(page: Page, socket: TcpListener, state: Arc<admin::State>, life: Arc<Life>) {
    let mut stages = life.stages();
    let (stop, stopping) = watch::channel(false);
    // An error means that the process is gone.
    let stage = stages.wait_for(|stage| *stage >= Stage::Accepting).await;
    if stage.is_ok_and(|stage| matches!(*stage, Stage::GivenUp(_))) {
        return;
    }
    let serving = admin::serve(socket, page, state, stopping);
    tokio::pin!(serving);
    let ended = stages.wait_for(|stage| *stage > Stage::Serving);
    tokio::select! {
        () = &mut serving => return,
        _ = ended => {}
    }
    stop.send_replace(true);
    serving.await;
}

/// Listens for successors once this process serves.
async fn await_successors((launch, patience): (Launch, Duration), life: Arc<Life>) {
    let mut stages = life.stages();
    // An error means that the process is gone.
    let stage = stages.wait_for(|stage| *stage >= Stage::Serving).await;
    // The folder of a predecessor that serves on is not touched.
    if !stage.is_ok_and(|stage| *stage == Stage::Serving) {
        return;
    }
    let folder = life.folder.path().display().to_string();
    let started = Giver::new(&life.folder.clone(), launch, patience, life).and_then(|giver| {
        std::thread::Builder::new()
            .name("upgrade".into())
            .spawn(move || giver.serve())
    });
    if let Err(failure) = started {
        info!(
            "no upgrade in place: {folder}: {failure}; set gateway.upgrade.folder to a folder this process may make"
        );
    }
}
