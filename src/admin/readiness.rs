//! Whether load balancers should send traffic here: only while a plan is live and nothing drains.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use serde::Serialize;

const STARTING: u8 = 0;
const LIVE: u8 = 1;
const DRAINING: u8 = 2;

/// Set by `server`, shown by the readiness pages. Draining is final.
#[derive(Debug, Default)]
pub struct Readiness {
    stage: AtomicU8,
    connections: AtomicUsize,
    streams: AtomicUsize,
}

/// What a process that drains still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub connections: usize,
    /// Those of the connections that carry WebSockets or other streams.
    pub streams: usize,
}

impl Readiness {
    /// A plan is live and its sockets listen.
    pub fn plan_is_live(&self) {
        // A process that drains has been taken out of rotation: a reload must not bring it back.
        let _ = self
            .stage
            .compare_exchange(STARTING, LIVE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The process is about to end. It still accepts.
    pub fn drain(&self) {
        self.stage.store(DRAINING, Ordering::Relaxed);
    }

    /// How far the drain is.
    pub fn note_left(&self, connections: usize, streams: usize) {
        self.connections.store(connections, Ordering::Relaxed);
        self.streams.store(streams, Ordering::Relaxed);
    }

    /// What the drain waits for, if there is one.
    pub fn left(&self) -> Option<Left> {
        let is_draining = self.stage.load(Ordering::Relaxed) == DRAINING;
        is_draining.then(|| Left {
            connections: self.connections.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
        })
    }

    /// Why traffic should go elsewhere; `None` if it should come.
    pub fn obstacle(&self) -> Option<&'static str> {
        match self.stage.load(Ordering::Relaxed) {
            LIVE => None,
            DRAINING => Some("draining"),
            _ => Some("no plan is live yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_a_plan_is_live_and_nothing_drains() {
        let ready = Readiness::default();
        assert_eq!(ready.obstacle(), Some("no plan is live yet"));
        ready.plan_is_live();
        assert_eq!(ready.obstacle(), None);
        ready.drain();
        assert_eq!(ready.obstacle(), Some("draining"));
        ready.plan_is_live();
        assert_eq!(
            ready.obstacle(),
            Some("draining"),
            "a reload while draining changes nothing"
        );
    }
}
