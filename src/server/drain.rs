//! How a process ends without losing a request.
//!
//! Requests under way finish; HTTP/1 is told `Connection: close` with its next answer, HTTP/2 gets
//! GOAWAY. WebSockets and streams would never end by themselves: they are released evenly over a
//! window, so that their clients do not all connect again at once. So are answers without a length
//! that have been open for long (gRPC streams, server-sent events); younger ones may still end.

use std::time::Duration;

use log::{info, warn};

use super::life::Life;
use super::notify;
use crate::base::clock;

/// For so long there must be no connection: one that was accepted right before its port closed is
/// only counted once its task has run.
const SETTLED: Duration = Duration::from_millis(200);
/// How often the drain looks whether connections are left.
const LOOK: Duration = Duration::from_millis(20);
/// How often it says how far it is.
const SAY: Duration = Duration::from_secs(5);

/// `gateway.drain` of the settings.
#[derive(Clone, Copy, Debug)]
pub struct DrainTimes {
    /// Between failing readiness and closing the listeners.
    pub delay: Duration,
    /// For releasing WebSockets and streams.
    pub window: Duration,
    /// How long an answer without a length has been open for it to be released in the window.
    pub stream_age: Duration,
    /// For everything that is in flight.
    pub deadline: Duration,
}

impl Life {
    /// Fails readiness, keeps accepting for the delay, closes the listeners, and waits for what is
    /// in flight. With a successor there is nothing to wait for before closing.
    pub(super) async fn drain(&self, times: DrainTimes, has_successor: bool) {
        self.ready.drain();
        if !has_successor {
            notify::stopping();
            info!(
                "stopping: not ready any more, still accepting for {:?}",
                times.delay
            );
            tokio::time::sleep(times.delay).await;
        }
        let Some(listeners) = self.listeners.get() else {
            return;
        };
        listeners.close_all().await;
        let started = clock::now();
        listeners.gather_answers(times.stream_age);
        let tunnels = listeners.tunnels();
        let mut said = Duration::ZERO;
        let mut empty_since = None;
        loop {
            let passed = started.elapsed();
            let (connections, open) = (listeners.connections(), listeners.tunnels());
            self.ready.note_left(connections, open);
            let since = match connections {
                0 => *empty_since.get_or_insert(passed),
                _ => {
                    empty_since = None;
                    passed
                }
            };
            if connections == 0 && (passed - since >= SETTLED || passed >= times.deadline) {
                info!("every connection has ended");
                return;
            }
            if connections > 0 && passed >= times.deadline {
                warn!(
                    "{connections} connections are still open after {:?}; closing them",
                    times.deadline
                );
                return;
            }
            if connections > 0 && passed >= said {
                info!("draining: {connections} connections open, {open} of them streams");
                said = passed + SAY;
            }
            listeners.release_tunnels(open.saturating_sub(left(tunnels, passed, times.window)));
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How many of the tunnels that were open at first may be open still.
fn left(tunnels: usize, passed: Duration, window: Duration) -> usize {
    if passed >= window {
        return 0;
    }
    let share = 1.0 - passed.as_secs_f64() / window.as_secs_f64();
    // Rounded up: the last goes when the window is over.
    (tunnels as f64 * share).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_are_released_evenly_over_the_window() {
        let window = Duration::from_secs(10);
        let after = |millis| left(500, Duration::from_millis(millis), window);
        assert_eq!(
            [0, 20, 2_500, 5_000, 9_999, 10_000].map(after),
            [500, 499, 375, 250, 1, 0]
        );
        assert_eq!(left(3, Duration::ZERO, Duration::ZERO), 0);
        assert_eq!(left(0, Duration::ZERO, window), 0);
    }
}
