//! The configuration loop: files change, a plan is compiled, and what is served is swapped.
//!
//! It runs on a thread of its own, never on a proxy worker; that one thread allocates and frees
//! every plan, so that memory freed with one plan serves the next. A swap is one atomic
//! store; an equal digest is no swap; endpoints are published beside the plan. Whatever goes
//! wrong, what was serving goes on serving.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{error, info, warn};
use tokio::sync::mpsc::Receiver;

use crate::base::{Code, Finding, Findings, Severity, clock};
use crate::compile::{Memory, Options, compile};
use crate::listener::ListenerOutcome;
use crate::observe::Observe;
use crate::plan::{Digest, Plan};
use crate::source::{Loader, Watcher};
use crate::upstream::{Serving, Upstreams};

use super::expiry;
use super::handover::Successor;
use super::life::{Life, Stage};
use super::notify;

/// How long a listener that could not be opened, or a retired plan, waits for the next look.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often certificates are looked at for their end.
const LOOK_AT_DATES: Duration = Duration::from_secs(3600);

/// How long a new plan waits for the first DNS answers of its new clusters, which would answer 503
/// until then (Envoy warms its clusters likewise).
const WARM: Duration = Duration::from_secs(1);

/// Everything the loop needs.
pub struct Config {
    pub loader: Loader,
    pub watcher: Watcher,
    pub options: Options,
    pub start_partial: bool,
    pub serving: Arc<ArcSwap<Serving>>,
    pub upstreams: Arc<Upstreams>,
    /// What the admin endpoint shows.
    pub findings: Arc<ArcSwap<Findings>>,
    pub observe: Arc<Observe>,
    pub life: Arc<Life>,
    /// While a predecessor still serves on the sockets.
    pub successor: Option<Successor>,
    pub state: State,
}

/// What the loop remembers between turns.
#[derive(Default)]
pub struct State {
    memory: Memory,
    plan: Option<Digest>,
    endpoints: Option<Digest>,
    /// Findings of the last compile, without those of the listeners.
    compiled: Findings,
    /// Listeners that could not be opened, with the reason.
    failed: Vec<(SocketAddr, String)>,
    /// What the Gateways name and the watcher follows.
    certificate_files: Vec<PathBuf>,
    /// TLS servers whose handshakes fail, with the reason.
    unterminated: Vec<String>,
    /// Plans that requests may still hold; freed here so that no request pays for it.
    retired: Vec<Arc<Serving>>,
}

impl Config {
    /// Loads once, then follows changes until the channel closes. Blocks while it reads and
    /// compiles: to be driven by a thread of its own.
    pub async fn follow(mut self, mut changes: Receiver<Vec<PathBuf>>) {
        let mut changed: Option<Vec<PathBuf>> = None;
        loop {
            // A bug that a manifest provokes must not end the following of changes.
            let started = clock::now();
            let compiled = catch_unwind(AssertUnwindSafe(|| self.compile(changed.as_deref())));
            let plan = compiled.unwrap_or_else(|_| {
                error!("taking up a change failed inside; what was serving goes on, later changes are followed");
                self.observe.reload_failed();
                None
            });
            let swapped = plan.is_some();
            if let Some(plan) = plan {
                self.upstreams.warm(WARM).await;
                self.go_live(plan);
            }
            if !self.may_accept() {
                return;
            }
            if swapped {
                info!(
                    "a plan is live, {} ms after the change",
                    started.elapsed().as_millis()
                );
            }
            let opens = swapped || !self.state.failed.is_empty();
            if opens {
                self.open_listeners().await;
            }
            // Whoever waits for readiness finds what was found.
            self.show_findings();
            if opens {
                self.begin_serving();
            }
            changed = match self.next_change(&mut changes).await {
                Some(paths) => Some(paths),
                None => return,
            };
        }
    }

    /// Reads what changed, compiles, and publishes the endpoints. Gives the plan if it means
    /// something else than the one that is served.
    fn compile(&mut self, changed: Option<&[PathBuf]>) -> Option<Plan> {
        let inventory = match changed {
            // An empty list means that changes were missed: look at everything.
            None | Some([]) => self.loader.load(),
            Some(paths) => self.loader.reload(paths),
        };
        let files = self.loader.certificate_files();
        if files != self.state.certificate_files {
            self.watcher.also_follow(files.clone());
            self.state.certificate_files = files;
        }
        if inventory.incomplete && self.state.plan.is_none() && !self.start_partial {
            self.state.compiled = inventory.findings.clone();
            error!(
                "not ready: a file cannot be read; mend it and it is taken up, or use --start-partial"
            );
            self.observe.reload_failed();
            return None;
        }
        let compiled = compile(&inventory, &mut self.state.memory, &self.options);
        self.state.compiled = compiled.findings;
        if self.state.endpoints != Some(compiled.endpoints.digest) {
            self.state.endpoints = Some(compiled.endpoints.digest);
            self.upstreams.publish(&compiled.endpoints);
        }
        (self.state.plan != Some(compiled.plan.digest)).then_some(compiled.plan)
    }

    /// Serves a plan from now on: one atomic store. Requests keep the plan they started with.
    fn go_live(&mut self, plan: Plan) {
        self.state.plan = Some(plan.digest);
        let plan = Arc::new(plan);
        // Before its ports open and its routes hold: a new server's handshakes succeed at once.
        if let Some(listeners) = self.life.listeners.get() {
            self.state.unterminated = listeners.terminate(&plan);
        }
        let live = self.upstreams.serve(plan.clone());
        self.state.retired.push(self.serving.swap(live));
        self.free_retired();
        self.observe.swapped(&plan, clock::since_epoch());
    }

    fn free_retired(&mut self) {
        self.state
            .retired
            .retain(|serving| Arc::strong_count(serving) > 1);
    }

    /// Makes exactly the plan's sockets listen.
    async fn open_listeners(&mut self) {
        let Some(listeners) = self.life.listeners.get() else {
            return;
        };
        let wanted: Vec<SocketAddr> = self.serving.load().plan.addresses().collect();
        let mut failed = Vec::new();
        for outcome in listeners.apply(&wanted).await {
            match outcome {
                ListenerOutcome::Opened(addr) => info!("listening on {addr}"),
                ListenerOutcome::Closed(addr) => info!("no longer listening on {addr}"),
                ListenerOutcome::Kept(_) => {}
                ListenerOutcome::Failed(addr, reason) => failed.push((addr, reason.to_string())),
            }
        }
        self.state.failed = failed;
        self.observe.listeners_open(&listeners.open_addresses());
    }

    /// Whether the sockets are this process's. Where a predecessor has them, it is asked once the
    /// first plan is live; if it serves on, this process ends.
    fn may_accept(&mut self) -> bool {
        let Some(successor) = &self.successor else {
            return true;
        };
        if self.life.stage() != Stage::Waiting {
            return true;
        }
        let reason = match self.state.plan {
            Some(plan) => {
                let listeners = self.serving.load().plan.addresses().collect();
                match successor.prepared(&plan.to_string(), listeners) {
                    Ok(()) => {
                        self.life.enter(Stage::Accepting);
                        return true;
                    }
                    Err(refusal) => refusal.to_string(),
                }
            }
            None => {
                let reason = "its manifests cannot all be read; see its log, or `pingress check`";
                successor.give_up(reason);
                reason.to_owned()
            }
        };
        self.life.enter(Stage::GivenUp(reason));
        false
    }

    /// Now that the listeners are open, this process is ready, a predecessor may end, and a
    /// successor may come.
    fn begin_serving(&mut self) {
        if self.life.listeners.get().is_none() {
            return;
        }
        self.life.ready.plan_is_live();
        if let Some(successor) = self.successor.take() {
            match successor.accepting() {
                Ok(()) => info!("accepting; the predecessor drains"),
                Err(failure) => {
                    warn!("the predecessor cannot be told that this process accepts: {failure}");
                }
            }
        }
        if self.life.stage() == Stage::Accepting {
            self.life.enter(Stage::Serving);
            notify::ready();
        }
    }

    /// Stores the findings for the admin endpoint and logs those that are new.
    fn show_findings(&self) {
        let mut findings = self.state.compiled.clone();
        findings.extend(self.state.failed.iter().map(|(addr, reason)| {
            Finding::new(
                Code::LISTENER_FAILED,
                format!("cannot listen on {addr}: {reason}"),
            )
            .hint("the attempt is repeated every second; the other listeners serve")
        }));
        findings.extend(self.state.unterminated.iter().map(|reason| {
            Finding::new(Code::LISTENER_FAILED, reason)
                .hint("mend the server's `tls`; its handshakes fail until then")
        }));
        findings.extend(expiry::findings(
            &self.serving.load().plan,
            clock::since_epoch(),
        ));
        let before = self.findings.load();
        let known: HashSet<String> = before.iter().map(ToString::to_string).collect();
        for finding in &findings {
            let text = finding.to_string();
            if !known.contains(&text) {
                match finding.severity {
                    Severity::Error => error!("{text}"),
                    Severity::Warning => warn!("{text}"),
                    Severity::Info => info!("{text}"),
                }
            }
        }
        self.observe.findings(&findings);
        self.findings.store(Arc::new(findings));
    }

    /// Waits for a change, looking after listeners that failed and plans that were retired.
    async fn next_change(&mut self, changes: &mut Receiver<Vec<PathBuf>>) -> Option<Vec<PathBuf>> {
        loop {
            let waiting = !self.state.failed.is_empty() || !self.state.retired.is_empty();
            let patience = if waiting { LOOK_AGAIN } else { LOOK_AT_DATES };
            let Ok(first) = tokio::time::timeout(patience, changes.recv()).await else {
                self.free_retired();
                if !self.state.failed.is_empty() {
                    self.open_listeners().await;
                }
                if !waiting || !self.state.failed.is_empty() {
                    self.show_findings();
                }
                continue;
            };
            let mut paths = first?;
            while let Ok(more) = changes.try_recv() {
                if paths.is_empty() || more.is_empty() {
                    paths.clear();
                    continue;
                }
                paths.extend(more);
            }
            return Some(paths);
        }
    }
}
