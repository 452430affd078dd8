//! How long an HTTP/2 connection has had no stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::base::clock;

/// Waits for a connection to be idle for too long. Its timer is only looked at again when it goes
/// off, so that streams cost none.
pub(super) struct Vigil {
    limit: Duration,
    activity: Arc<Activity>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Streams at work, and when the last one ended.
struct Activity {
    streams: AtomicUsize,
    began: Instant,
    /// Microseconds after `began`.
    ended: AtomicU64,
}

/// A stream at work, for as long as this is kept.
pub(super) struct AtWork(Arc<Activity>);

impl Vigil {
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            activity: Arc::new(Activity {
                streams: AtomicUsize::new(0),
                began: clock::now(),
                ended: AtomicU64::new(0),
            }),
            timer: None,
        }
    }

    /// A stream begins.
    pub fn stream(&self) -> AtWork {
        self.activity.streams.fetch_add(1, Ordering::Relaxed);
        AtWork(self.activity.clone())
    }

    /// From now on, it may be idle for so long.
    pub fn shorten(&mut self, limit: Duration) {
        self.limit = limit;
        self.activity.note_end();
        self.timer = None;
    }

    /// Ends when the connection has been idle for as long as it may.
    pub async fn over(&mut self) {
        loop {
            let Some(until) = self.until() else {
                return std::future::pending().await;
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
            timer.as_mut().await;
            // It may have been set before the last stream, or with one at work.
            match self.until() {
                Some(until) if clock::now() < until => self.timer = None,
                _ => return,
            }
        }
    }

    /// When it will have been idle for too long; `None` if that is no time.
    fn until(&self) -> Option<Instant> {
        let since = self.activity.idle_since();
        since.unwrap_or_else(clock::now).checked_add(self.limit)
    }
}

impl Activity {
    /// `None` while a stream is at work.
    fn idle_since(&self) -> Option<Instant> {
        if self.streams.load(Ordering::Acquire) > 0 {
            return None;
        }
        let ended = Duration::from_micros(self.ended.load(Ordering::Relaxed));
        self.began.checked_add(ended)
    }

    fn note_end(&self) {
        let ended = clock::now().saturating_duration_since(self.began);
        let ended = u64::try_from(ended.as_micros()).unwrap_or(u64::MAX);
        self.ended.store(ended, Ordering::Relaxed);
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.note_end();
        self.0.streams.fetch_sub(1, Ordering::Release);
    }
}
