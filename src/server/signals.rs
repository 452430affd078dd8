//! When the process ends, and how requests in flight are let finish.
//!
//! Pingora asks once for a shutdown signal and then sleeps its whole grace period; that period is
//! 0 here and the draining happens inside the question, so that the process ends as soon as
//! nothing is in flight (pingora.md section 6).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{info, warn};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::base::clock;

use super::life::Life;

/// How often the drain looks whether connections are left.
const LOOK: Duration = Duration::from_millis(20);

/// Watches SIGTERM, SIGQUIT and SIGINT.
pub struct Signals {
    pub life: Arc<Life>,
    pub delay: Duration,
    pub deadline: Duration,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut terminate = Watch::on(SignalKind::terminate());
        let mut quit = Watch::on(SignalKind::quit());
        let mut interrupt = Watch::on(SignalKind::interrupt());
        tokio::select! {
            () = interrupt.recv() => return ShutdownSignal::FastShutdown,
            () = terminate.recv() => {}
            () = quit.recv() => {}
        }
        tokio::select! {
            () = interrupt.recv() => {
                info!("interrupted while draining; ending at once");
                ShutdownSignal::FastShutdown
            }
            () = self.drain() => ShutdownSignal::GracefulTerminate,
        }
    }
}

impl Signals {
    /// Fails readiness, keeps accepting for the delay, closes the listeners, and waits for what is
    /// in flight.
    async fn drain(&self) {
        self.life.ready.drain();
        info!(
            "stopping: not ready any more, still accepting for {:?}",
            self.delay
        );
        tokio::time::sleep(self.delay).await;
        let Some(listeners) = self.life.listeners.get() else {
            return;
        };
        listeners.close_all().await;
        let started = clock::now();
        while listeners.connections() > 0 {
            if started.elapsed() >= self.deadline {
                warn!(
                    "{} connections are still open after {:?}; closing them",
                    listeners.connections(),
                    self.deadline
                );
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        info!("every connection has ended");
    }
}

/// A signal that may not be watchable; then it never comes.
struct Watch(Option<Signal>);

impl Watch {
    fn on(kind: SignalKind) -> Self {
        Self(
            signal(kind)
                .inspect_err(|error| warn!("cannot watch a signal: {error}"))
                .ok(),
        )
    }

    async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}
