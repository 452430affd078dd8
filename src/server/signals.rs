//! When the process ends: by a signal, because a successor has taken over, or because it could not
//! take over itself.
//!
//! Pingora asks once for a shutdown signal and then sleeps its whole grace period; that period is
//! 0 here and the draining happens inside the question, so that the process ends as soon as
//! nothing is in flight.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use log::{info, warn};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::observe::Observe;

use super::drain::DrainTimes;
use super::handover::upgrade_in_background;
use super::life::{Life, Stage};

/// Watches SIGTERM, SIGQUIT, SIGINT and SIGUSR1, and the stages of the process.
pub struct Signals {
    pub life: Arc<Life>,
    pub observe: Arc<Observe>,
    pub times: DrainTimes,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signal = tokio::select! {
            signal = self.ended() => signal,
            never = self.reopen_logs() => match never {},
        };
        self.life.end().await;
        signal
    }
}

impl Signals {
    /// SIGUSR1 says that log files were renamed, as nginx takes it.
    async fn reopen_logs(&self) -> Infallible {
        let mut rotated = Watch::on(SignalKind::user_defined1());
        loop {
            rotated.recv().await;
            self.observe.reopen_log();
        }
    }

    async fn ended(&self) -> ShutdownSignal {
        let mut terminate = Watch::on(SignalKind::terminate());
        let mut quit = Watch::on(SignalKind::quit());
        let mut interrupt = Watch::on(SignalKind::interrupt());
        let mut stages = self.life.stages();
        let has_successor = loop {
            tokio::select! {
                () = interrupt.recv() => return ShutdownSignal::FastShutdown,
                () = terminate.recv() => break false,
                () = quit.recv() => upgrade_in_background(self.life.folder.clone()),
                stage = stages.wait_for(|stage| *stage > Stage::Serving) => {
                    // An error is impossible: `self` holds the sender.
                    match stage.as_deref() {
                        Ok(Stage::GivenUp(_)) => return ShutdownSignal::FastShutdown,
                        _ => break true,
                    }
                }
            }
        };
        tokio::select! {
            () = interrupt.recv() => {
                info!("interrupted while draining; ending at once");
                ShutdownSignal::FastShutdown
            }
            () = self.life.drain(self.times, has_successor) => ShutdownSignal::GracefulTerminate,
        }
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
