//! Warm-up (Envoy's slow start): what part of its weight a new endpoint has.
//!
//! The weights are worked out when a snapshot is built, and while an endpoint warms up the
//! snapshot is built again in steps. A pick therefore does not know of any of this, and the
//! shares are exact for every policy; drawing an endpoint and turning it down by chance would
//! give its turns in a round robin to its neighbour.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::plan::balance::WarmUp;

use super::ClusterState;

/// How often a snapshot is built while something warms up, if the duration allows it.
const STEPS: u32 = 100;
const SHORTEST_STEP: Duration = Duration::from_millis(100);
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// The part of its weight that an endpoint of this age has: above 0, at most 1.
///
/// Envoy's `max(minimum, (age / duration) ^ (1 / aggression))`.
pub(super) fn factor(warm_up: &WarmUp, age: Duration) -> f64 {
    if age >= warm_up.duration {
        return 1.0;
    }
    let age = age.max(Duration::from_millis(1));
    let time = age.as_secs_f64() / warm_up.duration.as_secs_f64();
    time.powf(1.0 / warm_up.aggression.0)
        .max(warm_up.minimum_percent.0 / 100.0)
        .clamp(f64::MIN_POSITIVE, 1.0)
}

/// Whether an endpoint known since `created` has less than its weight.
pub(super) fn is_cold(warm_up: &WarmUp, created: Instant, now: Instant) -> bool {
    now.saturating_duration_since(created) < warm_up.duration
}

/// Builds the snapshots of a cluster again for as long as one of its endpoints warms up.
pub(super) fn drive(state: &Arc<ClusterState>, runtime: &Handle) {
    if state.begin_warming().is_none() {
        return;
    }
    let state = Arc::downgrade(state);
    runtime.spawn(async move {
        while let Some(step) = step(&state) {
            tokio::time::sleep(step).await;
            let Some(state) = state.upgrade() else { return };
            state.rebuild();
        }
    });
}

/// How long until the next build, or `None` once all are warm.
fn step(state: &Weak<ClusterState>) -> Option<Duration> {
    let state = state.upgrade()?;
    let warm_up = match state.warming() {
        Some(warm_up) => warm_up,
        // Somebody may have begun to warm up since; then this task goes on for it.
        None => {
            state.end_warming();
            state.begin_warming()?
        }
    };
    Some((warm_up.duration / STEPS).clamp(SHORTEST_STEP, LONGEST_STEP))
}

#[cfg(test)]
mod tests {
    use crate::plan::balance::Number;

    use super::*;

    fn warm_up(minimum: f64, aggression: f64) -> WarmUp {
        WarmUp {
            duration: Duration::from_secs(60),
            minimum_percent: Number(minimum),
            aggression: Number(aggression),
        }
    }

    fn at(warm_up: &WarmUp, seconds: u64) -> f64 {
        factor(warm_up, Duration::from_secs(seconds))
    }

    #[test]
    fn a_straight_warm_up_starts_at_the_minimum_and_grows_with_time() {
        let straight = warm_up(10.0, 1.0);
        assert_eq!(at(&straight, 0), 0.1);
        assert_eq!(at(&straight, 3), 0.1);
        assert_eq!(at(&straight, 15), 0.25);
        assert_eq!(at(&straight, 30), 0.5);
        assert_eq!(at(&straight, 60), 1.0);
        assert_eq!(at(&straight, 6000), 1.0);
    }

    #[test]
    fn aggression_bends_the_line_upwards() {
        assert_eq!(at(&warm_up(0.0, 2.0), 15), 0.5);
        assert!(at(&warm_up(0.0, 0.5), 15) < 0.07);
        assert!(at(&warm_up(0.0, 0.001), 1) > 0.0, "never nothing");
    }
}
