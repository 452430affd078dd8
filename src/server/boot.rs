//! From settings to a running process.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use pingora::proxy::http_proxy;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::server::{RunArgs, Server};
use thiserror::Error;

use crate::base::Findings;
use crate::observe::Observe;
use crate::proxy::{Gateway, Streams, h2_options, server_options};
use crate::source::{LoadOptions, Loader, WatchError, Watcher};
use crate::upstream::Serving;

use super::life::Life;
use super::service::{GatewayService, Operator};
use super::settings::{Settings, address};
use super::signals::Signals;
use super::witness::Recorder;

/// How long the end of the process waits for the access log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What to run.
pub struct Boot {
    /// Manifest files and folders.
    pub paths: Vec<PathBuf>,
    pub settings: Settings,
    pub load: LoadOptions,
    /// Serve what can be read although a file cannot be parsed.
    pub start_partial: bool,
}

/// Why the process cannot start.
#[derive(Debug, Error)]
pub enum BootError {
    #[error("{0}")]
    Settings(String),
    #[error(
        "cannot listen on {addr} ({key}): {source}; free that port or set another in the settings file"
    )]
    Bind {
        key: &'static str,
        addr: String,
        source: std::io::Error,
    },
    #[error("cannot follow changes of the manifests: {0}")]
    Watch(#[from] WatchError),
    #[error("cannot open the access log: {0}")]
    Observe(String),
}

/// Serves until a signal ends the process.
///
/// # Errors
/// The settings cannot be used, or an address of the operator's endpoints is taken.
pub fn run(boot: Boot) -> Result<(), BootError> {
    let Boot {
        paths,
        settings,
        load,
        start_partial,
    } = boot;
    let gateway = &settings.gateway;
    let operator = Operator {
        admin: bind("gateway.admin.bind", &gateway.admin.bind)?,
        status: bind("gateway.status.bind", &gateway.status.bind)?,
        metrics: bind("gateway.metrics.bind", &gateway.metrics.bind)?,
        hosts: gateway.admin.hosts.clone(),
    };
    info!(
        "admin on {}, readiness on {}, metrics on {}",
        gateway.admin.bind, gateway.status.bind, gateway.metrics.bind
    );
    let observe = Observe::new(settings.observe_options().map_err(BootError::Settings)?)
        .map_err(|error| BootError::Observe(error.to_string()))?;
    let (watcher, changes) = Watcher::start(&paths)?;

    let life = Arc::new(Life::default());
    let serving = Arc::new(ArcSwap::from_pointee(Serving::default()));
    let mut server = Server::new_with_opt_and_conf(None, settings.server_conf());
    server.bootstrap();
    let limits = settings.proxy_limits();
    let options = (server_options(&limits), h2_options(&limits));
    let recorder = Arc::new(Recorder(observe.clone()));
    let mut app = http_proxy(
        &server.configuration,
        Gateway::new(serving.clone(), recorder, limits),
    );
    app.server_options = Some(options.0);
    app.h2_options = Some(options.1);
    let dialling = ConnectorOptions::from_server_conf(&server.configuration);
    let streams = Streams::new(
        serving.clone(),
        Arc::new(Recorder(observe.clone())),
        TransportConnector::new(Some(dialling)),
    );
    server.add_service(GatewayService {
        app: Arc::new(app),
        streams: Arc::new(streams),
        operator: Some(operator),
        loader: Some((Loader::new(paths, load), changes, watcher)),
        options: settings.compile_options(),
        limits: settings.listener_limits(),
        dns: settings.dns_options(),
        start_partial,
        serving,
        findings: Arc::new(ArcSwap::from_pointee(Findings::new())),
        observe: observe.clone(),
        life: life.clone(),
    });
    let signals = Signals {
        life,
        delay: gateway.drain.delay.0,
        deadline: gateway.drain.deadline.0,
    };
    server.run(RunArgs {
        shutdown_signal: Box::new(signals),
    });
    if !observe.flush(LAST_LINES) {
        warn!("the last lines of the access log could not be written in time");
    }
    Ok(())
}

/// Binds at once, so that a taken port is an error at the start and not a log line later.
fn bind(key: &'static str, text: &str) -> Result<TcpListener, BootError> {
    let addr = address(key, text).map_err(BootError::Settings)?;
    TcpListener::bind(addr)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| BootError::Bind {
            key,
            addr: text.to_owned(),
            source,
        })
}
