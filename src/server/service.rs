//! The one Pingora service: it owns the listeners, the operator's endpoints and the
//! configuration loop.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::error;
use pingora::proxy::HttpProxy;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use tokio::sync::mpsc::Receiver;

use crate::admin;
use crate::base::Findings;
use crate::compile::Options;
use crate::listener::{ListenerLimits, Listeners};
use crate::observe::Observe;
use crate::proxy::{Gateway, Streams};
use crate::source::{Loader, Watcher};
use crate::upstream::{DnsOptions, Serving, Upstreams};

use super::config::{Config, State};
use super::life::Life;
use super::witness::Witness;

/// The one HTTP proxy that every listener hands its connections to.
pub type App = HttpProxy<Gateway>;

/// Sockets of the operator's endpoints, bound before anything else starts.
pub struct Operator {
    pub admin: TcpListener,
    pub status: TcpListener,
    pub metrics: TcpListener,
    /// Host names the admin endpoint answers beside loopback ones.
    pub hosts: Vec<String>,
}

/// Everything of the gateway that needs a runtime.
pub struct GatewayService {
    pub app: Arc<App>,
    /// Serves what is not HTTP.
    pub streams: Arc<Streams>,
    pub operator: Option<Operator>,
    pub loader: Option<(Loader, Receiver<Vec<PathBuf>>, Watcher)>,
    pub options: Options,
    pub limits: ListenerLimits,
    pub dns: DnsOptions,
    pub start_partial: bool,
    pub serving: Arc<ArcSwap<Serving>>,
    pub findings: Arc<ArcSwap<Findings>>,
    pub observe: Arc<Observe>,
    pub life: Arc<Life>,
}

#[async_trait]
impl Service for GatewayService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
    ) {
        let (Some((loader, changes, watcher)), Some(operator), Some(fds)) =
            (self.loader.take(), self.operator.take(), fds)
        else {
            error!("the gateway service was started twice");
            return;
        };
        let witness = Arc::new(Witness::new(self.observe.clone()));
        let listeners = Arc::new(Listeners::new(
            self.app.clone(),
            fds,
            self.limits.clone(),
            witness,
            self.streams.clone(),
        ));
        // The service starts once: nothing is set yet.
        let _ = self.life.listeners.set(listeners);
        let upstreams = Upstreams::new(self.dns.clone(), tokio::runtime::Handle::current());
        let state = Arc::new(admin::State {
            serving: self.serving.clone(),
            upstreams: upstreams.clone(),
            findings: self.findings.clone(),
            ready: self.life.ready.clone(),
            observe: self.observe.clone(),
            hosts: operator.hosts,
        });
        tokio::spawn(admin::serve(
            operator.status,
            admin::Page::Status,
            state.clone(),
            shutdown.clone(),
        ));
        tokio::spawn(admin::serve(
            operator.metrics,
            admin::Page::Metrics,
            state.clone(),
            shutdown.clone(),
        ));
        tokio::spawn(admin::serve(
            operator.admin,
            admin::Page::Admin,
            state,
            shutdown.clone(),
        ));
        let config = Config {
            loader,
            watcher,
            options: self.options.clone(),
            start_partial: self.start_partial,
            serving: self.serving.clone(),
            upstreams,
            findings: self.findings.clone(),
            observe: self.observe.clone(),
            life: self.life.clone(),
            state: State::default(),
        };
        let runtime = tokio::runtime::Handle::current();
        let mut stop = shutdown.clone();
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
