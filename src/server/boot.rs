//! From settings to a running process.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use pingora::proxy::http_proxy;
use pingora_core::server::{RunArgs, Server};
use thiserror::Error;
use tokio::sync::mpsc::Receiver;

use crate::admin::Page;
use crate::observe::Observe;
use crate::proxy::{Gateway, Streams, h2_options, server_options};
use crate::source::{LoadOptions, Loader, WatchError, Watcher};
use crate::upstream::Serving;

use super::drain::DrainTimes;
use super::handover::{Launch, Role, take};
use super::life::{Life, Stage};
use super::service::GatewayService;
use super::settings::{Settings, address};
use super::signals::Signals;
use super::witness::Recorder;

/// How long the end of the process waits for the access log.
const LAST_LINES: Duration = Duration::from_secs(1);
/// And for the collector of spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What to run.
pub struct Boot {
    /// Manifest files and folders.
    pub paths: Vec<PathBuf>,
    pub settings: Settings,
    pub load: LoadOptions,
    /// Serve what can be read although a file cannot be parsed.
    pub start_partial: bool,
    /// Take over from the process that runs with the same settings.
    pub upgrade: bool,
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
    #[error("{0}")]
    Observe(String),
    #[error("cannot take over: {0}")]
    Upgrade(String),
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
        upgrade,
    } = boot;
    let gateway = &settings.gateway;
    let folder = settings.upgrade_folder().map_err(BootError::Settings)?;
    let mut taken = match upgrade {
        true => Some(take(&folder).map_err(|error| BootError::Upgrade(error.to_string()))?),
        false => None,
    };
    let given = taken.as_mut().map(|it| std::mem::take(&mut it.operator));
    let opened = Opened::of(&settings, &paths, given.unwrap_or_default());
    let opened = opened.inspect_err(|error| {
        if let Some(taken) = &taken {
            taken.successor.give_up(&error.to_string());
        }
    })?;
    info!(
        "admin on {}, readiness on {}, metrics on {}",
        gateway.admin.bind, gateway.status.bind, gateway.metrics.bind
    );
    let Opened {
        operator,
        pages,
        observe,
        watcher,
        changes,
    } = opened;
    let serving = Arc::new(ArcSwap::from_pointee(Serving::default()));
    let stage = match taken {
        Some(_) => Stage::Waiting,
        None => Stage::Accepting,
    };
    let life = Arc::new(Life::new(stage, serving.clone(), operator, folder));
    let (inherited, successor) = taken
        .map(|it| (it.listeners, Some(it.successor)))
        .unwrap_or_default();
    // What cannot be told only keeps this process from being upgraded.
    let launch = Launch::like_this_process()
        .inspect_err(|error| warn!("no upgrade in place: {error}"))
        .ok();
    let mut server = Server::new_with_opt_and_conf(None, settings.server_conf());
    server.bootstrap();
    let limits = settings.proxy_limits();
    let options = (server_options(), h2_options(&limits));
    let recorder = Arc::new(Recorder(observe.clone()));
    let mut app = http_proxy(
        &server.configuration,
        Gateway::new(serving.clone(), recorder, limits),
    );
    app.server_options = Some(options.0);
    app.h2_options = Some(options.1);
    let streams = Streams::new(serving.clone(), Arc::new(Recorder(observe.clone())));
    server.add_service(GatewayService {
        app: Arc::new(app),
        streams: Arc::new(streams),
        operator: pages,
        hosts: gateway.admin.hosts.clone(),
        inherited,
        successor,
        upgrade: launch.map(|launch| (launch, gateway.upgrade.deadline.0)),
        loader: Some((Loader::new(paths, load), changes, watcher)),
        options: settings.compile_options(),
        limits: settings.listener_limits(),
        dns: settings.dns_options(),
        locals: settings.locals(),
        start_partial,
        serving,
        observe: observe.clone(),
        life: life.clone(),
    });
    let signals = Signals {
        life: life.clone(),
        observe: observe.clone(),
        times: DrainTimes {
            delay: gateway.drain.delay.0,
            window: gateway.drain.window.0,
            stream_age: gateway.drain.stream_age.0,
            deadline: gateway.drain.deadline.0,
        },
    };
    server.run(RunArgs {
        shutdown_signal: Box::new(signals),
    });
    if !observe.flush(LAST_LINES) {
        warn!("the last lines of the access log could not be written in time");
    }
    if !observe.flush_spans(LAST_SPANS) {
        warn!("the last spans could not be sent in time");
    }
    match life.stage() {
        Stage::GivenUp(reason) => Err(BootError::Upgrade(reason)),
        // The folder is the successor's now.
        Stage::Succeeded => Ok(()),
        _ => {
            life.folder.leave();
            Ok(())
        }
    }
}

/// What can fail because of the machine, opened before anything serves.
struct Opened {
    operator: HashMap<Role, TcpListener>,
    /// A second handle of each of the operator's sockets, to serve pages on.
    pages: Vec<(Page, TcpListener)>,
    observe: Arc<Observe>,
    watcher: Watcher,
    changes: Receiver<Vec<PathBuf>>,
}

impl Opened {
    /// `given` are the operator's sockets of a predecessor.
    fn of(
        settings: &Settings,
        paths: &[PathBuf],
        mut given: HashMap<Role, TcpListener>,
    ) -> Result<Self, BootError> {
        let gateway = &settings.gateway;
        let mut operator = HashMap::new();
        let mut pages = Vec::new();
        for (role, page, text) in [
            (Role::Admin, Page::Admin, &gateway.admin.bind),
            (Role::Status, Page::Status, &gateway.status.bind),
            (Role::Metrics, Page::Metrics, &gateway.metrics.bind),
        ] {
            let (socket, second) = bind(role, text, given.remove(&role))?;
            operator.insert(role, socket);
            pages.push((page, second));
        }
        if let Some(collector) = settings.collector() {
            let prepared = collector.prepare();
            prepared.map_err(|error| BootError::Settings(error.to_string()))?;
        }
        let options = settings.observe_options().map_err(BootError::Settings)?;
        let observe =
            Observe::new(options).map_err(|error| BootError::Observe(error.to_string()))?;
        let (watcher, changes) = Watcher::start(paths)?;
        Ok(Self {
            operator,
            pages,
            observe,
            watcher,
            changes,
        })
    }
}

/// Binds at once, so that a taken port is an error at the start and not a log line later; or uses
/// what a predecessor gave, if it listens at the address. Gives two handles of one socket.
fn bind(
    role: Role,
    text: &str,
    given: Option<TcpListener>,
) -> Result<(TcpListener, TcpListener), BootError> {
    let key = role.key().unwrap_or_default();
    let addr = address(key, text).map_err(BootError::Settings)?;
    let fits = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == addr);
    given
        .filter(fits)
        .map_or_else(|| TcpListener::bind(addr), Ok)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            let second = socket.try_clone()?;
            Ok((socket, second))
        })
        .map_err(|source| BootError::Bind {
            key,
            addr: text.to_owned(),
            source,
        })
}
