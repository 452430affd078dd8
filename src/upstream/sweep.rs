//! The one task that follows the health of all clusters: it takes up what probes found, logs
//! ejections, publishes who is left, and gives endpoints back when their time is over.
//!
//! An ejection itself is made by the request that reaches the limit, and picks heed it at once;
//! what is done here may come a moment later. Nothing is swept where nothing is ejected.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use log::{info, warn};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::base::clock;

use super::outlier::Ejected;
use super::probe::Target;
use super::serving::{Live, lock};

/// Something about an endpoint's health has changed.
#[derive(Debug)]
pub(super) enum Event {
    Ejected(Ejected),
    /// The verdict about a probed target is another.
    Probed(Target),
}

/// Events taken up at once.
const BATCH: usize = 256;

/// Runs until the clusters are gone.
pub(super) async fn sweep(live: Weak<Mutex<Live>>, mut events: UnboundedReceiver<Event>) {
    let mut turns = Turns::default();
    loop {
        let mut batch = Vec::new();
        let more = events.recv_many(&mut batch, BATCH);
        let received = match turns.next() {
            Some(next) => tokio::time::timeout_at(next.into(), more).await,
            None => Ok(more.await),
        };
        let Some(live) = live.upgrade() else { return };
        if received == Ok(0) {
            return;
        }
        let live = lock(&live);
        let mut probed = BTreeSet::new();
        let mut ejected = Vec::new();
        for event in batch {
            match event {
                Event::Ejected(event) => ejected.push(event),
                Event::Probed(target) => probed.extend(live.watchers(&target)),
            }
        }
        for cluster in probed {
            live.heed_probes(&cluster);
        }
        turns.eject(&live, &ejected);
        turns.take(&live, clock::now());
    }
}

/// When each cluster that has something to recover is looked at next.
#[derive(Debug, Default)]
struct Turns(HashMap<Arc<str>, Instant>);

impl Turns {
    fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }

    fn eject(&mut self, live: &Live, batch: &[Ejected]) {
        let clusters: BTreeSet<&Arc<str>> = batch.iter().map(|event| &event.cluster).collect();
        for name in clusters {
            let Some(cluster) = live.cluster(name) else {
                continue;
            };
            cluster.rebuild();
            let next = match cluster.detector.rules().as_deref() {
                Some(rules) => cluster.detector.turn_after(clock::now(), rules),
                None => clock::now(),
            };
            self.0.entry(name.clone()).or_insert(next);
        }
        for event in batch {
            warn!(
                "outlier detection: {} {} is ejected ({}) for {:.1?}",
                event.cluster,
                event.addr,
                event.reason.code(),
                event.lasts
            );
        }
    }

    /// Takes the turns that are due.
    fn take(&mut self, live: &Live, now: Instant) {
        self.0.retain(|name, turn| {
            if *turn > now {
                return true;
            }
            let Some(cluster) = live.cluster(name) else {
                return false;
            };
            let (returned, next) = cluster.sweep(now);
            if !returned.is_empty() {
                cluster.rebuild();
                log_returned(name, &returned);
            }
            next.map(|next| *turn = next).is_some()
        });
    }
}

fn log_returned(cluster: &str, returned: &[SocketAddr]) {
    for addr in returned {
        info!("outlier detection: {cluster} {addr} takes traffic again");
    }
}

#[cfg(test)]
mod tests;
