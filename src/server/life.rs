//! What the parts of a running process share: readiness, the sockets, and how it ends.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::handover::{Folder, Predecessor, Role};
use super::service::App;
use crate::admin::Readiness;
use crate::base::{Code, Findings};
use crate::listener::Listeners;
use crate::upstream::Serving;

/// How long the end of the process waits for the configuration thread.
const LAST_TURN: Duration = Duration::from_secs(1);

/// Shared by the service, the configuration loop, the hand-over and the signal watch.
pub struct Life {
    pub ready: Arc<Readiness>,
    pub serving: Arc<ArcSwap<Serving>>,
    /// What the admin endpoint shows.
    pub findings: Arc<ArcSwap<Findings>>,
    /// Set once the service runs.
    pub listeners: OnceLock<Arc<Listeners<App>>>,
    /// The operator's endpoints.
    pub operator: HashMap<Role, TcpListener>,
    /// Where a successor connects.
    pub folder: Folder,
    stage: watch::Sender<Stage>,
    ending: watch::Sender<bool>,
}

/// From taking over to being succeeded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A predecessor still serves on the sockets this process has.
    Waiting,
    /// The sockets are this process's; its first plan may not be live yet.
    Accepting,
    /// A plan is live.
    Serving,
    /// A successor accepts on them.
    Succeeded,
    /// The predecessor serves on, for this reason.
    GivenUp(String),
}

impl Life {
    pub fn new(
        stage: Stage,
        serving: Arc<ArcSwap<Serving>>,
        operator: HashMap<Role, TcpListener>,
        folder: Folder,
    ) -> Self {
        Self {
            ready: Arc::default(),
            serving,
            findings: Arc::new(ArcSwap::from_pointee(Findings::new())),
            listeners: OnceLock::new(),
            operator,
            folder,
            stage: watch::Sender::new(stage),
            ending: watch::Sender::new(false),
        }
    }

    /// To be told of each stage.
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Turns true when the process ends. Whoever holds it is waited for until it is dropped.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// Has the configuration thread stop, so that the runtime does not end under it.
    pub async fn end(&self) {
        self.ending.send_replace(true);
        // A compile under way is not worth more.
        let _ = tokio::time::timeout(LAST_TURN, self.ending.closed()).await;
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }
}

impl Predecessor for Life {
    fn sockets(&self) -> io::Result<Vec<(Role, TcpListener)>> {
        let mut sockets = Vec::new();
        for (role, socket) in &self.operator {
            sockets.push((*role, socket.try_clone()?));
        }
        let Some(listeners) = self.listeners.get() else {
            return Err(io::Error::other("nothing listens yet"));
        };
        let listening = listeners.handles()?.into_iter();
        sockets.extend(
            listening.map(|(address, socket): (SocketAddr, _)| (Role::Listener(address), socket)),
        );
        Ok(sockets)
    }

    fn plan(&self) -> String {
        self.serving.load().plan.digest.to_string()
    }

    fn holds_more(&self) -> Option<String> {
        if let Some(obstacle) = self.ready.obstacle() {
            return Some(format!("this process is not ready: {obstacle}"));
        }
        let findings = self.findings.load();
        let kept = findings
            .iter()
            .filter(|finding| finding.code == Code::SERVES_PREVIOUS_VERSION)
            .count();
        (kept > 0).then(|| {
            format!(
                "{kept} findings say that an earlier version is served than the one in the files, which a new process could not; mend those files first, `pingress check` names them"
            )
        })
    }

    fn succeeded(&self) {
        self.enter(Stage::Succeeded);
    }
}
