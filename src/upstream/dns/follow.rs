//! The names that are followed now, each with its task and the clusters that use it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::base::clock;

use super::DnsOptions;
use super::name::{Name, Outcome, Status};
use super::resolve::Resolve;

/// Called with a name that has a new answer.
type Answered = Arc<dyn Fn(&str) + Send + Sync>;

/// All followed names.
pub(in crate::upstream) struct Names {
    options: Arc<DnsOptions>,
    runtime: Handle,
    resolve: Arc<Resolve>,
    answered: Answered,
    followed: HashMap<Arc<str>, Followed>,
}

struct Followed {
    name: Arc<Name>,
    /// The clusters that use it, by name.
    clusters: BTreeSet<Arc<str>>,
    task: JoinHandle<()>,
}

impl Names {
    pub(in crate::upstream) fn new(
        options: DnsOptions,
        runtime: Handle,
        answered: impl Fn(&str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            resolve: Arc::new(Resolve::new(options.clone())),
            options: Arc::new(options),
            runtime,
            answered: Arc::new(answered),
            followed: HashMap::new(),
        }
    }

    /// Follows `name` for `cluster`; asks it at once if nobody follows it yet.
    pub(in crate::upstream) fn follow(&mut self, name: &Arc<str>, cluster: &Arc<str>) {
        let followed = self.followed.entry(name.clone()).or_insert_with(|| {
            let name = Arc::new(Name::new(name.clone()));
            let task = self.runtime.spawn(ask_for_ever(
                name.clone(),
                self.resolve.clone(),
                self.options.clone(),
                self.answered.clone(),
            ));
            Followed {
                name,
                clusters: BTreeSet::new(),
                task,
            }
        });
        followed.clusters.insert(cluster.clone());
    }

    /// `cluster` does not use `name` any more; the last one to leave ends its task.
    pub(in crate::upstream) fn forget(&mut self, name: &str, cluster: &str) {
        if let Some(followed) = self.followed.get_mut(name) {
            followed.clusters.remove(cluster);
            if followed.clusters.is_empty() {
                self.followed.remove(name);
            }
        }
    }

    pub(in crate::upstream) fn get(&self, name: &str) -> Option<Arc<Name>> {
        self.followed
            .get(name)
            .map(|followed| followed.name.clone())
    }

    /// The clusters that use `name`.
    pub(in crate::upstream) fn clusters(&self, name: &str) -> Vec<Arc<str>> {
        self.followed
            .get(name)
            .map(|followed| followed.clusters.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(in crate::upstream) fn all(&self) -> Vec<Arc<Name>> {
        self.followed
            .values()
            .map(|followed| followed.name.clone())
            .collect()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("followed", &self.followed.keys())
            .finish_non_exhaustive()
    }
}

/// The life of a name; ended from outside.
async fn ask_for_ever(
    name: Arc<Name>,
    resolve: Arc<Resolve>,
    options: Arc<DnsOptions>,
    answered: Answered,
) {
    loop {
        let outcome = resolve.addresses(&name.name).await;
        let known = name.status();
        let found = matches!(outcome, Outcome::Found { .. });
        let (status, stands) = known.after(outcome, clock::since_epoch(), &options);
        report(&name.name, &known, &status);
        let changed = found || status.addresses != known.addresses;
        name.set(status);
        if changed {
            answered(&name.name);
        }
        tokio::time::sleep(if found { stands } else { spread(stands) }).await;
    }
}

/// A line when a name begins to fail, when it loses its addresses, and when it is well again;
/// not one for each question.
fn report(name: &str, known: &Status, status: &Status) {
    match (&known.last_error, &status.last_error) {
        (None, Some(error)) => {
            warn!(
                "DNS: {name}: {error}; {} addresses stay in use",
                status.addresses.len()
            );
        }
        (Some(_), Some(error)) if status.addresses.is_empty() && !known.addresses.is_empty() => {
            warn!("DNS: {name}: {error}, again and again; no address is in use any more");
        }
        (Some(_), None) => info!(
            "DNS: {name}: answers again, {} addresses",
            status.addresses.len()
        ),
        _ => {}
    }
}

/// Up to a tenth more or less, so that names that fail together do not ask together.
fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.9 + fastrand::f64() * 0.2)
}
