//! The life of one probed target: probe, judge, sleep.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::{info, warn};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, sleep_until};

use crate::base::clock;
use crate::plan::Probe;

use super::check::Check;
use super::{Event, Failure, Target, Totals};

/// What a target's task works with.
pub(super) struct Run {
    pub target: Target,
    pub check: Arc<Check>,
    pub failure: Arc<Failure>,
    pub permits: Arc<Semaphore>,
    pub totals: Arc<Totals>,
    pub events: UnboundedSender<Event>,
}

/// Counts results until they decide.
#[derive(Debug, Default)]
struct Verdict {
    /// Out of traffic; `None` before the first result.
    failing: Option<bool>,
    /// Results in a row that speak against it.
    against: u32,
}

impl Run {
    /// Probes until it is ended from outside.
    pub(super) async fn for_ever(self) {
        let probe = self.target.probe.clone();
        // Thousands of endpoints that come together are probed spread over the interval.
        sleep(probe.interval.mul_f64(fastrand::f64())).await;
        let mut verdict = Verdict::default();
        let mut due = Instant::from_std(clock::now());
        loop {
            let result = {
                // Never closed.
                let _permit = self.permits.acquire().await;
                self.check.run(self.target.addr).await
            };
            self.judge(&mut verdict, result);
            // Late ones are not made up for.
            let pause = probe.interval + probe.jitter.mul_f64(fastrand::f64());
            due = (due + pause).max(Instant::from_std(clock::now()));
            sleep_until(due).await;
        }
    }

    fn judge(&self, verdict: &mut Verdict, result: Result<(), String>) {
        let total = match &result {
            Ok(()) => &self.totals.passed,
            Err(_) => &self.totals.failed,
        };
        total.fetch_add(1, Ordering::Relaxed);
        let Target { addr, probe } = &self.target;
        let turned = verdict.note(result.is_ok(), probe);
        match (turned, result) {
            (Some(false), _) => {
                info!("health check: {addr} passes its probe again ({probe})");
                self.failure.store(None);
            }
            (Some(true), Err(reason)) => {
                warn!("health check: {addr} fails its probe: {reason} ({probe})");
                self.failure.store(Some(Arc::new(reason)));
            }
            _ => return,
        }
        // An error means that the process ends.
        let _ = self.events.send(Event::Probed(self.target.clone()));
    }
}

impl Verdict {
    /// Takes a result; says whether the target is failing now, if that has changed.
    fn note(&mut self, passed: bool, probe: &Probe) -> Option<bool> {
        let Some(failing) = self.failing else {
            self.failing = Some(!passed);
            return (!passed).then_some(true);
        };
        if passed != failing {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let threshold = match failing {
            true => probe.healthy_threshold,
            false => probe.unhealthy_threshold,
        };
        if self.against < threshold {
            return None;
        }
        *self = Self {
            failing: Some(!failing),
            against: 0,
        };
        self.failing
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::ProbeKind;

    /// What each result in a row changes; `+` is a passed one.
    fn verdicts(results: &str) -> Vec<Option<bool>> {
        let probe = Probe {
            kind: ProbeKind::Tcp { port: None },
            tls: None,
            interval: Duration::from_secs(1),
            jitter: Duration::ZERO,
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        };
        let mut verdict = Verdict::default();
        let results = results.chars().map(|result| result == '+');
        results.map(|passed| verdict.note(passed, &probe)).collect()
    }

    #[test]
    fn the_first_result_decides_at_once() {
        assert_eq!(verdicts("-"), [Some(true)]);
        assert_eq!(verdicts("+--"), [None, None, None]);
    }

    #[test]
    fn results_in_a_row_turn_the_verdict_and_others_begin_anew() {
        assert_eq!(
            verdicts("+--+---"),
            [None, None, None, None, None, None, Some(true)]
        );
        assert_eq!(
            verdicts("-+-++-"),
            [Some(true), None, None, None, Some(false), None]
        );
    }
}
