//! Active health checks: which addresses are probed, for which clusters, and what came of it.
//!
//! An address that several clusters check alike is probed once. Each target has a task of its
//! own that sleeps most of the time; it writes what it found here and tells the sweep, which
//! hands it to the clusters. Requests see only the mark on their endpoints.
//!
//! An endpoint takes traffic until its first probe says otherwise: a gateway that starts must
//! not answer 503 for endpoints that discovery calls ready. The first result decides at once, as
//! in Envoy; thresholds count from then on.

mod check;
mod grpc;
mod run;
mod secure;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use crate::plan::Probe;

use super::dial::Dialer;
use super::sweep::Event;
use check::Check;

/// Probes under way at once. A probe holds a socket; with more waiting for answers than this,
/// intervals stretch.
const AT_ONCE: usize = 512;

/// What is probed: results belong to the address and the check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub addr: SocketAddr,
    pub probe: Arc<Probe>,
}

/// How many probes ended how.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub passed: AtomicU64,
    pub failed: AtomicU64,
}

/// All targets that are probed now.
pub(super) struct Probes {
    runtime: Handle,
    events: UnboundedSender<Event>,
    permits: Arc<Semaphore>,
    totals: Arc<Totals>,
    dialer: Arc<Dialer>,
    targets: HashMap<Target, Probed>,
    /// The checks in use; each has a connector.
    checks: HashMap<Arc<Probe>, Weak<Check>>,
    /// What each cluster watches.
    watched: HashMap<Arc<str>, HashSet<Target>>,
}

/// A target with its task.
struct Probed {
    clusters: BTreeSet<Arc<str>>,
    failure: Arc<Failure>,
    task: JoinHandle<()>,
}

/// Why a target is out of traffic, if it is.
type Failure = ArcSwapOption<String>;

impl Probes {
    pub(super) fn new(
        runtime: Handle,
        events: UnboundedSender<Event>,
        dialer: Arc<Dialer>,
    ) -> Self {
        Self {
            runtime,
            events,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            totals: Arc::default(),
            dialer,
            targets: HashMap::new(),
            checks: HashMap::new(),
            watched: HashMap::new(),
        }
    }

    /// Probes exactly these addresses for a cluster from now on.
    pub(super) fn watch(
        &mut self,
        cluster: &Arc<str>,
        probe: Option<&Arc<Probe>>,
        addresses: impl Iterator<Item = SocketAddr>,
    ) {
        let wanted: HashSet<Target> = match probe {
            Some(probe) => addresses
                .map(|addr| Target {
                    addr,
                    probe: probe.clone(),
                })
                .collect(),
            None => HashSet::new(),
        };
        let known = self.watched.remove(cluster).unwrap_or_default();
        for target in wanted.difference(&known) {
            self.follow(target, cluster);
        }
        for target in known.difference(&wanted) {
            self.leave(target, cluster);
        }
        self.checks.retain(|_, check| check.strong_count() > 0);
        if !wanted.is_empty() {
            self.watched.insert(cluster.clone(), wanted);
        }
    }

    /// Ends the probing for clusters that are not among the live ones.
    pub(super) fn retain(&mut self, live: &HashSet<&Arc<str>>) {
        let clusters = self.watched.keys();
        let gone: Vec<_> = clusters
            .filter(|name| !live.contains(name))
            .cloned()
            .collect();
        for cluster in gone {
            self.watch(&cluster, None, std::iter::empty());
        }
    }

    /// The clusters that watch a target.
    pub(super) fn clusters(&self, target: &Target) -> impl Iterator<Item = &Arc<str>> {
        let probed = self.targets.get(target);
        probed.into_iter().flat_map(|probed| &probed.clusters)
    }

    /// Why an address is out of traffic, if it is.
    pub(super) fn failure(&self, addr: SocketAddr, probe: &Arc<Probe>) -> Option<Arc<String>> {
        let target = Target {
            addr,
            probe: probe.clone(),
        };
        self.targets.get(&target)?.failure.load_full()
    }

    pub(super) fn totals(&self) -> Arc<Totals> {
        self.totals.clone()
    }

    fn follow(&mut self, target: &Target, cluster: &Arc<str>) {
        if let Some(probed) = self.targets.get_mut(target) {
            probed.clusters.insert(cluster.clone());
            return;
        }
        let failure = Arc::<Failure>::default();
        let run = run::Run {
            target: target.clone(),
            check: self.check(&target.probe),
            failure: failure.clone(),
            permits: self.permits.clone(),
            totals: self.totals.clone(),
            events: self.events.clone(),
        };
        let probed = Probed {
            clusters: BTreeSet::from([cluster.clone()]),
            failure,
            task: self.runtime.spawn(run.for_ever()),
        };
        self.targets.insert(target.clone(), probed);
    }

    fn leave(&mut self, target: &Target, cluster: &Arc<str>) {
        if let Some(probed) = self.targets.get_mut(target) {
            probed.clusters.remove(cluster);
            if probed.clusters.is_empty() {
                self.targets.remove(target);
            }
        }
    }

    fn check(&mut self, probe: &Arc<Probe>) -> Arc<Check> {
        if let Some(check) = self.checks.get(probe).and_then(Weak::upgrade) {
            return check;
        }
        let check = Arc::new(Check::new(probe, &self.dialer));
        self.checks.insert(probe.clone(), Arc::downgrade(&check));
        check
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes")
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
