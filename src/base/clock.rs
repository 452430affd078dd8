//! The only place that asks the time.
//!
//! Everything else receives instants, so that tests can drive time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic instant, for measuring.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the Unix epoch, for showing. Zero if the system clock is before 1970.
pub fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
