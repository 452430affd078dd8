//! Connections that carry no requests any more: WebSockets and other streams of bytes.
//!
//! They end when a side wants it, which may be never. A process that is about to end therefore
//! [releases](Tunnels::release) them itself, some at a time, so that their clients do not all
//! connect again in the same moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use thiserror::Error;

/// The tunnels of all listeners, by the number of their connection: the oldest comes first.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    open: Mutex<BTreeMap<u64, Arc<Tunnel>>>,
}

/// What reading from a client gives once its tunnel is released.
#[derive(Clone, Copy, Debug, Error)]
#[error("the process ends and releases its tunnels")]
pub struct Released;

/// Whether a tunnel shall end, and whom to tell.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    released: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Tunnels {
    pub fn begin(&self, connection: u64) -> Arc<Tunnel> {
        self.lock().entry(connection).or_default().clone()
    }

    pub fn end(&self, connection: u64) {
        self.lock().remove(&connection);
    }

    /// How many have neither ended nor been released.
    pub fn open(&self) -> usize {
        self.lock().len()
    }

    /// Tells the oldest to end.
    pub fn release(&self, count: usize) {
        for _ in 0..count {
            let Some((_, tunnel)) = self.lock().pop_first() else {
                return;
            };
            tunnel.release();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Tunnel>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tunnel {
    fn release(&self) {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        self.released.store(true, Ordering::Release);
        if let Some(reader) = reader.take() {
            reader.wake();
        }
    }

    /// Ready once the tunnel shall end. Whoever polls last is woken.
    pub fn poll_released(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if self.released.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        match &mut *reader {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tunnels_are_released_first_and_what_ended_is_not_counted() {
        let tunnels = Tunnels::default();
        let all: Vec<_> = (0..4).map(|id| tunnels.begin(id)).collect();
        tunnels.end(0);
        assert_eq!(tunnels.open(), 3);
        tunnels.release(2);
        let mut cx = Context::from_waker(Waker::noop());
        let released = all
            .iter()
            .map(|tunnel| tunnel.poll_released(&mut cx).is_ready());
        assert_eq!(released.collect::<Vec<_>>(), [false, true, true, false]);
        assert_eq!(tunnels.open(), 1);
        tunnels.release(5);
        assert_eq!(tunnels.open(), 0);
    }
}
