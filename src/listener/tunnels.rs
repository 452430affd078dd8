//! What ends only when a side wants it: WebSockets and other streams of bytes, and answers to
//! requests that say no length (gRPC streams, server-sent events).
//!
//! That may be never. A process that is about to end therefore [releases](Tunnels::release) them
//! itself, some at a time, so that their clients do not all come again in the same moment. Of the
//! answers, most end soon: only those that are old by then are [gathered](Tunnels::gather).

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::base::clock;

/// Shards of the answers, so that requests of different threads seldom meet at one lock.
const SHARDS: usize = 16;

/// The tunnels and open answers of all listeners.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    /// By the number of their connection: the oldest comes first.
    open: Mutex<Open>,
    /// Answers, numbered in the order they began. A table keeps its room, so that an answer seldom
    /// allocates here.
    answers: [Mutex<Answers>; SHARDS],
    /// How many answers have begun.
    begun: AtomicU64,
    /// Answers that are released like tunnels.
    gathered: Mutex<Open>,
}

type Open = BTreeMap<u64, Arc<Tunnel>>;
type Answers = HashMap<u64, Answer, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Answer {
    since: Instant,
    tunnel: Arc<Tunnel>,
}

/// An answer that says no length, for as long as it is open.
#[derive(Debug)]
pub struct Streaming {
    all: Arc<Tunnels>,
    number: u64,
    tunnel: Arc<Tunnel>,
}

/// What reading from a client gives once its tunnel is released.
#[derive(Clone, Copy, Debug, Error)]
#[error("the process ends and releases its tunnels")]
pub struct Released;

impl Streaming {
    /// Waits until it shall end because the process does. Whoever waits last is told.
    pub async fn released(&self) {
        poll_fn(|cx| self.tunnel.poll_released(cx)).await;
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.all.end_answer(self.number);
    }
}

/// Whether a tunnel shall end, and whom to tell.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    released: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Tunnels {
    pub fn begin(&self, connection: u64, tunnel: Arc<Tunnel>) {
        lock(&self.open).insert(connection, tunnel);
    }

    pub fn end(&self, connection: u64) {
        lock(&self.open).remove(&connection);
    }

    /// An answer without a length begins.
    pub fn begin_answer(self: &Arc<Self>, tunnel: Arc<Tunnel>) -> Streaming {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if let Some(shard) = self.shard(number) {
            let answer = Answer {
                since: clock::now(),
                tunnel: tunnel.clone(),
            };
            lock(shard).insert(number, answer);
        }
        Streaming {
            all: self.clone(),
            number,
            tunnel,
        }
    }

    fn end_answer(&self, number: u64) {
        let shard = self.shard(number);
        if shard.is_some_and(|shard| lock(shard).remove(&number).is_none()) {
            lock(&self.gathered).remove(&number);
        }
    }

    fn shard(&self, number: u64) -> Option<&Mutex<Answers>> {
        self.answers.get(number as usize % SHARDS)
    }

    /// From now on, answers that have been open for so long count among the tunnels.
    pub fn gather(&self, age: Duration) {
        let now = clock::now();
        for shard in &self.answers {
            let mut shard = lock(shard);
            let mut gathered = lock(&self.gathered);
            shard.retain(|number, answer| {
                let is_old = now.saturating_duration_since(answer.since) >= age;
                if is_old {
                    gathered.insert(*number, answer.tunnel.clone());
                }
                !is_old
            });
        }
    }

    /// How many have neither ended nor been released.
    pub fn open(&self) -> usize {
        lock(&self.open).len() + lock(&self.gathered).len()
    }

    /// Tells the oldest to end, of either sort by turns.
    pub fn release(&self, count: usize) {
        for _ in 0..count {
            let (mut open, mut gathered) = (lock(&self.open), lock(&self.gathered));
            let next = match open.len() >= gathered.len() {
                true => open.pop_first(),
                false => gathered.pop_first(),
            };
            drop((open, gathered));
            let Some((_, tunnel)) = next else { return };
            tunnel.release();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let all: Vec<Arc<Tunnel>> = (0..4).map(|_| Arc::default()).collect();
        for (id, tunnel) in (0..).zip(&all) {
            tunnels.begin(id, tunnel.clone());
        }
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

    #[test]
    fn answers_count_once_they_are_gathered_and_until_they_end() {
        let tunnels = Arc::new(Tunnels::default());
        let begin = || tunnels.begin_answer(Arc::default());
        let (first, second, third) = (begin(), begin(), begin());
        assert_eq!(tunnels.open(), 0);
        tunnels.gather(Duration::from_secs(3600));
        assert_eq!(tunnels.open(), 0, "they are young");
        tunnels.gather(Duration::ZERO);
        let young = begin();
        assert_eq!(tunnels.open(), 3);
        drop(second);
        assert_eq!(tunnels.open(), 2);
        tunnels.release(1);
        let mut cx = Context::from_waker(Waker::noop());
        let mut is_released = |it: &Streaming| it.tunnel.poll_released(&mut cx).is_ready();
        assert!(is_released(&first) && !is_released(&third) && !is_released(&young));
        tunnels.release(5);
        assert!(is_released(&third) && !is_released(&young));
    }
}
