//! Changes that belong together, gathered until it has been quiet for a moment.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::base::clock;

/// How long nothing must have changed before a batch is told.
const QUIET: Duration = Duration::from_millis(5);

/// How long a batch waits at most for that.
const PATIENCE: Duration = Duration::from_millis(50);

/// More paths than this are told as "anything".
const MAX_PATHS: usize = 4096;

/// Whether an event means that a path's content may be another one. Reading is none.
pub(super) fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    paths: BTreeSet<PathBuf>,
    everything: bool,
    /// First and last change in it; none if it is empty.
    span: Option<(Instant, Instant)>,
}

impl Batch {
    pub(super) fn add(&mut self, path: PathBuf) {
        self.touch();
        self.paths.insert(path);
        self.everything |= self.paths.len() > MAX_PATHS;
    }

    pub(super) fn add_everything(&mut self) {
        self.touch();
        self.everything = true;
    }

    fn touch(&mut self) {
        let now = clock::now();
        let first = self.span.map_or(now, |(first, _)| first);
        self.span = Some((first, now));
    }

    /// Time until the batch is due; none if it is empty.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let (first, last) = self.span?;
        let due = (last + QUIET).min(first + PATIENCE);
        Some(due.saturating_duration_since(clock::now()))
    }

    pub(super) fn is_due(&self) -> bool {
        self.remaining()
            .is_some_and(|remaining| remaining.is_zero())
    }

    /// Tells the batch and empties it. If the reader is behind, the batch grows on instead.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(super) fn send(&mut self, batches: &Sender<Vec<PathBuf>>) -> Result<(), ()> {
        match batches.try_reserve() {
            Ok(slot) => {
                let Batch {
                    paths, everything, ..
                } = std::mem::take(self);
                slot.send(if everything {
                    Vec::new()
                } else {
                    paths.into_iter().collect()
                });
                Ok(())
            }
            Err(TrySendError::Full(())) => {
                let now = clock::now();
                self.span = Some((now, now));
                Ok(())
            }
            Err(TrySendError::Closed(())) => Err(()),
        }
    }
}
